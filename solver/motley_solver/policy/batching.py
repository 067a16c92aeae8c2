"""What one iteration of an engine carries: vLLM's V1 scheduler (v1/core/sched/scheduler.py) with its defaults, first
come first served. Pure rules over counts of tokens; they know no time, no request and no GPU."""

from collections.abc import Iterable
from dataclasses import dataclass

HALF_BLOCK = 8
"""KV memory is given out in blocks of 16 tokens: in the mean a sequence holds half a block that it does not use."""


@dataclass(frozen=True)
class Limits:
    """--max-num-batched-tokens, --max-num-seqs, and the tokens that the KV cache holds."""

    batched_tokens: int
    sequences: int
    kv_tokens: int


def preemptions(limits: Limits, held: int, decodes: int, latest_first: Iterable[int]) -> int:
    """How many running sequences lose their KV cache, the latest admitted first, until all others have room for what
    this iteration writes.

    `held`: KV tokens of all running sequences with what this iteration writes; `latest_first`: what each of them holds.
    The first one admitted always stays."""
    count = 0
    for room in latest_first:
        if held <= limits.kv_tokens or decodes <= 1:
            break
        held, decodes, count = held - room, decodes - 1, count + 1
    return count


def admitted(limits: Limits, left: int, running: int, free_kv: int, waiting: Iterable[tuple[int, int]]) -> list[int]:
    """Tokens that this iteration computes of each prompt taken from the head of the queue.

    `left`: of the token budget, after one token for each decode and a chunk of the prompt in progress; `waiting`: (KV
    tokens, tokens to compute) of each. A prompt is admitted only when the cache has room for all of it, and nothing
    overtakes it; only the last one may be computed in part."""
    chunks: list[int] = []
    for room, tokens in waiting:
        if left <= 0 or running >= limits.sequences or (running and room > free_kv):
            break
        chunks.append(min(tokens, left))
        left, running, free_kv = left - chunks[-1], running + 1, free_kv - room
    return chunks
