"""The check accepts a good plan and says of every broken promise which one it is."""

from collections.abc import Callable
from dataclasses import replace
from math import inf, nan
from typing import Any

import pytest

from motley_solver.check import violations
from motley_solver.plan import Assignment, Comparison, Plan, Survival, Unserved
from motley_solver.problem import EngineSettings, Problem, Running
from motley_solver.workload import Bucket, BucketLoad
from tests.solver.fleets import LONG, SHORT, configuration, model, pool, problem
from tests.solver.plans import plan_by_hand

RARE = Bucket(100_000, 500)  # without traffic


def question() -> Problem:
    """`chat` is aggregated and partly on spot nodes; `code` goes from A100 to H100 and is not served whole."""
    h100 = configuration("H100", {SHORT: 4.0, LONG: 1.0, RARE: 0.1}, tensor_parallel=4)
    l4 = configuration("L4", {SHORT: 1.0, LONG: 0.0, RARE: 0.0}, best_effort={LONG: 0.4})
    prefill = replace(configuration("A100", {SHORT: 2.0}), role="prefill", kv_class="fp8")
    decode = replace(configuration("H100", {SHORT: 1.0}), role="decode", kv_class="fp8")
    lone = replace(decode, key="lone", kv_class="int8")
    models = [
        replace(
            model("chat", {SHORT: 3.0, LONG: 1.0, RARE: 0.0}, h100, l4, max_replicas=5, attainment=0.9),
            survivability=0.5,
        ),
        model("code", {SHORT: 2.0}, prefill, decode, lone, min_replicas=3),
    ]
    pools = [
        replace(pool("H100", 10.0, 2, gpus=8), fabric="rack", reserved_nodes=1),
        replace(pool("L4", 1.0, 4), interruptions_per_hour=0.2),
        replace(pool("A100", 4.0, 1, gpus=2), fabric="rack"),
        replace(pool("T4", 0.5, 3), reserved_nodes=2),
    ]
    asked = problem(models, pools, budget=40.0)
    return replace(asked, running=(Running("test/chat", "L4", "L4-tp1", 1),), start_hours=0.1, horizon_hours=0.5)


def route(name: str, bucket: Bucket, key: str, share: float, within_slo: bool = True, role: Any = "aggregated") -> Any:
    return Assignment(f"test/{name}", bucket, key, share, within_slo, role)


CHAT = (
    route("chat", SHORT, "H100-tp4", 0.2),
    route("chat", SHORT, "L4-tp1", 0.8),
    route("chat", LONG, "H100-tp4", 0.7),
    route("chat", LONG, "L4-tp1", 0.3, within_slo=False),
    route("chat", RARE, "H100-tp4", 1.0),
)
CODE = (
    route("code", SHORT, "A100-tp1", 0.9, role="prefill"),
    route("code", SHORT, "H100-tp1", 0.9, role="decode"),
)
LOST = Survival("L4", (route("chat", SHORT, "H100-tp4", 0.5), route("chat", LONG, "H100-tp4", 0.5)))
PLACES = {
    ("test/chat", "H100-tp4", "H100"): 1,
    ("test/chat", "L4-tp1", "L4"): 4,
    ("test/code", "A100-tp1", "A100"): 1,
    ("test/code", "H100-tp1", "H100"): 2,
}


def good() -> Plan:
    left = (Unserved("test/code", SHORT, 0.2, "not enough A100"),)
    nodes = {"H100": 1, "L4": 4, "A100": 1}
    plan = plan_by_hand(question(), PLACES, nodes, (*CHAT, *CODE), left, (LOST,))
    weighed = (
        replace(plan.models[0], cost_per_hour=4.0 + 10.0 * 4 / 6),  # of six GPUs on the H100 node four are its
        replace(plan.models[1], cost_per_hour=4.0 + 10.0 * 2 / 6),
    )
    return replace(plan, models=weighed, comparisons=(Comparison("H100", 50.0), Comparison("L4", None, "too small")))


def test_a_good_plan_has_no_violations() -> None:
    assert violations(question(), good()) == ()
    assert good().cost_per_hour == 10 + 4 + 4 + 2 * 0.5


def changed(part: str, index: int, **fieldwise: Any) -> Callable[[Plan], Plan]:
    def change(plan: Plan) -> Plan:
        items = list(getattr(plan, part))
        items[index] = replace(items[index], **fieldwise)
        return set_to(**{part: tuple(items)})(plan)

    return change


