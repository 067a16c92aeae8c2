"""The replay of many replicas at once, each under requests of one size: `replay.Replica` in lockstep, event by event.

Equal requests end in the order in which they came. So those that run are an interval of their numbers, and those whose
prompts ended with the same iteration (a group) share all that is to be known of them: a lane is a handful of numbers
and a few arrays over its groups. It counts requests that miss a target and knows nothing of capacities or prices."""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields

import numpy as np
from numpy.typing import NDArray

from motley_solver.lanes import Floats, Ints, Lanes
from motley_solver.policy.batching import HALF_BLOCK

Bools = NDArray[np.bool_]

NEVER = 1e30
COMPACT = 16  # rounds until lanes that ended are looked for
# beside few lanes Python's numbers would take twice as long
ZERO, ONE, TWO, FOUR, LITTLE, MANY = map(np.array, (0.0, 1.0, 2.0, 4.0, 1e-9, NEVER))


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
    chunk: Floats  # of the prompt in progress
    ended: Floats  # 1 where it will be completed
    prefill: Floats  # tokens of all prompts
    reach: Floats  # tokens that these attend to, all together
    resumed: list[Resumed] = field(default_factory=list)
    whole: Floats = field(init=False)  # new prompts that are completed at once
    extra: Floats = field(init=False)  # tokens of a new one that is not


