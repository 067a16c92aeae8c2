"""One replica under vLLM's scheduler over a sequence of requests: the readable definition. `sweep` does the same for
many replicas at once and is held equal to it by tests. It knows no SLO, no price and no other replica."""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from math import ceil, inf, nan, sqrt

from motley_solver.policy.batching import HALF_BLOCK, Limits, admitted, preemptions
from motley_solver.steptime import StepTime


@dataclass(frozen=True)
class Request:
    """`cached_tokens` of the prompt are in the KV cache already and are not computed, but occupy it and are read.

    A decode replica gets the KV cache of the whole prompt with the request: cached_tokens = input_tokens − 1, for the
    last token is what gives the first output. A prefill replica is asked for one output token; that it keeps the KV
    cache until it is transferred is left out."""

    arrival: float  # seconds
    input_tokens: int
    output_tokens: int
    cached_tokens: int = 0


@dataclass(frozen=True)
class Served:
    number: int  # counts the requests that its replica admitted, from 0
    request: Request
    first: float  # when the first token is there, seconds
    finish: float
    preemptions: int = 0

    @property
    def ttft(self) -> float:
        return self.first - self.request.arrival

    @property
    def tpot(self) -> float:
        """Mean seconds between tokens; 0 of a single one."""
        between = self.request.output_tokens - 1
        return (self.finish - self.first) / between if between else 0.0


@dataclass(eq=False)
class _Sequence:
    number: int
    request: Request
    computed: int  # tokens of the prompt, or after a preemption of all that has to be computed again
    born: int = 0  # iteration − generated tokens, while it decodes
    generated: int = 0  # until it was last preempted
    first: float = nan
    preemptions: int = 0

    @property
    def tokens(self) -> int:
        """What has to be in the KV cache before the next token can come."""
        return self.request.input_tokens + self.generated

    @property
    def last(self) -> int:
        """The iteration of its last token."""
        return self.born + self.request.output_tokens