def added(part: str, *items: Any) -> Callable[[Plan], Plan]:
    return lambda plan: replace(plan, **{part: getattr(plan, part) + items})


def without(part: str, index: int) -> Callable[[Plan], Plan]:
    return lambda plan: replace(plan, **{part: getattr(plan, part)[:index] + getattr(plan, part)[index + 1 :]})


def set_to(**fieldwise: Any) -> Callable[[Plan], Plan]:
    return lambda plan: replace(plan, **fieldwise)


def lost(*routes: Assignment, name: str = "L4") -> Callable[[Plan], Plan]:
    return set_to(survivals=(Survival(name, routes),))


OTHER = EngineSettings(1, 1, 1)
SPOT_LONG = route("chat", LONG, "L4-tp1", 0.5, within_slo=False)

TAMPERED: dict[str, tuple[Callable[[Plan], Plan], str]] = {
    # names
    "nodes of an unknown pool": (changed("nodes", 0, pool="moon"), "nodes of an unknown pool moon"),
    "a pool left out": (without("nodes", 3), "pool T4 is listed 0 times"),
    "a pool twice": (lambda p: added("nodes", p.nodes[0])(p), "pool H100 is listed 2 times"),
    "an allocation in an unknown pool": (changed("allocations", 0, pool="moon"), "not one of the problem's conf"),
    "an allocation where it cannot run": (changed("allocations", 0, pool="L4"), "not one of the problem's conf"),
    "an allocation of an unknown model": (changed("allocations", 0, model="test/x"), "not one of the problem's conf"),
    "a route of an unknown bucket": (changed("assignment", 0, bucket=Bucket(1, 1)), "to an unknown H100-tp4"),
    "a route to an unknown configuration": (changed("assignment", 0, configuration="x"), "to an unknown x"),
    "an unknown pool lost": (lost(name="moon"), "an unknown pool moon is lost"),
    "an unknown route in a survival": (lost(route("chat", SHORT, "x", 1.0)), "to an unknown x"),
    "an unknown model unserved": (changed("unserved", 0, model="test/x"), "unknown model test/x is unserved"),
    "an unknown bucket unserved": (changed("unserved", 0, bucket=RARE), "an unknown test/code 100000+500 is unserved"),
    "a model's part left out": (without("models", 0), "not one for each"),
    "a model's part twice": (lambda p: added("models", p.models[0])(p), "not one for each"),
    # numbers
    "half a node": (changed("nodes", 0, nodes=1.5), "1.5 nodes"),
    "nodes that are no number": (changed("nodes", 0, nodes=nan), "nan nodes"),
    "half a replica": (changed("allocations", 0, replicas=1.5), "1.5 replicas"),
    "no replica": (changed("allocations", 0, replicas=0), "0 replicas"),
    "infinite replicas": (changed("allocations", 0, replicas=inf), "inf replicas"),
    "an unserved rate that is no number": (changed("unserved", 0, rate=nan), "nan req/s are unserved"),
    "a negative unserved rate": (changed("unserved", 0, rate=-0.2), "-0.2 req/s are unserved"),
    "a bound that is no number": (set_to(lower_bound=nan), "the lower bound is nan"),
    "an infinite bound": (set_to(lower_bound=-inf), "the lower bound is -inf"),
    "a negative time": (set_to(solve_seconds=-1.0), "within -1.0 s"),
    # replicas and nodes
    "another GPU": (changed("allocations", 0, gpu="T4"), "described otherwise"),
    "another role": (changed("allocations", 0, role="decode"), "described otherwise"),
    "other engine settings": (changed("allocations", 0, settings=OTHER), "described otherwise"),
    "an estimate not said": (changed("allocations", 0, estimated=True), "described otherwise"),
    "an allocation twice": (lambda p: added("allocations", p.allocations[0])(p), "is allocated twice"),
    "nodes beyond the stock": (changed("nodes", 0, nodes=3), "3 nodes, allowed are 0 to 2"),
    "a negative number of nodes": (changed("nodes", 0, nodes=-1), "-1 nodes, allowed"),
    "a node too few": (changed("nodes", 1, nodes=3), "pool L4: its replicas do not fit on 3 nodes"),
    "a node for nothing": (changed("nodes", 3, nodes=1), "nothing stands on them"),
    "too many replicas": (changed("allocations", 1, replicas=5), "at most 5 are allowed"),
    "too few replicas": (
        lambda p: without("unserved", 0)(changed("allocations", 3, replicas=1)(p)),
        "at least 3 are asked for",
    ),
    "nothing unserved": (added("unserved", Unserved("test/chat", RARE, 0.0, "")), "nothing of it is missing"),
    # routes
    "a negative share": (changed("assignment", 0, share=-0.2), "a share of -0.2"),
    "a share above 1": (changed("assignment", 0, share=1.2), "a share of 1.2"),
    "a share that is no number": (changed("assignment", 0, share=nan), "a share of nan"),
    "a route of another role": (changed("assignment", 5, role="decode"), "A100-tp1 is for prefill, not for decode"),
    "a route that is said to be within the SLO": (changed("assignment", 3, within_slo=True), "cannot serve it as"),
    "a route twice": (lambda p: added("assignment", p.assignment[0])(p), "is assigned to H100-tp4 twice"),
    "a share left out": (without("assignment", 0), "0.8 served and 0 unserved do not add up to 1"),
    "less unserved than is left": (changed("unserved", 0, rate=0.1), "0.9 served and 0.05 unserved do not add up"),
    "something served and unserved": (
        added("unserved", Unserved("test/chat", SHORT, 1.0, "no")),
        "1 served and 0.333333 unserved do not add up to 1",
    ),
    "no route for what may come": (without("assignment", 4), "its routes add up to 0, not to 1"),
    "half a route for what may come": (changed("assignment", 4, share=0.5), "its routes add up to 0.5, not to 1"),
    "a worse route for what may come": (changed("assignment", 4, within_slo=False), "outside the SLO and is not"),
    "prefilled and never decoded": (without("assignment", 6), "in rack fp8 differ by 0.9"),
    "decoded by another KV class": (changed("assignment", 6, configuration="lone"), "in rack int8 differ by 0.9"),
    "too much outside the SLO": (
        lambda p: changed("assignment", 2, share=0.5)(changed("assignment", 3, share=0.5)(p)),
        "0.5 req/s are outside the SLO, allowed are 0.4",
    ),
    "work for no replica": (without("allocations", 2), "requests are assigned to A100-tp1, which has no replica"),
    "too much work": (changed("allocations", 1, replicas=3), "has the work of 3.15 replicas and 3 replicas"),
    # when a spot pool is lost
    "no evidence": (set_to(survivals=()), "without pool L4: test/chat 500+250: 0 is served, the floor is 0.5"),
    "evidence twice": (lambda p: added("survivals", LOST)(p), "the loss of pool L4 is described twice"),
    "evidence for what has no floor": (added("survivals", Survival("A100", ())), "pool A100 strikes no floor"),
    "a bucket below the floor": (
        lost(LOST.assignment[0], replace(LOST.assignment[1], share=0.4)),
        "without pool L4: test/chat 8000+500: 0.4 is served, the floor is 0.5",
    ),
    "a survival on what is lost": (lost(LOST.assignment[0], SPOT_LONG), "without pool L4: test/chat: requests are"),
    "a survival with too much work": (
        lost(LOST.assignment[0], replace(LOST.assignment[1], share=0.7)),
        "without pool L4: test/chat: H100-tp4 has the work of 1.075 replicas and 1 replicas",
    ),
    "a survival outside the SLO": (lost(LOST.assignment[0], SPOT_LONG), "0.5 req/s are outside the SLO"),
    "a survival of who is not there": (lost(*LOST.assignment, *CODE), "test/code has no replica or no floor there"),
    "a survival that is never decoded": (
        lost(*LOST.assignment, CODE[0]),
        "without pool L4: test/code 500+250: prefill",
    ),
    "a survival that is no number": (lost(route("chat", SHORT, "H100-tp4", nan)), "a share of nan"),
    # figures
    "another price": (changed("nodes", 0, price_per_node_hour=1.0), "the price is not the problem's"),
    "reserved nodes not said": (changed("nodes", 3, reserved=0), "0 nodes are said to be reserved, 2 are"),
    "a wrong bill": (set_to(cost_per_hour=18.0), "the nodes cost 19.000000 per hour, the plan says 18"),
    "a bill without reserved nodes": (set_to(cost_per_hour=18.0), "the nodes cost 19"),
    "a bill that is no number": (set_to(cost_per_hour=nan), "the plan says nan"),
    "a wrong cost of switching": (set_to(switching_per_hour=0.0), "switching costs 2.500000 per hour, the plan says 0"),
    "a wrong cost of risk": (set_to(risk_per_hour=0.0), "the risk costs 0.080000 per hour, the plan says 0"),
    "a wrong objective": (set_to(objective=19.0), "bill, switching and risk are 21.580000"),
    "a bound above the objective": (set_to(lower_bound=22.0), "the lower bound 22.000000 is above the objective"),
    "other replicas of a model": (changed("models", 0, replicas=4), "4 replicas, estimated False, is not what"),
    "an estimate not summed up": (changed("models", 0, estimated=True), "estimated True, is not what is allocated"),
    "another rate of a model": (changed("models", 0, rate=5.0), "test/chat: rate is 4, the plan says 5"),
    "more served by a model": (changed("models", 1, served=2.0), "test/code: served is 1.8, the plan says 2"),
    "more within the SLO": (changed("models", 0, within_slo=4.0), "within the SLO is 3.7, the plan says 4"),
    "another cost of a model": (changed("models", 0, cost_per_hour=1.0), "cost per hour is 10.6667, the plan says 1"),
    "an unknown GPU compared": (changed("comparisons", 0, gpu="moon"), "a comparison with an unknown moon"),
    "a GPU compared twice": (changed("comparisons", 0, gpu="L4"), "L4 is compared twice"),
    "a comparison without a word": (changed("comparisons", 1, reason=""), "has neither a cost nor a reason"),
    "a comparison that is no number": (changed("comparisons", 0, cost_per_hour=nan), "H100 has a cost of nan"),
}