class Sweep:
    """Lanes side by side, at most as many as there are `slots`; others may take the place of those that ended. `units`:
    when the requests arrive, 1 second apart in the mean; a lane stretches it by its gap. Those from `warm` to `beyond`
    count."""

    slot: Ints
    origin: Ints  # the number of its first request, and of its first group
    head: Ints  # the oldest group that decodes
    tail: Ints  # the newest
    end: Ints  # the first request that does not decode yet: a prompt in progress where `rest` > 0
    arrived: Ints  # those from it on have not come yet
    lost: Ints  # those before it may have been preempted
    iteration: Floats
    decodes: Floats
    waiting: Floats
    context: Floats  # tokens that the decodes of the next iteration read
    room: Floats  # KV tokens that are left beside what it writes
    rest: Floats  # tokens of the prompt in progress
    length: Floats  # all of its tokens
    misses: Floats
    due: Floats  # the iteration that ends the oldest group
    clock: Floats
    next: Floats  # when the next request comes

    def __init__(self, units: Floats, warm: int, beyond: int, slots: int) -> None:
        self.units, self.warm, self.beyond = np.append(units, NEVER), warm, beyond
        self.free = np.arange(slots)
        count = slots * len(self.units)
        # by group: the request that it starts with (also told of the group that is to come), the iteration that ends it
        self.starts, self.dues = np.empty(count, np.int64), np.empty(count)
        # by request; all but the first only for the first of each group
        self.times, self.first, self.finish = np.empty(count), np.full(count, np.nan), np.full(count, np.nan)
        self.late = np.empty(count, np.int64)  # the requests of the group before this one missed TTFT
        self.generated = np.empty(count)  # until it was preempted
        self.lanes = Lanes(*np.empty((sum(one.init for one in fields(Lanes)), 0)))
        for name, kind in Sweep.__annotations__.items():
            setattr(self, name, np.empty(0, np.int64 if kind is Ints else np.float64))

    def add(self, lanes: Lanes) -> Ints:
        """The slots that they have until they end; so many must be free."""
        slot, self.free = self.free[: len(lanes)], self.free[len(lanes) :]
        width, zeros = len(self.units), np.zeros(len(lanes))
        origin = slot * width
        start = self.starts[origin] = origin + lanes.start.astype(np.int64)
        for values, blank in (
            (self.times, self.units * lanes.gap[:, None]), (self.dues, NEVER), (self.late, 0), (self.generated, 0)
        ):  # fmt: skip
            values.reshape(-1, width)[slot] = blank
        new = {"slot": slot, "origin": origin, "head": origin, "tail": origin - 1, "end": start, "arrived": start,
               "lost": start, "room": lanes.kv_tokens, "length": lanes.input_tokens, "due": self.dues[origin],
               "clock": self.times[start], "next": self.times[start]}  # fmt: skip
        for name in Sweep.__annotations__:
            setattr(self, name, np.concatenate((getattr(self, name), new.get(name, zeros))))
        self.lanes = self.lanes + lanes
        self._arrive()
        return slot

    def drop(self, slots: Sequence[int]) -> None:
        """They end soon, as if they had missed more than they may."""
        self.misses[np.isin(self.slot, slots)] = NEVER

    def run(self) -> tuple[Ints, Floats]:
        """Goes on until some lanes end: their slots, which are free again, and how many of the requests that count
        missed a target; above `allowed` there may be more than it says."""
        over = np.empty(0, np.int64)
        while not len(over):
            for _ in range(COMPACT):
                self._leap()
            served = self.starts[self.head] - self.origin
            over = ((served >= self.beyond) | (self.misses > self.lanes.allowed)).nonzero()[0]
        slots, misses = self.slot[over], self.misses[over]
        self.free = np.concatenate((self.free, slots))
        keep = np.delete(np.arange(len(self.slot)), over)
        self.lanes = self.lanes[keep]
        for name in Sweep.__annotations__:
            setattr(self, name, getattr(self, name)[keep])
        return slots, misses

    def _leap(self) -> None:
        full = self._preempt()
        batch = self._batch(full)
        self._go(batch, *self._steps(batch, full))
        self._decode()
        self._end()
        self._arrive()

    def _batch(self, full: Ints) -> Batch:
        s, part = self.lanes, np.sign(self.rest)
        left = s.batched_tokens - self.decodes
        chunk = np.minimum(self.rest, left)
        going = np.sign(self.rest - chunk)
        batch = Batch(
            left=left - chunk,
            seats=s.sequences - self.decodes - part,
            room=self.room,
            waiting=self.waiting,
            chunk=chunk,
            ended=part - going,
            prefill=chunk,
            reach=chunk * (self.length - self.rest + chunk / TWO),
        )
        batch.seats[full] = 0
        again = (self.end < self.lost).nonzero()[0]
        if len(again):
            self._resume(again[going[again] == 0], batch)
        # prompts that are new, all of one length
        able = np.minimum(np.minimum(np.floor(batch.room / s.fit), batch.seats), batch.waiting)
        fresh = np.minimum(np.maximum(able, ZERO) * s.tokens, batch.left)
        whole = batch.whole = np.floor(fresh / s.tokens)
        extra = batch.extra = fresh - whole * s.tokens
        batch.prefill = batch.prefill + fresh
        batch.reach += whole * s.reach + extra * (s.cached_tokens + extra / TWO)
        return batch

    def _steps(self, batch: Batch, full: Ints) -> tuple[Floats, Floats]:
        """How many iterations are like this one, and how long they take: none where nobody waits for an answer's first
        token."""
        s, decodes, prefill = self.lanes, self.decodes, batch.prefill
        roof = np.maximum(s.weights, s.per_token * (prefill + decodes))
        seconds = (s.base + roof + s.per_prefill_token * prefill + s.per_prefill_token_context * batch.reach
                   + s.per_decode_sequence * decodes + s.per_context_token * self.context)  # fmt: skip
        longer = s.per_prefill_token_context * (prefill * prefill) + s.per_context_token * decodes
        # until the last chunk of a prompt, of which this may be the first; a second prompt is never among the chunks
        rest = np.where(self.rest, self.rest, s.tokens)
        steps = np.ceil(rest / np.maximum(prefill, LITTLE)) - ONE
        # until a group ends
        steps = np.minimum(steps, self.due - self.iteration)
        steps = np.maximum(self._fit(steps, self.room - np.sign(batch.extra) * s.held), ONE)
        steps = steps * np.minimum(self.waiting + self.rest, ONE)
        steps[full] = 1
        for resumed in batch.resumed:
            steps[resumed.rows] = 1
        return steps, steps * (seconds + longer * ((steps - ONE) / TWO))

    def _fit(self, steps: Floats, room: Floats) -> Floats:
        """No more than until the KV cache is full, of which `room` is left; a decode alone may go on."""
        full = (steps * self.decodes > room).nonzero()[0]
        if len(full):
            decodes = np.maximum(self.decodes[full], 1)
            steps[full] = np.minimum(steps[full], np.maximum(np.floor(room[full] / decodes) + 1, 2 - decodes))
        return steps

    def _go(self, batch: Batch, steps: Floats, seconds: Floats) -> None:
        s, whole, extra = self.lanes, batch.whole, batch.extra
        self.clock = self.clock + seconds
        self.iteration = self.iteration + steps
        new, ended, grown = np.sign(extra), batch.ended, steps * self.decodes
        self.rest = self.rest + new * s.tokens - steps * (batch.chunk + extra)
        if batch.resumed:
            ended = ended.copy()
            ended[batch.resumed[0].rows] = 0
            for resumed in batch.resumed:
                self._restart(resumed)
        entered, size = whole + new, whole + ended
        self.waiting = self.waiting - entered
        self.decodes = self.decodes + size
        self.context = self.context + grown + size * s.begun
        self.room = self.room - grown - entered * s.held - size
        rows = size.nonzero()[0]
        if len(rows):
            number = self.end[rows]
            self._group(rows, number, number + size[rows].astype(np.int64), self.iteration[rows] - 1)
            self._first(rows, number, self.end[rows])

    def _preempt(self) -> Ints:
        """The latest lose their KV cache until the others have room; which lanes that happened in."""
        s = self.lanes
        full = (self.room < ZERO).nonzero()[0]
        if len(full):
            full = full[self.decodes[full] + (self.rest[full] > 0) > 1]
        rows = full
        while len(rows):
            part = self.rest[rows] > 0
            self.lost[rows] = np.maximum(self.lost[rows], self.end[rows] + part)
            self.waiting[rows] += 1
            some, rows = rows[part], rows[~part]
            self.room[some] += self.length[some] + HALF_BLOCK
            self.rest[some] = 0
            tail, number = self.tail[rows], self.end[rows] - 1
            first = self.starts[tail]
            generated = self.iteration[rows] + s.output_tokens[rows] - self.dues[tail]
            self.generated[number] = generated
            self.first[number] = self.first[first]
            self.late[number] = self.late[first]
            self.context[rows] -= s.input_tokens[rows] + generated
            self.room[rows] += s.input_tokens[rows] + generated + HALF_BLOCK
            self.decodes[rows] -= 1
            self.end[rows] = self.starts[tail + 1] = number
            alone = first == number
            self.dues[tail[alone]] = NEVER
            self.tail[rows] -= alone
            rows = full[(self.room[full] < 0) & (self.decodes[full] + (self.rest[full] > 0) > 1)]
        return full

    def _resume(self, rows: Ints, batch: Batch) -> None:
        """Prompts that were preempted before, one by one, for each has a length of its own: first those in progress
        that are completed now, then those at the head of the queue."""
        s, head = self.lanes, self.end.copy()
        batch.room, batch.waiting, batch.prefill = batch.room.copy(), batch.waiting.copy(), batch.prefill.copy()
        over = rows[batch.ended[rows] > 0]
        batch.resumed = [Resumed(over, head[over], self.length[over], np.zeros(len(over)), entered=False)]
        head[over] += 1
        while True:
            rows = rows[(head[rows] < self.lost[rows]) & (batch.waiting[rows] > 0)]
            tokens = s.input_tokens[rows] + self.generated[head[rows]]
            fits = np.minimum(tokens + HALF_BLOCK, s.kv_tokens[rows]) <= batch.room[rows]
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
            head[rows] += 1

    def _restart(self, resumed: Resumed) -> None:
        rows, number, tokens = resumed.rows, resumed.number, resumed.tokens
        if resumed.entered:
            self.room[rows] -= tokens + HALF_BLOCK
            self.waiting[rows] -= 1
        partly = resumed.rest > 0
        self.rest[rows[partly]], self.length[rows] = resumed.rest[partly], self.lanes.input_tokens[rows]
        self.length[rows[partly]] = tokens[partly]
        rows, number, tokens = rows[~partly], number[~partly], tokens[~partly]
        generated = tokens - self.lanes.input_tokens[rows]
        self._group(rows, number, number + 1, self.iteration[rows] - 1 - generated)
        self.decodes[rows] += 1
        self.context[rows] += tokens + 1
        self.room[rows] -= 1
        never = generated == 0
        self._first(rows[never], number[never], number[never] + 1)

    def _group(self, rows: Ints, number: Ints, beyond: Ints, born: Floats) -> None:
        """The requests `number` to `beyond` begin to decode; `born`: iteration − generated tokens."""
        tail = self.tail[rows] + 1
        self.tail[rows], self.end[rows] = tail, beyond
        self.starts[tail], self.starts[tail + 1] = number, beyond
        self.dues[tail] = born + self.lanes.output_tokens[rows]

    def _first(self, rows: Ints, number: Ints, beyond: Ints) -> None:
        """The first token of the requests `number` to `beyond`."""
        s, clock = self.lanes, self.clock[rows]
        self.first[number] = clock
        slow = (clock - self.times[number] > s.ttft[rows]).nonzero()[0]
        if len(slow):
            rows, number = rows[slow], number[slow]
            on_time = self.units.searchsorted((clock[slow] - s.ttft[rows]) / s.gap[rows])
            late = np.minimum(np.maximum(self.origin[rows] + on_time, number + 1), beyond[slow])
            self.late[number] = late
            self._miss(rows, number, late)

    def _miss(self, rows: Ints, number: Ints, beyond: Ints) -> None:
        origin = self.origin[rows]
        counted = np.minimum(beyond, origin + self.beyond) - np.maximum(number, origin + self.warm)
        self.misses[rows] += np.maximum(counted, 0)

    def _decode(self) -> None:
        """Where nothing else is left, decodes go on until a request comes, a group ends or the KV cache is full."""
        s, decodes = self.lanes, self.decodes
        slope = s.per_context_token / TWO * decodes  # each iteration takes twice that longer than the one before
        first = (s.base + np.maximum(s.weights, s.per_token * decodes) + s.per_decode_sequence * decodes
                 + s.per_context_token * self.context - slope)  # fmt: skip
        wait = np.maximum(self.next - self.clock - (self.waiting + self.rest) * MANY, ZERO)
        steps = np.ceil(TWO * wait / (first + np.sqrt(first * first + FOUR * slope * wait)))
        steps = np.maximum(self._fit(np.minimum(steps, self.dues[self.head] - self.iteration), self.room), ZERO)
        self.clock = self.clock + steps * (first + slope * steps)
        self.iteration = self.iteration + steps
        grown = steps * decodes
        self.context = self.context + grown
        self.room = self.room - grown

    def _end(self) -> None:
        """Groups whose last token has come."""
        s = self.lanes
        while True:
            self.due = self.dues[self.head]
            rows = (self.due == self.iteration).nonzero()[0]
            if not len(rows):
                return
            head, clock = self.head[rows], self.clock[rows]
            self.head[rows] = after = head + 1
            number, beyond = self.starts[head], self.starts[after]
            self.finish[number] = clock
            slow = (clock - self.first[number] > s.between[rows]).nonzero()[0]
            if len(slow):
                on_time = np.maximum(number[slow], np.minimum(self.late[number[slow]], beyond[slow]))
                self._miss(rows[slow], on_time, beyond[slow])
            size = (beyond - number).astype(float)
            tokens = size * s.whole[rows]
            self.decodes[rows] -= size
            self.context[rows] -= tokens
            self.room[rows] += tokens + HALF_BLOCK * size

    def _arrive(self) -> None:
        """Requests that came meanwhile; a lane with nothing to do waits for the next one."""
        s = self.lanes
        idle = (self.decodes + self.rest + self.waiting == ZERO).nonzero()[0]
        if len(idle):
            self.clock[idle] = np.maximum(self.clock[idle], self.next[idle])
        rows = (self.next <= self.clock).nonzero()[0]
        if len(rows):
            origin, before = self.origin[rows], self.arrived[rows]
            known = origin + self.units.searchsorted(self.clock[rows] / s.gap[rows], side="right")
            arrived = np.minimum(np.maximum(known, before + 1), origin + (len(self.units) - 1))
            self.arrived[rows] = arrived
            self.waiting[rows] += arrived - before
            self.next[rows] = self.times[arrived]