@dataclass
class Replica:
    """An engine at `clock` seconds. Iterations in which nothing changes are one leap: with the same sequences in the
    batch each takes a constant longer than the one before."""

    step_time: StepTime
    limits: Limits
    clock: float = 0.0
    _admitted: int = 0
    _iteration: int = 0
    _decoding: list[_Sequence] = field(default_factory=list)  # in order of admission
    _prompt: _Sequence | None = None  # admitted last and computed in part
    _waiting: deque[_Sequence] = field(default_factory=deque)
    _context: int = 0  # tokens that the decodes of the next iteration read

    @property
    def outstanding(self) -> int:
        """Requests that are not answered in full."""
        return len(self._decoding) + (self._prompt is not None) + len(self._waiting)

    def admit(self, request: Request) -> None:
        """Requests come in order of arrival, after `advance` to that time."""
        if not self.outstanding:
            self.clock = max(self.clock, request.arrival)
        self._waiting.append(_Sequence(self._admitted, request, request.cached_tokens))
        self._admitted += 1

    def advance(self, until: float = inf) -> list[Served]:
        """Do all iterations that begin before `until`, and give the requests that end with them."""
        served: list[Served] = []
        while self.clock < until and self.outstanding:
            served += self._leap(until)
        return served

    def _leap(self, until: float) -> list[Served]:
        full = self._preempt()
        chunks = self._chunks(admit=not full)
        decodes = len(self._decoding)
        prefill = sum(tokens for _, tokens in chunks)
        reach = sum(tokens * (one.computed + tokens / 2) for one, tokens in chunks)
        seconds = self.step_time.seconds(prefill, reach / prefill if prefill else 0.0, decodes, self._context)
        longer = (
            self.step_time.per_prefill_token_context * prefill * prefill + self.step_time.per_context_token * decodes
        )
        ended = [one for one, tokens in chunks if one.computed + tokens == one.tokens]
        steps = 1
        if not (full or ended):
            steps = int(min(self._unchanged(chunks), steps_within(until - self.clock, seconds, longer)))
        self.clock += steps * seconds + longer * steps * (steps - 1) / 2
        self._iteration += steps
        self._context += steps * decodes
        for one, tokens in chunks:
            one.computed += steps * tokens
        self._prompt = next((one for one, _ in chunks if one.computed < one.tokens), None)
        for one in ended:
            self._begin(one)
        return self._end()

    def _held(self) -> int:
        """KV tokens with what the next iteration writes; a prompt takes all its room when it is admitted."""
        prompt = self._prompt.tokens + HALF_BLOCK if self._prompt else 0
        return self._context + HALF_BLOCK * len(self._decoding) + prompt

    def _preempt(self) -> bool:
        running = self._decoding + ([self._prompt] if self._prompt else [])
        rooms = (self._written(one) + HALF_BLOCK for one in reversed(running))
        count = preemptions(self.limits, self._held(), len(running), rooms)
        for one in reversed(running[len(running) - count :]):
            if one is self._prompt:
                self._prompt = None
            else:
                self._decoding.pop()
                self._context -= self._written(one)
                one.generated = self._iteration - one.born
            one.computed = 0  # what was cached of it is thought evicted: the cache is full
            one.preemptions += 1
            self._waiting.appendleft(one)
        return count > 0

    def _written(self, one: _Sequence) -> int:
        """Tokens of one running sequence in the KV cache, with what the next iteration writes."""
        return one.tokens if one is self._prompt else one.request.input_tokens + self._iteration - one.born

    def _chunks(self, admit: bool) -> list[tuple[_Sequence, int]]:
        """Prompts of this iteration, with how many tokens of each."""
        left = self.limits.batched_tokens - len(self._decoding)
        chunks = []
        if self._prompt:
            chunks.append((self._prompt, min(self._prompt.tokens - self._prompt.computed, left)))
            left -= chunks[0][1]
        if admit:
            waiting = ((one.tokens + HALF_BLOCK, one.tokens - one.computed) for one in self._waiting)
            running = len(self._decoding) + len(chunks)
            free_kv = self.limits.kv_tokens - self._held()
            for tokens in admitted(self.limits, left, running, free_kv, waiting):
                chunks.append((self._waiting.popleft(), tokens))
        return chunks

    def _unchanged(self, chunks: list[tuple[_Sequence, int]]) -> float:
        """Iterations until a sequence ends, a prompt's last chunk or the KV cache is full. The queue does not matter:
        what was not admitted now has to wait for one of these."""
        decodes, steps = len(self._decoding), inf
        if len(chunks) > 1:
            return 1
        if chunks:
            one, tokens = chunks[0]
            if one is not self._prompt:
                return 1
            steps = ceil((one.tokens - one.computed) / tokens) - 1
        if decodes:
            steps = min(steps, min(one.last for one in self._decoding) - self._iteration)
        if decodes and decodes + len(chunks) > 1:
            steps = min(steps, (self.limits.kv_tokens - self._held()) // decodes + 1)
        return steps

    def _begin(self, one: _Sequence) -> None:
        """Its prompt is computed: the same iteration gives a token."""
        one.born = self._iteration - one.generated - 1
        if not one.generated:
            one.first = self.clock
        self._decoding.append(one)
        self._context += one.tokens + 1

    def _end(self) -> list[Served]:
        ended = [one for one in self._decoding if one.last <= self._iteration]
        if ended:
            self._decoding = [one for one in self._decoding if one.last > self._iteration]
            self._context -= sum(one.request.input_tokens + one.request.output_tokens for one in ended)
        return [Served(one.number, one.request, one.first, self.clock, one.preemptions) for one in ended]


def steps_within(seconds: float, first: float, longer: float) -> float:
    """The fewest iterations that take at least so long, the first taking `first` and each one `longer` more."""
    half = first - longer / 2
    return ceil(2 * seconds / (half + sqrt(half * half + 2 * longer * seconds))) if seconds < inf else inf


def replayed(step_time: StepTime, limits: Limits, requests: Iterable[Request]) -> list[Served]:
    """All requests (in order of arrival) on one replica, in that order. A request larger than the limits allow must
    not be among them: it would wait for ever."""
    replica, served = Replica(step_time, limits), list[Served]()
    for request in requests:
        served += replica.advance(request.arrival)
        replica.admit(request)
    return sorted(served + replica.advance(), key=lambda one: one.number)
