"""The door to the Kubernetes API, against a server on loopback that misbehaves on command."""

from collections.abc import Callable
from typing import Any

import pytest
from fake_api_server import Answer, FakeApiServer, kube_at

from motley_operator import kube as kube_module
from motley_operator import metrics
from motley_operator.api import KINDS
from motley_operator.errors import ApiError, Conflict, LeaseLost, NotFound, Refused, Unreachable
from motley_operator.kube import APPLY, KIND, MERGE, PAGE, Kube

MODEL = {"apiVersion": "motley.dev/v1alpha1", "kind": "Model", "metadata": {"name": "chat", "namespace": "team"}}
POOL = {"kind": "GPUPool", "metadata": {"name": "l4", "resourceVersion": "7"}}
MODELS = "/apis/motley.dev/v1alpha1/namespaces/team/models"


def status(code: int, message: str = "because") -> Answer:
    return Answer(code, {"kind": "Status", "message": message, "code": code})


# What is sent


def test_apply_is_a_server_side_apply_as_our_field_manager(kube: Kube, server: FakeApiServer) -> None:
    kube.apply(MODEL)
    (call,) = server.calls
    assert (call.method, call.path, call.content_type) == ("PATCH", f"{MODELS}/chat", APPLY)
    assert call.query == {"fieldManager": "motley-operator", "force": "true"}
    assert call.body == MODEL


def test_a_status_is_applied_to_its_subresource(kube: Kube, server: FakeApiServer) -> None:
    kube.apply_status(MODEL)
    assert server.calls[0].path == f"{MODELS}/chat/status" and server.calls[0].content_type == APPLY


def test_finalizers_are_set_on_the_object_that_was_read(kube: Kube, server: FakeApiServer) -> None:
    kube.set_finalizers("GPUPool", POOL, ["motley.dev/drain"])
    (call,) = server.calls
    assert (call.method, call.content_type) == ("PATCH", MERGE)
    assert call.path == "/apis/motley.dev/v1alpha1/gpupools/l4"
    assert call.body == {"metadata": {"finalizers": ["motley.dev/drain"], "resourceVersion": "7"}}


def test_scaling_changes_only_the_number(kube: Kube, server: FakeApiServer) -> None:
    kube.scale("Deployment", "team", "chat-l4", 2)
    (call,) = server.calls
    assert call.path == "/apis/apps/v1/namespaces/team/deployments/chat-l4"
    assert (call.content_type, call.body) == (MERGE, {"spec": {"replicas": 2}})


def test_deleting_takes_the_children_along_in_the_background(kube: Kube, server: FakeApiServer) -> None:
    kube.delete("Plan", None, "plan-000001-aa")
    (call,) = server.calls
    assert (call.method, call.path) == ("DELETE", "/apis/motley.dev/v1alpha1/plans/plan-000001-aa")
    assert call.query == {"propagationPolicy": "Background"}


def test_creating_and_replacing_use_post_and_put(kube: Kube, server: FakeApiServer) -> None:
    kube.create(MODEL)
    kube.replace(MODEL)
    assert [(call.method, call.path) for call in server.calls] == [("POST", MODELS), ("PUT", f"{MODELS}/chat")]
    assert {call.content_type for call in server.calls} == {"application/json"}


def test_own_kinds_and_their_scopes_are_known() -> None:
    for kind in KINDS:
        found = KIND[kind.__name__]
        assert (found.plural, found.namespaced) == (kind.crd.plural, kind.crd.scope == "Namespaced")
    assert KIND["Node"].path("ignored", "n1") == "/api/v1/nodes/n1"


# Lists


def page(names: list[str], following: str = "") -> Answer:
    items = [{"metadata": {"name": name}} for name in names]
    return Answer(200, {"metadata": {"continue": following}, "items": items})


def test_a_list_is_read_page_by_page_to_its_end(kube: Kube, server: FakeApiServer) -> None:
    server.answers.extend([page(["a", "b"], "t1"), page([], "t2"), page(["c"])])
    assert [one["metadata"]["name"] for one in kube.listed("Model")] == ["a", "b", "c"]
    assert [call.query.get("continue") for call in server.calls] == [None, "t1", "t2"]
    assert {call.query["limit"] for call in server.calls} == {str(PAGE)}
    assert {call.path for call in server.calls} == {"/apis/motley.dev/v1alpha1/models"}


def test_a_list_is_narrowed_by_namespace_and_labels(kube: Kube, server: FakeApiServer) -> None:
    kube.listed("Pod", "team", "a=b,c")
    (call,) = server.calls
    assert call.path == "/api/v1/namespaces/team/pods" and call.query["labelSelector"] == "a=b,c"


def test_a_list_without_items_is_empty(kube: Kube, server: FakeApiServer) -> None:
    server.answers.append(Answer(200, {"metadata": {}, "items": None}))
    assert kube.listed("Model") == []


def test_a_list_that_breaks_off_is_no_list(kube: Kube, server: FakeApiServer) -> None:
    """Half a list would look as if the other half had been deleted."""
    server.answers.extend([page(["a"], "t1"), status(410, "the continue token is too old")])
    with pytest.raises(Refused, match="too old"):
        kube.listed("Model")


