"""The inspection Job: where it runs, what it asks for, when it is another."""

import pytest
from fleets import A100, Json, pool
from groups import job_of


def test_an_inspection_runs_on_any_node_that_the_model_may_use() -> None:
    pod = job_of({}, pool("l4"), pool("a100", A100))["spec"]["template"]["spec"]
    required = pod["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    terms = [term["matchExpressions"] for term in required["nodeSelectorTerms"]]
    assert terms == [
        [{"key": "pool", "operator": "In", "values": ["l4"]}],
        [{"key": "pool", "operator": "In", "values": ["a100"]}],
    ]
    assert {one["key"] for one in pod["tolerations"]} == {"nvidia.com/gpu"}
    assert pod["restartPolicy"] == "Never"


def test_an_inspection_asks_for_no_gpu() -> None:
    (container,) = job_of({}, pool("l4"))["spec"]["template"]["spec"]["containers"]
    assert container["resources"]["requests"].keys() == {"cpu", "memory"}


@pytest.mark.parametrize("spec", [{"source": {"uri": "hf://other/one"}}, {"source": {"secretName": "s"}}])
def test_another_source_is_another_job(spec: Json) -> None:
    assert job_of(spec)["metadata"]["name"] != job_of()["metadata"]["name"]


def test_the_job_says_what_it_reads() -> None:
    job = job_of({"source": {"revision": "v2"}})
    assert job["metadata"]["annotations"] == {"motley.dev/source": "hf://example/chat-8b@v2"}
