"""What an Explanation says, in sentences for people who run a platform. All its words are made here; what they say was
solved elsewhere, and nothing is computed here but units."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import ceil, inf

from motley_solver.choices import Choice, Option
from motley_solver.conflicts import Conflict, Limit, Remedy
from motley_solver.explain import LOOSER, Alternative, Explanation, Placement, Saving
from motley_solver.plan import Plan
from motley_solver.problem import Problem, Shortfall, Slo
from motley_solver.whatif import Change, Question

_NAMED = 6
"""So many of a kind are named in a sentence; the rest is counted, and listed in JSON."""


def sections(
    found: Explanation, problem: Problem, plan: Plan, slos: Mapping[str, Slo]
) -> Iterator[tuple[str, list[str]]]:
    """(title, lines) in the order in which a person asks; `slos` by model."""
    words = _Words(problem, plan, slos)
    yield "Not served, and what would help", [line for one in found.conflicts for line in words.conflict(one)]
    yield "What binds", list(words.savings(found.savings))
    yield "Next best plan", [words.alternative(one) for one in found.alternatives]
    title = "Why there: cost per million tokens of a busy replica, and in brackets what limits it"
    yield title, list(words.reasons(found))
    yield f"Not answered in {found.seconds:.0f} s", [_several(map(_asked, found.unanswered))] * bool(found.unanswered)


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


def _count(number: float, noun: str) -> str:
    return f"{number:.0f} {noun}" if number == 1 else f"{number:.0f} {noun}s"


_LIMITS = {"ttft": "TTFT", "tpot": "TPOT", "engine": "speed and memory"}


@dataclass(frozen=True)
class _Words:
    problem: Problem
    plan: Plan
    slos: Mapping[str, Slo]

    # what binds

    def savings(self, savings: Iterable[Saving]) -> Iterator[str]:
        nothing: list[str] = []
        for one in sorted(savings, key=lambda one: -one.per_hour):
            proof = "" if one.proven else " (not proven)"
            if one.per_hour < 1e-4:
                if one.change.kind in ("ttft", "tpot"):
                    nothing.append(f"{one.change.kind.upper()} of {one.change.name}")
                elif one.change.kind in ("stock", "max_replicas"):
                    yield f"{self._bound(one.change)} would save nothing{proof}."
                continue
            yield f"{self._bound(one.change)} would save {_money(one.per_hour)} per hour{proof}."
        if nothing:
            yield f"{100 * (LOOSER - 1):.0f}% looser would save nothing: {_several(nothing)}."

    def _bound(self, change: Change) -> str:
        name = change.name
        match change.kind:
            case "stock":
                used = "The only node" if change.now == 1 else f"All {change.now:.0f} nodes"
                return f"{used} of pool {name} {'is' if change.now == 1 else 'are'} in use; one more"
            case "max_replicas":
                return f"{name} has its maxReplicas of {change.now:.0f}; one more"
            case "min_replicas":
                return f"{name} is kept at its minReplicas of {change.now:.0f}; without a minimum it"
            case "survivability":
                return (
                    f"{100 * change.now:.3g}% of {name} must survive the loss of any spot pool; without this, the plan"
                )
            case "ttft" | "tpot":
                percent = f"{100 * (change.to - 1):.0f}% looser"
                return f"{change.kind.upper()} binds {name}: {percent} ({self._target(change)})"
            case "budget":
                return f"The budget of {_money(change.now)}; {_money(change.to)}"

    def _target(self, change: Change) -> str:
        """`1000 ms → 1100 ms`, for both parts of a TTFT target."""
        slo = self.slos[change.name]
        parts = [slo.tpot_seconds] if change.kind == "tpot" else [slo.ttft_seconds_base, slo.ttft_seconds_per_1k_input]
        shown = [f"{_time(longer(part, change.now))} → {_time(longer(part, change.to))}" for part in parts if part]
        return " and per 1000 input tokens ".join(shown)

    # the next best

    def alternative(self, one: Alternative) -> str:
        without = f"Without {one.gpu}" if one.gpu else "Without splitting prefill and decode"
        proof = "" if one.proven else " (not proven)"
        if one.cost_per_hour is None:
            return f"{without} not everything is served: {_several(one.unserved)}{proof}."
        nodes = _several(f"{_count(node.nodes, 'node')} of {node.pool}" for node in one.nodes)
        more = f"{_money(one.extra_per_hour)} more" if one.extra_per_hour >= 1e-4 else "as good"
        return f"{without}: {_money(one.cost_per_hour)} per hour, {more}{proof} ({nodes})."

    # why there

    def reasons(self, found: Explanation) -> Iterator[str]:
        for model in self.problem.models:
            mine = [one for one in found.choices if one.model == model.name]
            if not mine:
                continue
            left = len([load for load in model.buckets if load.rate > 0]) - len(mine)
            yield f"{model.name}:" + (f" (its {len(mine)} largest sizes of {left + len(mine)})" if left else "")
            yield from (f"  {one.bucket}, {one.rate:.3g}/s: {self._choice(one)}" for one in mine)
            if reason := self._reason(mine, [one for one in found.placements if one.model == model.name]):
                yield f"  {reason}"

    def _choice(self, choice: Choice) -> str:
        used = [one for one in choice.options if one.share > 0]
        able = [one for one in choice.options if one.share == 0 and one.within_slo and one.rate > 0]
        unable = [one for one in choice.options if one.share == 0 and not one.within_slo]
        parts = [", ".join(map(self._used, used)) or "not served"]
        if able:
            parts.append("else " + _several(f"{self._named(one)} {one.cost_per_million_tokens:.3g}" for one in able))
        if unable:
            nearest = {one.gpu: one for one in reversed(unable)}
            parts.append(
                "cannot: " + _several(f"{gpu} ({_lack(one.shortfall)})" for gpu, one in sorted(nearest.items()))
            )
        return "; ".join(parts)

    def _used(self, one: Option) -> str:
        share = "" if one.share > 0.9995 else f"{100 * one.share:.0f}% "
        outside = "" if one.within_slo else ", outside the SLO"
        limit = f" ({_LIMITS[one.limited_by]})" if one.limited_by else ""
        return f"{share}{self._named(one)} at {one.cost_per_million_tokens:.3g}{limit}{outside}"

    def _named(self, one: Option) -> str:
        """`A100-80GB TP2`; with the pool where several have this type."""
        alike = [pool for pool in self.problem.pools if pool.gpu == one.gpu]
        pool = f" of {one.pool}" if len(alike) > 1 else ""
        role = "" if one.role == "aggregated" else f"{one.role} on "
        return f"{role}{one.gpu}{pool}" + (f" TP{one.tensor_parallel}" if one.tensor_parallel > 1 else "")

    def _reason(self, choices: Iterable[Choice], placements: Iterable[Placement]) -> str:
        cheaper: dict[str, str] = {}
        for choice in choices:
            worst = max(
                (_cost(one) for one in choice.options if one.share > 0 and one.role == "aggregated"), default=0.0
            )
            for one in choice.options:
                if one.share == 0 and one.within_slo and one.role == "aggregated" and _cost(one) < worst * 0.999:
                    cheaper[one.pool] = self._named(one)
        full = {one.pool: one.nodes for one in self.plan.nodes if one.nodes == self._most(one.pool)}
        parts = [f"all {_count(full[pool], 'node')} of {pool} are in use" for pool in cheaper if pool in full]
        if free := [name for pool, name in cheaper.items() if pool not in full]:
            parts.append(f"{_several(free)} would be cheaper per token, but whole nodes of it would not")
        parts += [_moved(one) for one in placements]
        text = "; ".join(parts)
        return f"{text[0].upper()}{text[1:]}." if text else ""

    def _most(self, pool: str) -> int:
        return next(one.max_nodes for one in self.problem.pools if one.name == pool)

    # what is not served

    def conflict(self, one: Conflict) -> Iterator[str]:
        sizes = _several(map(str, one.buckets))
        rate = f"{one.rate:.3g}/s of " if one.rate else ""
        yield f"{one.model}: {rate}{sizes}"
        if one.limits is None:
            yield "  What is in the way was not found out in time."
        elif one.limits:
            together = "In the way, all together: " if len(one.limits) > 1 else "In the way: "
            yield f"  {together}{'; '.join(map(self._limit, one.limits))}."
        else:
            yield f"  {one.reason[0].upper()}{one.reason[1:]}."
        for index, remedy in enumerate(one.remedies):
            yield f"  {'Or' if index else 'Enough would be to'} {self._remedy(remedy)}."

    def _limit(self, limit: Limit) -> str:
        match limit.kind:
            case "stock":
                return f"pool {limit.name} may have only {_count(limit.value, 'node')}"
            case "budget":
                return f"the budget is {_money(limit.value)} per hour"
            case "max_replicas":
                return f"maxReplicas is {limit.value:.0f}"
            case "survivability":
                return f"{100 * limit.value:.3g}% must survive the loss of any spot pool"
            case "slo":
                return "its latency targets: without them it would fit"
            case "others":
                return f"{_several(limit.models)} {'need' if len(limit.models) > 1 else 'needs'} capacity too{self._first(limit)}"

    def _first(self, limit: Limit) -> str:
        priority = {model.name: model.priority for model in self.problem.models}
        higher = [name for name in limit.models if priority[name] > priority[limit.name]]
        return f" and {_several(higher)} {'have' if len(higher) > 1 else 'has'} a higher priority" if higher else ""

    def _remedy(self, remedy: Remedy) -> str:
        changes = " and ".join(map(self._change, remedy.changes))
        return f"{changes}: the fleet would cost {_money(remedy.cost_per_hour)} per hour"

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
            case "ttft" | "tpot":
                return f"loosen slo.{change.kind} of {change.name}: {self._target(change)}"


def _cost(option: Option) -> float:
    return inf if option.cost_per_million_tokens is None else option.cost_per_million_tokens


def _moved(one: Placement) -> str:
    if one.extra_per_hour is None:
        return f"without {one.gpu} it cannot be served whole"
    extra = f"{_money(one.extra_per_hour)} more" if one.extra_per_hour >= 1e-4 else "nothing more"
    return f"without {one.gpu} the fleet would cost {extra}{'' if one.proven else ' (not proven)'}"


def _lack(shortfall: Shortfall | None) -> str:
    match shortfall:
        case Shortfall("ttft" | "tpot"):
            return f"{shortfall.kind.upper()} {_time(shortfall.needed)} at best, target {_time(shortfall.available)}"
        case Shortfall("memory"):
            return f"weights of {shortfall.needed:.0f} GiB per GPU, {shortfall.available:.0f} usable"
        case Shortfall("kv"):
            return f"KV memory holds {shortfall.available:.0f} tokens"
        case Shortfall("context"):
            return f"context limit {shortfall.available:.0f}"
    return "no profile" if shortfall else "no room on a node"


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
            return f"the plan without {question.name or 'splitting prefill and decode'}"
        case "placement":
            return f"{question.name} without {question.detail}"
        case "conflict":
            return f"what is in the way of {question.name}"
        case "remedy":
            return f"what would help {question.name}"
