"""The replay of many replicas at once, each under requests of one size: `replay.Replica` in lockstep, event by event.

Equal requests end in the order in which they came. So those that run are an interval of their numbers, and those whose
prompts ended with the same iteration (a group) share all that is to be known of them: a lane is a handful of numbers
and a few arrays over its groups. It counts requests that miss a target and knows nothing of capacities or prices."""

from dataclasses import dataclass, fields

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
        return Lanes(*(getattr(self, field.name)[chosen] for field in fields(self)))


@dataclass(frozen=True)
class Resumed:
    """Preempted requests that an iteration takes on again, one of each lane in `rows`."""

    rows: Ints
    number: Ints
    tokens: Floats  # that have to be computed
    rest: Floats  # of them after this iteration
    entered: bool = True  # from the queue, by this iteration


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
        s = self.lanes
        changed = self._preempt()
        # the prompt in progress
        decodes, context, part = self.decodes, self.context, self.rest > 0
        left = s.batched_tokens - decodes
        chunk = np.minimum(self.rest, left)
        reach = chunk * (self.done + chunk / 2)
        going = self.rest > left
        ended = part > going
        left = left - chunk
        # new prompts
        seats = s.sequences - decodes - part
        room = s.kv_tokens - self.used
        if changed is not None:
            seats[changed] = 0
        prefill, fresh, resumed = chunk.copy(), ended, list[Resumed]()
        again = ((self.end < self.lost) & ((self.waiting > 0) | ended) & ~going).nonzero()[0]
        waiting, idle = self.waiting, decodes + part == 0
        if len(again):
            fresh, waiting = ended.copy(), waiting.copy()
            fresh[again] = False
            resumed = self._resume(again, ended, left, seats, room, waiting, idle, prefill, reach)
        size = s.input_tokens + HALF_BLOCK
        able = np.maximum(np.floor(room / size), idle)
        able = np.maximum(np.minimum(np.minimum(able, seats), waiting), 0)
        tokens = s.input_tokens - s.cached_tokens
        whole = np.minimum(able, np.floor(left / tokens))
        extra = (left - whole * tokens) * (whole < able)
        prefill += whole * tokens + extra
        reach += whole * (tokens * (s.cached_tokens + tokens / 2)) + extra * (s.cached_tokens + extra / 2)
        # how many iterations like this one
        roof = np.maximum(s.weights, s.per_token * (prefill + decodes))
        seconds = (s.base + roof + s.per_prefill_token * prefill + s.per_prefill_token_context * reach
                   + s.per_decode_sequence * decodes + s.per_context_token * context)  # fmt: skip
        longer = s.per_prefill_token_context * (prefill * prefill) + s.per_context_token * decodes
        wait = np.where((self.waiting > 0) | part, NEVER, self.next - self.clock)
        half = seconds - longer / 2
        steps = np.ceil(2 * wait / (half + np.sqrt(half * half + 2 * longer * wait)))
        steps = np.minimum(steps, self.due - self.iteration)
        starts = extra > 0
        steps = np.minimum(steps, np.floor((room - starts * size) / np.maximum(decodes, 1)) + 1)
        alone = starts & (prefill == extra)  # the first of equal chunks
        rows = (going | alone).nonzero()[0]
        if len(rows):
            steps[rows] = np.minimum(steps[rows], np.ceil((self.rest + starts * tokens)[rows] / prefill[rows]) - 1)
        steps = np.where(ended | ((prefill > chunk) & ~alone), 1, np.maximum(steps, 1))
        if changed is not None:
            steps[changed] = 1
        # go
        self.clock = self.clock + steps * (seconds + longer * ((steps - 1) / 2))
        self.iteration = self.iteration + steps
        grown, computed = steps * decodes, steps * chunk
        self.context = self.context + grown
        self.used = self.used + grown
        self.rest = self.rest - computed
        self.done = self.done + computed
        for one in resumed:
            self._restart(one)
        rows = (fresh | (whole > 0)).nonzero()[0]
        if len(rows):
            number = self.end[rows]
            self.used[rows] += whole[rows] * size[rows]
            self.waiting[rows] -= whole[rows]
            self._group(rows, number, whole[rows] + fresh[rows], np.zeros(len(rows)))
            self._first(rows, number, self.end[rows])
        rows = starts.nonzero()[0]
        if len(rows):
            computed = (steps * extra)[rows]
            self.rest[rows], self.done[rows] = tokens[rows] - computed, s.cached_tokens[rows] + computed
            self.used[rows] += size[rows]
            self.waiting[rows] -= 1
        self._end()
        self._arrive()

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

    def _resume(
        self,
        rows: Ints,
        ended: Bools,
        left: Floats,
        seats: Floats,
        room: Floats,
        waiting: Floats,
        idle: Bools,
        prefill: Floats,
        reach: Floats,
    ) -> list[Resumed]:
        """Prompts that were preempted before, one by one, for each has a length of its own: what they take is taken off
        `left`, `seats` and `room`, and their chunks are added to `prefill` and `reach`."""
        s, head = self.lanes, self.end.copy()
        over = rows[ended[rows]]
        tokens = s.input_tokens[over] + self.generated[head[over]]
        found = [Resumed(over, head[over], tokens, np.zeros(len(over)), entered=False)]
        head[over] += 1
        while True:
            rows = rows[(head[rows] < self.lost[rows]) & (waiting[rows] > 0)]
            tokens = s.input_tokens[rows] + self.generated[head[rows]]
            able = (left[rows] > 0) & (seats[rows] > 0) & (idle[rows] | (tokens + HALF_BLOCK <= room[rows]))
            seats[rows[~able]] = 0  # nothing overtakes
            rows, tokens = rows[able], tokens[able]
            if not len(rows):
                return found
            chunk = np.minimum(tokens, left[rows])
            found.append(Resumed(rows, head[rows], tokens, tokens - chunk))
            prefill[rows] += chunk
            reach[rows] += chunk * chunk / 2
            left[rows] -= chunk
            seats[rows] -= 1
            room[rows] -= tokens + HALF_BLOCK
            waiting[rows] -= 1
            head[rows] += 1
            idle[rows] = False

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
