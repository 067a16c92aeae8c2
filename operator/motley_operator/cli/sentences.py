"""What an Explanation says, in sentences for people who run a platform. All its words are made here; what they say was
solved elsewhere, and nothing is computed here but units."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import ceil

from motley_operator.cli.numbers import percent, significant
from motley_solver.choices import Choice, Option
from motley_solver.conflicts import Conflict
from motley_solver.explain import LOOSER, Alternative, Explanation, Placement, Saving
from motley_solver.limits import Limit
from motley_solver.plan import Plan
from motley_solver.problem import Problem, Shortfall, Slo
from motley_solver.remedies import Remedy
from motley_solver.whatif import Change, Question

_NAMED = 6
"""So many of a kind are named in a sentence; the rest is counted, and listed in JSON."""
_NOTHING = 1e-4
"""Per hour; a smaller difference is within the solver's tolerance."""


def sections(
    found: Explanation,
    problem: Problem,
    plan: Plan,
    slos: Mapping[str, Slo],
    measured: Collection[tuple[str, str]] = (),
) -> Iterator[tuple[str, list[str]]]:
    """(title, lines) in the order in which a person asks; `slos` by model. `measured`: (model, configuration) of which
    only throughputs at one SLO are known."""
    words = _Words(problem, plan, slos, measured)
    yield "Not served, and what would help", [*words.together(found.everything), *words.conflicts(found.conflicts)]
    part = "" if plan.complete else ", for what is served"
    yield f"What binds{part}", list(words.savings(found.savings))
    yield f"Next best plan{part}", list(words.alternatives(found.alternatives))
    yield "Why it runs there", list(words.reasons(found))
    yield "Not answered within the time limit", [_several(map(_asked, found.unanswered))] * bool(found.unanswered)


def longer(target: float, factor: float) -> float:
    """Seconds of a loosened target: whole milliseconds, so that what was solved is what is advised."""
    return ceil(round(target * factor * 1000, 6)) / 1000


def _money(amount: float) -> str:
    return "less than 0.01" if 0 < amount < 0.005 else f"{amount:.2f}"


def _time(value: float) -> str:
    return f"{value * 1000:.0f} ms" if value < 10 else f"{value:.3g} s"


def _several(names: Iterable[str], most: int = _NAMED) -> str:
    listed = list(names)
    more = f" and {len(listed) - most} more" if len(listed) > most else ""
    return ", ".join(listed[:most]) + more


def _started(text: str) -> str:
    """As a sentence starts; names keep their letters."""
    return f"{text[:1].upper()}{text[1:]}"


def _count(number: float, noun: str) -> str:
    return f"{number:.0f} {noun}" if number == 1 else f"{number:.0f} {noun}s"


_ORDER = {"aggregated": 0, "prefill": 1, "decode": 2}
_LIMITS = {"ttft": "TTFT", "tpot": "TPOT", "engine": "speed and memory"}