@pytest.mark.parametrize("name", TAMPERED)
def test_a_tampered_plan_is_refused(name: str) -> None:
    tamper, expected = TAMPERED[name]
    found = violations(question(), tamper(good()))
    assert any(expected in sentence for sentence in found), found


def pools_changed(index: int, **fieldwise: Any) -> Callable[[Problem], Problem]:
    def change(asked: Problem) -> Problem:
        pools = list(asked.pools)
        pools[index] = replace(pools[index], **fieldwise)
        return replace(asked, pools=tuple(pools))

    return change


def chat_changed(**fieldwise: Any) -> Callable[[Problem], Problem]:
    return lambda asked: replace(asked, models=(replace(asked.models[0], **fieldwise), asked.models[1]))


def asked_with(**fieldwise: Any) -> Callable[[Problem], Problem]:
    return lambda asked: replace(asked, **fieldwise)


ASKED_OTHERWISE: dict[str, tuple[Callable[[Problem], Problem], str]] = {
    "a smaller budget": (asked_with(budget_per_hour=18.0), "costs 19.000000 per hour, the budget is 18"),
    "more headroom": (asked_with(headroom=1.0), "has the work of"),
    "more replicas": (chat_changed(min_replicas=6, max_replicas=None), "at least 6 are asked for"),
    "a higher floor": (chat_changed(survivability=0.9), "the floor is 0.9"),
    "a tighter attainment": (chat_changed(attainment=0.99), "outside the SLO"),
    "nothing running": (asked_with(running=()), "switching costs"),
    "a longer horizon": (asked_with(horizon_hours=1.0), "switching costs"),
    "more interruptions": (pools_changed(1, interruptions_per_hour=0.5), "the risk costs"),
    # what no plan can be held against
    "a price that is no number": (pools_changed(0, price_per_node_hour=nan), "pool H100 has a number that is not"),
    "a negative price": (pools_changed(0, price_per_node_hour=-1.0), "pool H100 has a number that is not"),
    "an infinite rate": (chat_changed(buckets=(BucketLoad(SHORT, inf),)), "test/chat 500+250 has a rate of inf"),
    "no horizon": (asked_with(horizon_hours=0.0), "the horizon above 0"),
    "a headroom that is no number": (asked_with(headroom=nan), "headroom and start hours must be finite"),
    "no fabric": (pools_changed(2, fabric=""), "A100-tp1 is for prefill, but its pools do not lie in one fabric"),
    "two pools of a name": (pools_changed(3, name="L4"), "two pools are named L4"),
    "two models of a name": (chat_changed(name="test/code"), "two models are named test/code"),
    "a bucket twice": (chat_changed(buckets=(BucketLoad(SHORT, 1.0),) * 2), "test/chat has 500+250 twice"),
    "two configurations of a key": (
        lambda asked: chat_changed(configurations=asked.models[0].configurations[:1] * 2)(asked),
        "test/chat has two H100-tp4",
    ),
}


