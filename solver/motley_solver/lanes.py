"""The replay of many replicas at once, each under requests of one size: `replay.Replica` in lockstep, event by event.

Equal requests end in the order in which they came. So those that run are an interval of their numbers, and those whose
prompts ended with the same iteration (a group) share all that is to be known of them: a lane is a handful of numbers
and a few arrays over its groups. It counts requests that miss a target and knows nothing of capacities or prices."""

from dataclasses import dataclass, field, fields

import numpy as np
from numpy.typing import NDArray

from motley_solver.policy.batching import HALF_BLOCK

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

Bools = NDArray[np.bool_]

NEVER = 1e30
COMPACT = 16  # rounds until lanes that ended are taken out


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

    def __len__(self) -> int:
        return len(self.base)

    def __getitem__(self, chosen: Ints) -> "Lanes":
        return Lanes(*(getattr(self, one.name)[chosen] for one in fields(self)))


@dataclass(frozen=True)
class Resumed:
    """Preempted requests that an iteration takes on again, one of each lane in `rows`."""

    rows: Ints
    number: Ints
    tokens: Floats  # that have to be computed
    rest: Floats  # of them after this iteration
    entered: bool = True  # from the queue, by this iteration


@dataclass
class Batch:
    """What the next iteration of each lane carries, while it is put together: what is left of budget, seats and KV
    cache, who waits, and the prompts."""

    left: Floats
    seats: Floats
    room: Floats
    waiting: Floats
    idle: Bools  # nothing runs
    chunk: Floats  # of the prompt in progress
    going: Bools  # it will not be completed
    ended: Bools  # it will
    prefill: Floats  # tokens of all prompts
    reach: Floats  # tokens that these attend to, all together
    resumed: list[Resumed] = field(default_factory=list)
    whole: Floats = field(init=False)  # new prompts that are completed at once
    extra: Floats = field(init=False)  # tokens of a new one that is not


STATE = (
    "row", "origin", "begin", "end", "arrived", "newest", "lost", "iteration", "decodes", "waiting", "context", "used",
    "rest", "done", "misses", "due", "clock", "next",
)  # fmt: skip