@dataclass(frozen=True)
class _Words:
    problem: Problem
    plan: Plan
    slos: Mapping[str, Slo]
    measured: Collection[tuple[str, str]]

    # what binds

    def savings(self, savings: Iterable[Saving]) -> Iterator[str]:
        """The dearest first; stock that is used up is named even where more of it would not help."""
        idle: dict[str, list[str]] = {}
        fixed = {one.model for one in self.plan.allocations if (one.model, one.configuration) in self.measured}
        for one in sorted(savings, key=lambda one: -one.per_hour):
            proof = "" if one.proven else " (not proven)"
            if one.per_hour >= _NOTHING:
                yield f"{self._bound(one.change)} would save {_money(one.per_hour)} per hour{proof}."
            elif one.change.kind in ("ttft", "tpot"):
                if one.change.name not in fixed:
                    idle.setdefault(one.change.name, []).append(one.change.kind.upper())
            elif one.change.kind in ("stock", "max_replicas"):
                yield f"{self._bound(one.change)} would save nothing{proof}."
        if idle:
            names = _several(f"{name} ({', '.join(targets)})" for name, targets in idle.items())
            yield f"Targets {100 * (LOOSER - 1):.0f}% looser would save nothing for {names}."
        if fixed:
            names = _several(sorted(fixed))
            yield f"What looser targets would save for {names} is not known: throughputs were measured at one SLO."

    def _bound(self, change: Change) -> str:
        name = change.name
        match change.kind:
            case "stock":
                used = self._all_used(name, change.now)
                return f"{_started(used)}; one more"
            case "max_replicas":
                return f"{name} has its maxReplicas of {change.now:.0f}; one more"
            case "min_replicas":
                return f"{name} is kept at its minReplicas of {change.now:.0f}; without it the fleet"
            case "survivability":
                kept = f"{percent(change.now)} of its load when any one Spot pool is lost"
                return f"{name} must keep {kept}; without this the fleet"
            case "ttft" | "tpot" | "slo":
                looser = f"{100 * (change.to - 1):.0f}% looser"
                return f"{change.kind.upper()} binds {name}: {looser} ({self._target(change)})"
            case "budget":
                return f"The budget of {_money(change.now)}; {_money(change.to)}"

    def _target(self, change: Change) -> str:
        """`1000 ms → 1100 ms`, for both parts of a TTFT target."""
        return ", per 1000 input tokens ".join(" → ".join(part[1:]) for part in self._parts(change))

    def _loosened(self, change: Change) -> str:
        (name, now, to), *others = self._parts(change)
        first = f"slo.{name} of {change.name} from {now} to {to}"
        return " and ".join([first, *(f"slo.{name} from {now} to {to}" for name, now, to in others)])

    def _parts(self, change: Change) -> Iterator[tuple[str, str, str]]:
        """(field, now, to) of a target's parts."""
        slo = self.slos[change.name]
        targets = {
            "ttft": slo.ttft_seconds_base,
            "ttftPerThousandInputTokens": slo.ttft_seconds_per_1k_input,
            "tpot": slo.tpot_seconds,
        }
        for name, target in targets.items():
            if target > 0 and (change.kind == "slo" or name.startswith(change.kind)):
                yield name, _time(longer(target, change.now)), _time(longer(target, change.to))

    # the next best

    def alternatives(self, alternatives: Iterable[Alternative]) -> Iterator[str]:
        for index, one in enumerate(alternatives):
            without = f"without {_without(one.without, one.gpu)}"
            proof = "" if one.proven else " (not proven)"
            if one.cost_per_hour is None:
                yield f"{_started(without)} not all of {_several(one.unserved)} can {self._verb(one.unserved)}{proof}."
                continue
            nodes = _several(f"{_count(node.nodes, 'node')} of {node.pool}" for node in one.nodes)
            more = f"{_money(one.extra_per_hour)} more" if one.extra_per_hour >= _NOTHING else "no more"
            start = f"The next best is {without}" if index == 0 else _started(without)
            yield f"{start}: {_money(one.cost_per_hour)} per hour, {more}{proof}, with {nodes}."

    def _verb(self, models: Iterable[str]) -> str:
        """Replicas without traffic only run."""
        rates = {model.name: model.rate for model in self.problem.models}
        return "be served" if any(rates[name] for name in models) else "run"

    # why there

    def reasons(self, found: Explanation) -> Iterator[str]:
        if found.choices:
            yield (
                "Sizes are input+output tokens. Prices are per million tokens of a replica that is kept busy; "
                "in brackets is what limits its rate."
            )
        for model in self.problem.models:
            mine = [one for one in found.choices if one.model == model.name]
            if not mine:
                continue
            sizes = sum(load.rate > 0 for load in model.buckets)
            yield f"{model.name}" + (f" (the {len(mine)} most frequent of {sizes} sizes)" if sizes > len(mine) else "")
            yield from (f"  {one.bucket}, {significant(one.rate)}/s: {self._choice(one)}" for one in mine)
            yield from (f"  {line}" for line in self._together(mine, found.placements))

    def _choice(self, choice: Choice) -> str:
        used = sorted((one for one in choice.options if one.share > 0), key=lambda one: _ORDER[one.role])
        whole = [one for one in choice.options if one.share == 0 and one.role == "aggregated"]
        able = [one for one in whole if one.within_slo and one.rate > 0]
        lacking = {one.gpu: one for one in whole[::-1] if not (one.within_slo or _too_large(one))}
        left = 1 - sum(one.share for one in used if one.role != "decode")
        parts = [", ".join([*map(self._used, used), *_left(left)]) + _both(used)]
        if able:
            parts.append("could run on " + _several(f"{self._named(one)} at {_price(one)}" for one in able))
        if lacking:
            parts.append(
                "not on " + _several(f"{gpu} ({_lack(one.shortfall)})" for gpu, one in sorted(lacking.items()))
            )
        return "; ".join(parts)

    def _used(self, one: Option) -> str:
        share = "" if one.share > 0.9995 else f"{percent(one.share)} "
        outside = "" if one.within_slo else ", outside the SLO"
        limit = f" ({_LIMITS[one.limited_by]})" if one.limited_by else ""
        return f"{share}{self._named(one)} at {_price(one)}{limit}{outside}"

    def _named(self, one: Option) -> str:
        """`A100-80GB TP2`; with the pool where several have this type."""
        alike = [pool for pool in self.problem.pools if pool.gpu == one.gpu]
        pool = f" of {one.pool}" if len(alike) > 1 else ""
        role = "" if one.role == "aggregated" else f"{one.role} on "
        return f"{role}{one.gpu}{pool}" + (f" TP{one.tensor_parallel}" if one.tensor_parallel > 1 else "")

    def _together(self, choices: Sequence[Choice], placements: Iterable[Placement]) -> Iterator[str]:
        """What holds for all sizes of a model: what is too small, what would be cheaper, what a move would cost."""
        large = {one.gpu: one for choice in choices for one in choice.options if _too_large(one) and one.share == 0}
        able = {one.gpu for choice in choices for one in choice.options if one.rate > 0}
        if small := [f"{gpu} ({_lack(one.shortfall)})" for gpu, one in sorted(large.items()) if gpu not in able]:
            yield f"Its weights do not fit on {_several(small)}."
        own = {one.pool for choice in choices for one in choice.options if one.share > 0}
        full = {one.pool: one.nodes for one in self.plan.nodes if one.nodes == self._most(one.pool)}
        cheaper = _cheaper(choices)
        scarce = sorted(cheaper.keys() & full.keys() - own)
        for pool in scarce:
            yield f"{self._named(cheaper[pool])} would be cheaper per token, but {self._all_used(pool, full[pool])}."
        rest = [self._named(cheaper[pool]) for pool in sorted(cheaper) if pool not in scarce]
        if rest and self.plan.proven:
            yield f"Kept busy, {_several(rest)} would be cheaper per token, but the fleet as a whole would not be."
        for one in placements:
            if one.model == choices[0].model:
                yield _moved(one)

    def _all_used(self, pool: str, nodes: float) -> str:
        return (
            f"the only node of pool {pool} is in use"
            if nodes == 1
            else f"all {nodes:.0f} nodes of pool {pool} are in use"
        )

    def _most(self, pool: str) -> int:
        return next(one.max_nodes for one in self.problem.pools if one.name == pool)

    # what is not served

    def together(self, remedy: Remedy | None) -> Iterator[str]:
        if remedy:
            yield f"Enough for all models together would be to {self._remedy(remedy)}."

    def conflicts(self, found: Iterable[Conflict]) -> Iterator[str]:
        for one in found:
            yield from self._conflict(one)

    def _conflict(self, one: Conflict) -> Iterator[str]:
        sizes = _several(map(str, one.buckets))
        yield f"{one.model}: {significant(one.rate)}/s of {sizes}" if one.rate else f"{one.model}: its minReplicas"
        if one.limits is None:
            yield "  What is in the way was not found out."
        elif one.limits:
            several = "Each of these alone keeps it out" if one.each else "These cannot all stay"
            start = several if len(one.limits) > 1 else "In the way"
            yield f"  {start}: {'; '.join(map(self._limit, one.limits))}."
        if not one.limits or not one.remedies:
            yield f"  {_started(one.reason)}."
        for index, remedy in enumerate(one.remedies):
            yield f"  {'Or' if index else 'Enough would be to'} {self._remedy(remedy)}."

    def _limit(self, limit: Limit) -> str:
        match limit.kind:
            case "stock":
                return f"at most {_count(limit.value, 'node')} of pool {limit.name}"
            case "budget":
                return f"the budget of {_money(limit.value)} per hour"
            case "max_replicas":
                return f"its maxReplicas of {limit.value:.0f}"
            case "survivability":
                return f"its survivability of {limit.value:g}"
            case "slo":
                return "its latency targets"
            case "others":
                return f"the load of {_several(limit.models)}{self._first(limit)}"

    def _first(self, limit: Limit) -> str:
        priority = {model.name: model.priority for model in self.problem.models}
        higher = [name for name in limit.models if priority[name] > priority[limit.name]]
        if len(higher) < len(limit.models):
            return f" ({_several(higher)} first, by priority)" if higher else ""
        return ", which goes first by priority"

    def _remedy(self, remedy: Remedy) -> str:
        changes = " and ".join(map(self._change, remedy.changes))
        less = "" if remedy.least else "; less may be enough"
        return f"{changes} (the fleet would then cost {_money(remedy.cost_per_hour)} per hour{less})"

    def _change(self, change: Change) -> str:
        match change.kind:
            case "stock":
                return f"raise maxNodes of pool {change.name} from {change.now:.0f} to {change.to:.0f}"
            case "budget":
                return f"raise the budget from {_money(change.now)} to {_money(change.to)} per hour"
            case "max_replicas":
                return f"raise maxReplicas of {change.name} from {change.now:.0f} to {change.to:.0f}"
            case "min_replicas":
                return f"lower minReplicas of {change.name} from {change.now:.0f} to {change.to:.0f}"
            case "survivability":
                return f"lower survivability of {change.name} from {change.now:g} to {change.to:g}"
            case "ttft" | "tpot" | "slo":
                return f"loosen {self._loosened(change)}"