@pytest.mark.parametrize("name", ASKED_OTHERWISE)
def test_a_plan_for_another_problem_is_refused(name: str) -> None:
    change, expected = ASKED_OTHERWISE[name]
    found = violations(change(question()), good())
    assert any(expected in sentence for sentence in found), found


def test_pools_in_two_fabrics_cannot_hand_over_a_cache() -> None:
    asked = question()
    both = replace(asked.models[1].configurations[0], pools=("A100", "T4"))
    asked = pools_changed(3, fabric="shelf")(asked)
    asked = replace(asked, models=(asked.models[0], replace(asked.models[1], configurations=(both,))))
    assert violations(asked, good()) == (
        "the problem: test/code A100-tp1 is for prefill, but its pools do not lie in one fabric",
    )


def test_too_few_replicas_are_excused_where_it_is_said_why() -> None:
    asked = problem([model("m", {SHORT: 1.0}, configuration("L4", {SHORT: 1.0}), min_replicas=2)], [pool("L4", 1.0, 1)])
    routes = (route("m", SHORT, "L4-tp1", 1.0),)
    said = (Unserved("test/m", SHORT, 0.0, "minReplicas is 2, planned are 1: no stock"),)
    plan = plan_by_hand(asked, {("test/m", "L4-tp1", "L4"): 1}, {"L4": 1}, routes, said)
    assert violations(asked, plan) == ()
    assert any("at least 2" in sentence for sentence in violations(asked, replace(plan, unserved=())))


