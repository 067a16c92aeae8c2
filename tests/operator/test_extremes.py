"""Whatever the schema lets through, however extreme, stops no pass and hides no other object."""

from collections.abc import Callable
from typing import Any

from fake_kube import FakeKubeApi
from fleets import NOW, model, pool
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from motley_operator.api import KINDS
from motley_operator.api.crdgen import schema_of
from motley_operator.reconcile import Reconciler
from motley_operator.settings import Settings
from motley_solver import comparisons, ilp
from motley_solver.problem import Problem

SCHEMAS = {kind.__name__: schema_of(kind)["properties"]["spec"] for kind in KINDS}
Schema = dict[str, Any]
Strategy = st.SearchStrategy[Any]


def _integers(schema: Schema) -> Strategy:
    low, high = schema.get("minimum", -(2**31)), schema.get("maximum", 2**31)
    return st.sampled_from([low, high]) | st.integers(low, high)


def _numbers(schema: Schema) -> Strategy:
    low, high = schema.get("minimum", 0.0), schema.get("maximum", 1e300)
    return st.sampled_from([low, high]) | st.floats(low, high, allow_nan=False, allow_infinity=False)


def _strings(schema: Schema) -> Strategy:
    if "pattern" in schema:
        longest = schema.get("maxLength", 60)
        return st.from_regex(schema["pattern"].replace("$", r"\Z"), fullmatch=False).filter(
            lambda text: len(text) <= longest and text.isascii()
        )
    return st.text("ab/.:-_1", min_size=schema.get("minLength", 0), max_size=min(schema.get("maxLength", 12), 12))


def _objects(schema: Schema) -> Strategy:
    if "properties" not in schema:
        values = of_schema(schema.get("additionalProperties", {"type": "string"}))
        return st.dictionaries(st.sampled_from(["a", "b", "c"]), values, min_size=1, max_size=2)
    needed = set(schema.get("required", ()))
    fields = {name: of_schema(inner) for name, inner in schema["properties"].items()}
    return st.fixed_dictionaries(
        {name: value for name, value in fields.items() if name in needed},
        optional={name: value for name, value in fields.items() if name not in needed},
    )


def _arrays(schema: Schema) -> Strategy:
    return st.lists(of_schema(schema["items"]), min_size=schema.get("minItems", 0), max_size=3)


_BY_TYPE: dict[str, Callable[[Schema], Strategy]] = {
    "integer": _integers,
    "number": _numbers,
    "string": _strings,
    "object": _objects,
    "array": _arrays,
    "boolean": lambda _: st.booleans(),
}


def of_schema(schema: Schema) -> Strategy:
    """Values that the schema takes, its edges among them."""
    return st.sampled_from(schema["enum"]) if "enum" in schema else _BY_TYPE[schema["type"]](schema)


def solve(problem: Problem) -> Any:
    return comparisons.with_comparisons(problem, ilp.solve(problem, 2.0), 1.0)


def resource(kind: str, spec: Any) -> dict[str, Any]:
    made = model("odd", age=1) if kind == "Model" else pool("odd", age=1)
    name = "default" if kind == "Fleet" else "odd"
    return made | {"kind": kind, "metadata": made["metadata"] | {"name": name, "uid": f"u-{kind}"}, "spec": spec}


ODD = st.one_of(
    *(
        st.builds(resource, st.just(kind), of_schema(SCHEMAS[kind]))
        for kind in ("Model", "GPUPool", "Profile", "Fleet", "Plan")
    )
)


@settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
@given(st.lists(ODD, min_size=1, max_size=3, unique_by=lambda one: str(one["kind"])))
def test_extreme_objects_stop_no_pass(odd: list[dict[str, Any]]) -> None:
    kube = FakeKubeApi(pool("l4"), model("chat"), *odd)
    operator = Reconciler(kube, lambda _: {}, Settings(), solve, lambda: NOW)
    for _ in range(3):
        operator.run_pass()
        kube.run_pods()
    assert kube.of("Model")["chat"]["status"]["conditions"]