class Sweep:
    """All lanes that have not ended. `units`: when the requests arrive, 1 second apart in the mean; a lane stretches it
    by its gap. Those from `warm` to `beyond` count.

    A lane's requests have numbers from its `origin` on. Those from `begin` to `end` decode, `end` itself is a prompt in
    progress while it has `rest` > 0 tokens to go after `done`, those up to `arrived` wait, and those below `lost` have
    been preempted before."""

    def __init__(self, lanes: Lanes, units: Floats, warm: int, beyond: int) -> None:
        count, width = len(lanes), len(units) + 1
        self.lanes, self.units, self.warm, self.beyond = lanes, np.append(units, NEVER), warm, beyond
        self.missed = np.zeros(count)
        self.row = np.arange(count)
        self.origin = self.row * width
        start = lanes.start.astype(np.int64)
        self.begin, self.end, self.arrived, self.newest, self.lost = np.tile(self.origin + start, (5, 1))
        self.iteration, self.decodes, self.waiting, self.misses = np.zeros((4, count))
        self.context = np.zeros(count)  # tokens that the decodes of the next iteration read
        self.used = np.zeros(count)  # KV tokens with what the next iteration writes
        self.rest, self.done = np.zeros((2, count))
        self.due = np.full(count, NEVER)  # the iteration that ends the oldest group
        self.clock = self.units[start] * lanes.gap
        self.next = self.clock.copy()
        # by request; all but the last only for the first of each group
        self.first, self.finish = np.full((2, count * width), np.nan)
        self.born = np.zeros(count * width, np.int32)  # iteration − generated tokens
        self.previous, self.following = np.zeros((2, count * width), np.int32)  # groups: the request they begin with
        self.late = np.zeros(count * width, np.int32)  # the requests of the group before this one missed TTFT
        self.generated = np.zeros(count * width, np.int32)  # until it was preempted
        self._arrive()

    def run(self) -> Floats:
        """How many of the requests that count missed a target; above `allowed` there may be more than it says."""
        rounds = 0
        while len(self.row):
            self._leap()
            rounds += 1
            if rounds % COMPACT == 0:
                self._compact()
        return self.missed

    def _compact(self) -> None:
        s = self.lanes
        over = (self.begin - self.origin >= self.beyond) | (self.misses > s.allowed)
        if over.any():
            self.missed[self.row[over]] = self.misses[over]
            keep = (~over).nonzero()[0]
            self.lanes = s[keep]
            for name in STATE:
                setattr(self, name, getattr(self, name)[keep])

    def _leap(self) -> None:
        full = self._preempt()
        batch = self._batch(full)
        self._go(batch, *self._steps(batch, full))
        self._end()
        self._arrive()

    def _batch(self, full: Bools | None) -> Batch:
        s, part = self.lanes, self.rest > 0
        left = s.batched_tokens - self.decodes
        chunk, going = np.minimum(self.rest, left), self.rest > left
        batch = Batch(
            left=left - chunk,
            seats=s.sequences - self.decodes - part,
            room=s.kv_tokens - self.used,
            waiting=self.waiting,
            idle=self.decodes + part == 0,
            chunk=chunk,
            going=going,
            ended=part > going,
            prefill=chunk.copy(),
            reach=chunk * (self.done + chunk / 2),
        )
        if full is not None:
            batch.seats[full] = 0
        again = ((self.end < self.lost) & ((self.waiting > 0) | batch.ended) & ~going).nonzero()[0]
        if len(again):
            batch.waiting = self.waiting.copy()
            self._resume(again, batch)
        self._admit(batch)
        return batch

    def _admit(self, batch: Batch) -> None:
        """Prompts that are new, all of one length."""
        s = self.lanes
        tokens = s.input_tokens - s.cached_tokens
        able = np.maximum(np.floor(batch.room / (s.input_tokens + HALF_BLOCK)), batch.idle)
        able = np.maximum(np.minimum(np.minimum(able, batch.seats), batch.waiting), 0)
        whole = batch.whole = np.minimum(able, np.floor(batch.left / tokens))
        extra = batch.extra = (batch.left - whole * tokens) * (whole < able)
        batch.prefill += whole * tokens + extra
        batch.reach += whole * (tokens * (s.cached_tokens + tokens / 2)) + extra * (s.cached_tokens + extra / 2)

    def _steps(self, batch: Batch, full: Bools | None) -> tuple[Floats, Floats]:
        """How many iterations are like this one, and how long they take."""
        s, decodes, prefill, starts = self.lanes, self.decodes, batch.prefill, batch.extra > 0
        roof = np.maximum(s.weights, s.per_token * (prefill + decodes))
        seconds = (s.base + roof + s.per_prefill_token * prefill + s.per_prefill_token_context * batch.reach
                   + s.per_decode_sequence * decodes + s.per_context_token * self.context)  # fmt: skip
        longer = s.per_prefill_token_context * (prefill * prefill) + s.per_context_token * decodes
        # until the next arrival, where it would be admitted
        wait = np.where((self.waiting > 0) | (self.rest > 0), NEVER, self.next - self.clock)
        half = seconds - longer / 2
        steps = np.ceil(2 * wait / (half + np.sqrt(half * half + 2 * longer * wait)))
        # until a group ends
        steps = np.minimum(steps, self.due - self.iteration)
        # until the KV cache is full
        room = batch.room - starts * (s.input_tokens + HALF_BLOCK)
        steps = np.minimum(steps, np.floor(room / np.maximum(decodes, 1)) + 1)
        # until the last chunk of a prompt, of which this may be the first
        alone = starts & (prefill == batch.extra)
        rows = (batch.going | alone).nonzero()[0]
        if len(rows):
            rest = self.rest[rows] + (starts * (s.input_tokens - s.cached_tokens))[rows]
            steps[rows] = np.minimum(steps[rows], np.ceil(rest / prefill[rows]) - 1)
        steps = np.where(batch.ended | ((prefill > batch.chunk) & ~alone), 1, np.maximum(steps, 1))
        if full is not None:
            steps[full] = 1
        return steps, steps * (seconds + longer * ((steps - 1) / 2))

    def _go(self, batch: Batch, steps: Floats, seconds: Floats) -> None:
        s, whole = self.lanes, batch.whole
        self.clock = self.clock + seconds
        self.iteration = self.iteration + steps
        grown, computed = steps * self.decodes, steps * batch.chunk
        self.context = self.context + grown
        self.used = self.used + grown
        self.rest = self.rest - computed
        self.done = self.done + computed
        fresh = batch.ended
        if batch.resumed:
            fresh = fresh.copy()
            fresh[batch.resumed[0].rows] = False
            for resumed in batch.resumed:
                self._restart(resumed)
        rows = (fresh | (whole > 0)).nonzero()[0]
        if len(rows):
            number = self.end[rows]
            self.used[rows] += whole[rows] * (s.input_tokens[rows] + HALF_BLOCK)
            self.waiting[rows] -= whole[rows]
            self._group(rows, number, whole[rows] + fresh[rows], np.zeros(len(rows)))
            self._first(rows, number, self.end[rows])
        rows = batch.extra.nonzero()[0]
        if len(rows):
            computed, cached = steps[rows] * batch.extra[rows], s.cached_tokens[rows]
            self.rest[rows], self.done[rows] = s.input_tokens[rows] - cached - computed, cached + computed
            self.used[rows] += s.input_tokens[rows] + HALF_BLOCK
            self.waiting[rows] -= 1

    def _preempt(self) -> Bools | None:
        """The latest lose their KV cache until the others have room; which lanes that happened in."""
        s = self.lanes
        full = self.used > s.kv_tokens
        if not full.any():
            return None
        full &= self.decodes + (self.rest > 0) > 1
        rows = full.nonzero()[0]
        while len(rows):
            part = self.rest[rows] > 0
            self.lost[rows] = np.maximum(self.lost[rows], self.end[rows] + part)
            self.waiting[rows] += 1
            some, rows = rows[part], rows[~part]
            self.used[some] -= self.rest[some] + self.done[some] + HALF_BLOCK
            self.rest[some] = 0
            newest, number = self.newest[rows], self.end[rows] - 1
            generated = self.iteration[rows] - self.born[newest]
            self.generated[number] = generated
            self.first[number] = self.first[newest]
            self.late[number] = self.late[newest]
            self.context[rows] -= s.input_tokens[rows] + generated
            self.used[rows] -= s.input_tokens[rows] + generated + HALF_BLOCK
            self.decodes[rows] -= 1
            self.end[rows] = number
            self.newest[rows] = np.where(newest == number, self.previous[newest], newest)
            rows = ((self.used > s.kv_tokens) & (self.decodes + (self.rest > 0) > 1)).nonzero()[0]
        return full

    def _resume(self, rows: Ints, batch: Batch) -> None:
        """Prompts that were preempted before, one by one, for each has a length of its own: first those in progress
        that are completed now, then those at the head of the queue."""
        s, head = self.lanes, self.end.copy()
        over = rows[batch.ended[rows]]
        tokens = s.input_tokens[over] + self.generated[head[over]]
        batch.resumed = [Resumed(over, head[over], tokens, np.zeros(len(over)), entered=False)]
        head[over] += 1
        while True:
            rows = rows[(head[rows] < self.lost[rows]) & (batch.waiting[rows] > 0)]
            tokens = s.input_tokens[rows] + self.generated[head[rows]]
            fits = batch.idle[rows] | (tokens + HALF_BLOCK <= batch.room[rows])
            able = (batch.left[rows] > 0) & (batch.seats[rows] > 0) & fits
            batch.seats[rows[~able]] = 0  # nothing overtakes
            rows, tokens = rows[able], tokens[able]
            if not len(rows):
                return
            chunk = np.minimum(tokens, batch.left[rows])
            batch.resumed.append(Resumed(rows, head[rows], tokens, tokens - chunk))
            batch.prefill[rows] += chunk
            batch.reach[rows] += chunk * chunk / 2
            batch.left[rows] -= chunk
            batch.seats[rows] -= 1
            batch.room[rows] -= tokens + HALF_BLOCK
            batch.waiting[rows] -= 1
            batch.idle[rows] = False
            head[rows] += 1

    def _restart(self, resumed: Resumed) -> None:
        rows, number, tokens = resumed.rows, resumed.number, resumed.tokens
        if resumed.entered:
            self.used[rows] += tokens + HALF_BLOCK
            self.waiting[rows] -= 1
        partly = resumed.rest > 0
        self.rest[rows[partly]], self.done[rows[partly]] = resumed.rest[partly], (tokens - resumed.rest)[partly]
        rows, number, tokens = rows[~partly], number[~partly], tokens[~partly]
        generated = tokens - self.lanes.input_tokens[rows]
        self._group(rows, number, np.ones(len(rows)), generated)
        never = generated == 0
        self._first(rows[never], number[never], number[never] + 1)

    def _group(self, rows: Ints, number: Ints, size: Floats, generated: Floats) -> None:
        """Requests whose prompts were completed by the iteration that has just ended join those that decode."""
        s, newest = self.lanes, self.newest[rows]
        born = self.iteration[rows] - 1 - generated
        self.born[number] = born
        self.previous[number] = newest
        self.following[newest] = number
        self.newest[rows] = number
        alone = self.begin[rows] == number
        self.due[rows[alone]] = (born + s.output_tokens[rows])[alone]
        self.end[rows] = number + size.astype(np.int64)
        self.decodes[rows] += size
        self.context[rows] += size * (s.input_tokens[rows] + generated + 1)
        self.used[rows] += size

    def _first(self, rows: Ints, number: Ints, beyond: Ints) -> None:
        """The first token of the requests `number` to `beyond`."""
        s, clock = self.lanes, self.clock[rows]
        self.first[number] = clock
        self.late[number] = number
        origin = self.origin[rows]
        slow = (clock - self.units[number - origin] * s.gap[rows] > s.ttft[rows]).nonzero()[0]
        if len(slow):
            rows, number, origin = rows[slow], number[slow], origin[slow]
            on_time = np.searchsorted(self.units, (clock[slow] - s.ttft[rows]) / s.gap[rows])
            late = np.minimum(np.maximum(origin + on_time, number + 1), beyond[slow])
            self.late[number] = late
            self._miss(rows, number, late)

    def _miss(self, rows: Ints, number: Ints, beyond: Ints) -> None:
        origin = self.origin[rows]
        counted = np.minimum(beyond, origin + self.beyond) - np.maximum(number, origin + self.warm)
        self.misses[rows] += np.maximum(counted, 0)

    def _end(self) -> None:
        """Groups whose last token has come."""
        s, rows = self.lanes, (self.due == self.iteration).nonzero()[0]
        while len(rows):
            number, end, clock, output = self.begin[rows], self.end[rows], self.clock[rows], s.output_tokens[rows]
            beyond = np.where(number == self.newest[rows], end, self.following[number])
            self.finish[number] = clock
            slow = (clock - self.first[number] > s.tpot[rows] * (output - 1)).nonzero()[0]
            if len(slow):
                on_time = np.maximum(number[slow], np.minimum(self.late[number[slow]], beyond[slow]))
                self._miss(rows[slow], on_time, beyond[slow])
            size, tokens = beyond - number, s.input_tokens[rows] + output
            self.decodes[rows] -= size
            self.context[rows] -= size * tokens
            self.used[rows] -= size * (tokens + HALF_BLOCK)
            self.begin[rows] = beyond
            self.due[rows] = np.where(beyond < end, self.born[beyond] + output, NEVER)
            rows = rows[self.due[rows] == self.iteration[rows]]

    def _arrive(self) -> None:
        """Requests that came meanwhile; a lane with nothing to do waits for the next one."""
        s = self.lanes
        idle = (self.decodes + self.rest + self.waiting == 0).nonzero()[0]
        self.clock[idle] = np.maximum(self.clock[idle], self.next[idle])
        rows = (self.next <= self.clock).nonzero()[0]
        origin, gap = self.origin[rows], s.gap[rows]
        before = self.arrived[rows] - origin
        known = np.searchsorted(self.units, self.clock[rows] / gap, side="right")
        known = np.minimum(np.maximum(known, before + 1), len(self.units) - 1)
        self.waiting[rows] += known - before
        self.arrived[rows] = origin + known
        self.next[rows] = self.units[known] * gap