# What comes back


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (400, Refused),
        (403, Refused),
        (404, NotFound),
        (409, Conflict),
        (413, Refused),
        (422, Refused),
        (429, Unreachable),
        (500, Unreachable),
        (503, Unreachable),
        (504, Unreachable),
    ],
)
def test_every_refusal_has_its_place_in_the_error_tree(
    code: int, kind: type[ApiError], kube: Kube, server: FakeApiServer
) -> None:
    server.answers.append(status(code))
    with pytest.raises(kind, match=f"apply {MODELS}/chat: because") as caught:
        kube.apply(MODEL)
    assert type(caught.value) is kind


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'"x"', b"{}", b"\xff\xfe", b'{"message": null}'])
def test_a_refusal_without_words_tells_its_number(body: bytes, kube: Kube, server: FakeApiServer) -> None:
    server.answers.append(Answer(500, body))
    with pytest.raises(Unreachable, match=r"HTTP 500|None"):
        kube.get("Model", "team", "chat")


@pytest.mark.parametrize("body", [b"<html>login</html>", b"[]", b'"x"', b"7", b"null", b"\xff", b'{"items": ['])
def test_an_answer_that_is_no_object_counts_as_no_answer(body: bytes, kube: Kube, server: FakeApiServer) -> None:
    """A proxy's page must not end the thread that renews the Lease."""
    server.answers.extend([Answer(200, body), Answer(200, body)])
    with pytest.raises(Unreachable, match="not a JSON object"):
        kube.get("Lease", "motley-system", "motley-operator")
    with pytest.raises(Unreachable, match="not a JSON object"):
        kube.listed("Model")


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"hello, this is no HTTP\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)
def test_a_broken_answer_counts_as_no_answer(raw: bytes, kube: Kube, server: FakeApiServer) -> None:
    server.answers.append(Answer(raw=raw))
    with pytest.raises(Unreachable) as caught:
        kube.get("Model", "team", "chat")
    assert caught.value.__cause__ is not None


def test_nobody_there_is_unreachable() -> None:
    with pytest.raises(Unreachable, match=f"get {MODELS}/chat"):
        kube_at("http://127.0.0.1:1").get("Model", "team", "chat")


def test_silence_ends_in_a_timeout(kube: Kube, server: FakeApiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kube_module, "READ_SECONDS", (0.2, 0.2))
    monkeypatch.setattr(kube_module, "WRITE_SECONDS", (0.2, 0.2))
    server.answers.append(Answer(stall=True))
    with pytest.raises(Unreachable):
        kube.get("Model", "team", "chat")


def test_nothing_is_tried_twice_by_itself(kube: Kube, server: FakeApiServer) -> None:
    """A pass that fails is repeated as a whole."""
    server.answers.extend([status(503), Answer(200, {"kind": "Model"})])
    with pytest.raises(Unreachable):
        kube.get("Model", "team", "chat")
    assert len(server.calls) == 1


def test_deleting_what_is_gone_is_done(kube: Kube, server: FakeApiServer) -> None:
    server.answers.append(status(404))
    kube.delete("Deployment", "team", "x")
    server.answers.append(status(403))
    with pytest.raises(Refused):
        kube.delete("Deployment", "team", "x")


def test_errors_are_counted_by_verb_kind_and_error(kube: Kube, server: FakeApiServer) -> None:
    labels = {"verb": "apply", "kind": "Model", "error": "Conflict"}
    before = metrics.REGISTRY.get_sample_value("motley_api_errors_total", labels) or 0
    server.answers.append(status(409))
    with pytest.raises(Conflict):
        kube.apply(MODEL)
    assert metrics.REGISTRY.get_sample_value("motley_api_errors_total", labels) == before + 1


# The lease


def writes(kube: Kube) -> dict[str, Callable[[], Any]]:
    return {
        "apply": lambda: kube.apply(MODEL),
        "apply_status": lambda: kube.apply_status(MODEL),
        "create": lambda: kube.create(MODEL),
        "set_finalizers": lambda: kube.set_finalizers("GPUPool", POOL, []),
        "scale": lambda: kube.scale("Deployment", "team", "x", 1),
        "delete": lambda: kube.delete("Plan", None, "x"),
    }


@pytest.mark.parametrize("verb", ["apply", "apply_status", "create", "set_finalizers", "scale", "delete"])
def test_without_the_lease_nothing_is_sent(verb: str, server: FakeApiServer) -> None:
    def lost() -> None:
        raise LeaseLost("another acts")

    with pytest.raises(LeaseLost):
        writes(kube_at(server.url, lost))[verb]()
    assert server.calls == []


def test_reading_and_the_lease_itself_need_no_lease(server: FakeApiServer) -> None:
    def lost() -> None:
        raise LeaseLost("another acts")

    kube = kube_at(server.url, lost)
    kube.listed("Model")
    kube.get("Lease", "n", "x")
    kube.create_unguarded({"kind": "Lease", "metadata": {"name": "x", "namespace": "n"}})
    kube.replace({"kind": "Lease", "metadata": {"name": "x", "namespace": "n"}})
    assert [call.method for call in server.calls] == ["GET", "GET", "POST", "PUT"]


def test_an_empty_answer_is_an_empty_object(kube: Kube, server: FakeApiServer) -> None:
    server.answers.append(Answer(200, b""))
    assert kube.apply(MODEL) == {}
