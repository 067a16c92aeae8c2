"""Replicas to be replayed side by side, each under requests of one size: a handful of numbers per lane. `sweep` is the
replay."""

from dataclasses import dataclass, field, fields

import numpy as np
from numpy.typing import NDArray

from motley_solver.policy.batching import HALF_BLOCK

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Lanes:
    """One number per lane in each array. Step time as in StepTime, limits as in Limits, sizes as in Request."""

    base: Floats
    per_prefill_token: Floats
    per_prefill_token_context: Floats
    per_decode_sequence: Floats
    per_context_token: Floats
    weights: Floats
    per_token: Floats
    batched_tokens: Floats
    sequences: Floats
    kv_tokens: Floats
    input_tokens: Floats
    output_tokens: Floats
    cached_tokens: Floats
    gap: Floats  # mean seconds between arrivals
    ttft: Floats  # target, seconds
    tpot: Floats  # target, seconds
    start: Floats  # the request with which it begins: those before it never come
    allowed: Floats  # how many of those that count may miss a target
    tokens: Floats = field(init=False)  # of a prompt, to compute
    reach: Floats = field(init=False)  # tokens that these attend to, all together
    held: Floats = field(init=False)  # KV tokens of a prompt
    fit: Floats = field(init=False)  # that must be free for it: an idle engine takes any
    begun: Floats = field(init=False)  # tokens that its first decode reads
    whole: Floats = field(init=False)  # tokens of a request in the end
    between: Floats = field(init=False)  # seconds from first to last token, target

    def __post_init__(self) -> None:
        derived = self.__dict__  # a frozen dataclass
        derived["tokens"] = self.input_tokens - self.cached_tokens
        derived["reach"] = self.tokens * (self.cached_tokens + self.tokens / 2)
        derived["held"] = self.input_tokens + HALF_BLOCK
        derived["fit"] = np.minimum(self.held, self.kv_tokens)
        derived["begun"] = self.input_tokens + 1
        derived["whole"] = self.input_tokens + self.output_tokens
        derived["between"] = self.tpot * (self.output_tokens - 1)

    def __len__(self) -> int:
        return len(self.base)

    def __getitem__(self, chosen: Ints) -> "Lanes":
        return Lanes(*(getattr(self, one.name)[chosen] for one in fields(self) if one.init))

    def __add__(self, other: "Lanes") -> "Lanes":
        pairs = ((getattr(self, one.name), getattr(other, one.name)) for one in fields(self) if one.init)
        return Lanes(*map(np.concatenate, pairs))