def _both(used: Iterable[Option]) -> str:
    """What the two roles of a split route cost together."""
    split = [one for one in used if one.role != "aggregated"]
    prefilled = sum(one.share for one in split if one.role == "prefill")
    total = sum(one.share * (one.cost_per_million_tokens or 0.0) for one in split)
    return f" (prefill and decode together {total / prefilled:.3g})" if prefilled else ""


def _left(share: float) -> list[str]:
    return [] if share < 1e-6 else ["not served"] if share > 1 - 1e-6 else [f"{percent(share)} not served"]


def _price(option: Option) -> str:
    return f"{option.cost_per_million_tokens:.3g}"


def _too_large(option: Option) -> bool:
    return option.shortfall is not None and option.shortfall.kind == "memory"


def _cheaper(choices: Iterable[Choice]) -> dict[str, Option]:
    """By pool, what would serve a size for less per token than what the plan uses for it."""
    found: dict[str, Option] = {}
    for choice in choices:
        whole = [one for one in choice.options if one.role == "aggregated" and one.cost_per_million_tokens is not None]
        dearest = max((one.cost_per_million_tokens or 0.0 for one in whole if one.share > 0), default=0.0)
        for one in whole:
            if one.share == 0 and one.within_slo and (one.cost_per_million_tokens or 0.0) < dearest * 0.999:
                found[one.pool] = one
    return found


