"""After the operator is uninstalled no pool may be stuck in deletion."""

import pytest
from fake_api_server import Answer, FakeApiServer

from motley_operator.errors import ApiError
from motley_operator.kube import Kube
from motley_operator.labels import DRAIN_FINALIZER
from motley_operator.release import release


def pools(*finalizers: list[str] | None) -> Answer:
    items = [
        {"metadata": {"name": f"p{number}", "resourceVersion": "3", "finalizers": held}}
        for number, held in enumerate(finalizers)
    ]
    return Answer(200, {"metadata": {}, "items": items})


def test_our_finalizer_goes_and_others_stay(kube: Kube, server: FakeApiServer) -> None:
    server.answers.append(pools([DRAIN_FINALIZER], ["else", DRAIN_FINALIZER], ["else"], None, []))
    assert release(kube) == 2
    assert [call.body["metadata"]["finalizers"] for call in server.calls[1:]] == [[], ["else"]]


def test_a_pool_that_went_meanwhile_is_no_trouble(kube: Kube, server: FakeApiServer) -> None:
    server.answers.extend([pools([DRAIN_FINALIZER], [DRAIN_FINALIZER]), Answer(404, {"message": "gone"})])
    assert release(kube) == 1


def test_a_refusal_is_told_so_that_it_can_be_run_again(kube: Kube, server: FakeApiServer) -> None:
    server.answers.extend([pools([DRAIN_FINALIZER]), Answer(409, {"message": "changed"})])
    with pytest.raises(ApiError, match="changed"):
        release(kube)