@pytest.mark.parametrize(("nodes", "found"), [(2, ("pool H100: its replicas do not fit on 2 nodes",)), (3, ())])
def test_three_groups_of_four_do_not_fit_on_two_nodes_of_six(nodes: int, found: tuple[str, ...]) -> None:
    h100 = configuration("H100", {SHORT: 1.0}, tensor_parallel=4)
    asked = problem([model("big", {SHORT: 3.0}, h100)], [pool("H100", 10.0, 3, gpus=6)])
    routes = (route("big", SHORT, "H100-tp4", 1.0),)
    assert (
        violations(asked, plan_by_hand(asked, {("test/big", "H100-tp4", "H100"): 3}, {"H100": nodes}, routes)) == found
    )


@pytest.mark.parametrize(("nodes", "fits"), [(1, False), (2, True)])
def test_a_packing_that_first_fit_misses_is_found(nodes: int, fits: bool) -> None:
    """Two nodes of 10 GPUs hold 5+3+2 and 4+4+2; largest first puts 5+4 together and needs a third."""
    sizes = {5: 1, 4: 2, 3: 1, 2: 2}
    models = [model(f"m{n}", {}, configuration("L4", {SHORT: 1.0}, tensor_parallel=n)) for n in sizes]
    asked = problem(models, [pool("L4", 1.0, 5, gpus=10)])
    places = {(f"test/m{n}", f"L4-tp{n}", "L4"): count for n, count in sizes.items()}
    plan = plan_by_hand(asked, places, {"L4": nodes}, ())
    assert any("do not fit" in sentence for sentence in violations(asked, plan)) is not fits


@pytest.mark.parametrize(("nodes", "fits"), [(1, False), (2, True)])
def test_a_node_has_room_for_a_hundred_pods(nodes: int, fits: bool) -> None:
    tiny = configuration("CPU", {SHORT: 1.0}, gpus=0, cpus=0.01)
    asked = problem([model("a", {}, tiny), model("b", {}, tiny)], [pool("CPU", 1.0, 5)])
    places = {(f"test/{name}", "CPU-tp1", "CPU"): 60 for name in ("a", "b")}
    plan = plan_by_hand(asked, places, {"CPU": nodes}, ())
    assert any("do not fit" in sentence for sentence in violations(asked, plan)) is not fits