def _moved(one: Placement) -> str:
    if one.extra_per_hour is None:
        return f"It cannot leave {one.gpu}: not all of it could be served."
    extra = f"{_money(one.extra_per_hour)} per hour" if one.extra_per_hour >= _NOTHING else "nothing"
    return f"Moving it off {one.gpu} would cost {extra}{'' if one.proven else ' (not proven)'}."


def _lack(shortfall: Shortfall | None) -> str:
    match shortfall:
        case Shortfall("ttft" | "tpot"):
            found = f"{shortfall.kind.upper()} {_time(shortfall.needed)}"
            target = f"target {_time(shortfall.available)}"
            if shortfall.needed <= shortfall.available:
                return f"{found} once two requests meet, {target} missed too often"
            return f"{found} at best, {target}"
        case Shortfall("memory"):
            return f"{shortfall.needed:.0f} GiB per GPU, {shortfall.available:.0f} usable"
        case Shortfall("kv"):
            return f"KV memory holds {shortfall.available:.0f} tokens"
        case Shortfall("context"):
            return f"context limit {shortfall.available:.0f}"
        case Shortfall("dtype"):
            return "neither BF16 nor FP8"
        case Shortfall("heads"):
            return f"heads do not split over {shortfall.needed:.0f} GPUs"
    return "no profile" if shortfall else "no room on a node"


def _without(what: str, gpu: str) -> str:
    return {"disaggregation": "splitting prefill and decode", "spot": "Spot nodes"}.get(what, gpu)


_KINDS = {
    "stock": "one more node of",
    "max_replicas": "one more replica of",
    "min_replicas": "no minimum of replicas of",
    "survivability": "no survivability of",
    "ttft": "a looser TTFT of",
    "tpot": "a looser TPOT of",
}


def _asked(question: Question) -> str:
    match question.about:
        case "change":
            return f"{_KINDS[question.detail]} {question.name}"
        case "alternative":
            return f"the plan without {_without(question.detail, question.name)}"
        case "placement":
            return f"{question.name} without {question.detail}"
        case "conflict":
            return f"what is in the way of {question.name}"
        case "remedy":
            return f"what else would help {question.name or 'all models'}"
