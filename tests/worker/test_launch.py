"""The launcher as a process, with an engine that misbehaves on command in place of vLLM."""

import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from fake_hub import FakeHub
from launched import Launched, alive
from loopback import Fault

PROGRAM = Path(__file__).parents[1] / "support/launch_fake_engine.py"
Start = Callable[..., Launched]


@pytest.fixture
def start(tmp_path: Path, worker_config: Callable[..., str]) -> Iterator[Start]:
    (tmp_path / "model").mkdir()
    (tmp_path / "model/config.json").write_text("{}")
    with ExitStack() as stack:

        def started(fake: str = "", config: str | None = None, **environ: str) -> Launched:
            text = config or worker_config(source=f"file://{tmp_path}/model", drainSeconds=20)
            environ = {"MOTLEY_SETTLE_SECONDS": "0.5", "FAKE_ENGINE": fake, **environ}
            return stack.enter_context(Launched(tmp_path / "pod", [str(PROGRAM)], text, environ))

        yield started


def stream(launched: Launched, tokens: int) -> str:
    body = {"model": "tiny", "prompt": "x", "max_tokens": tokens, "stream": True}
    return launched.client.post(f"{launched.url}/v1/completions", json=body).text


def running(launched: Launched) -> float:
    text = launched.client.get(f"{launched.url}/metrics").text
    return float(re.findall(r"num_requests_running\S* (\S+)", text)[0])


def test_a_pod_is_ready_when_a_token_has_been_generated(start: Start) -> None:
    launched = start()
    launched.wait_until_ready()
    assert launched.probe("/startup") == (200, "started")
    assert launched.probe("/live") == (200, "serving")
    assert launched.probe("/else")[0] == 404


def test_an_engine_that_does_not_answer_yet_is_starting_and_alive(start: Start) -> None:
    launched = start("silent")
    launched.wait(lambda: launched.probe("/startup") == (503, "starting vLLM"), "the engine's start")
    assert launched.probe("/ready")[0] == 503
    assert launched.probe("/live")[0] == 200


def test_a_drain_loses_no_request(start: Start) -> None:
    launched = start()
    launched.wait_until_ready()
    with ThreadPoolExecutor(8) as clients:
        answers = [clients.submit(stream, launched, 40) for _ in range(8)]
        launched.wait(lambda: running(launched) == 8, "eight running requests")
        launched.terminate()
        launched.wait(lambda: launched.probe("/ready") == (503, "draining"), "unreadiness")
        late = clients.submit(stream, launched, 10)  # from a router that has not noticed yet
        assert all("[DONE]" in answer.result() for answer in (*answers, late))
    assert launched.ended() == 0
    assert launched.reason() == ""


def test_an_idle_pod_goes_on_until_routers_have_noticed(start: Start) -> None:
    launched = start(MOTLEY_SETTLE_SECONDS="2")
    launched.wait_until_ready()
    launched.terminate()
    launched.wait(lambda: launched.probe("/ready") == (503, "draining"), "unreadiness")
    assert "[DONE]" in stream(launched, 1)
    assert launched.ended() == 0


def test_a_second_sigterm_hurries(start: Start) -> None:
    launched = start()
    launched.wait_until_ready()
    with ThreadPoolExecutor(1) as clients:
        answer = clients.submit(stream, launched, 1000)
        launched.wait(lambda: running(launched) == 1, "a running request")
        launched.terminate()
        launched.wait(lambda: launched.probe("/ready")[1] == "draining", "the drain")
        launched.terminate()
        assert launched.ended(30) == 0
        assert "[DONE]" not in answer.result()


def test_a_drain_ends_after_drain_seconds(start: Start, worker_config: Callable[..., str], tmp_path: Path) -> None:
    launched = start(config=worker_config(source=f"file://{tmp_path}/model", drainSeconds=1))
    launched.wait_until_ready()
    with ThreadPoolExecutor(1) as clients:
        answer = clients.submit(stream, launched, 1000)
        launched.wait(lambda: running(launched) == 1, "a running request")
        launched.terminate()
        assert launched.ended(30) == 0
        assert "[DONE]" not in answer.result()
    assert "not waiting any longer for 1 requests" in launched.log


def test_nothing_of_an_engine_that_ignores_sigterm_is_left(start: Start) -> None:
    launched = start("stubborn family")
    launched.wait_until_ready()
    engine = launched.engine_pid
    child = int(re.findall(r"^child (\d+)", launched.log, re.MULTILINE)[0])
    assert engine
    assert alive(child)
    launched.terminate()
    launched.terminate()  # may be merged with the first by the kernel
    launched.wait(lambda: launched.probe("/ready")[1] == "draining", "the drain")
    launched.terminate()
    assert launched.ended(30) == 0
    assert not alive(engine)
    assert not alive(child)


def test_orphans_are_reaped(start: Start) -> None:
    launched = start("family")
    launched.wait_until_ready()
    orphan = int(re.findall(r"^orphan (\d+)", launched.log, re.MULTILINE)[0])
    launched.wait(lambda: not Path(f"/proc/{orphan}").exists(), "the orphan's end")


@pytest.mark.parametrize(
    ("words", "code", "reason"),
    [
        ("torch.OutOfMemoryError: CUDA out of memory.", 69, "OutOfMemory: vLLM ended (code 1): torch.OutOfMemory"),
        ("nothing special", 67, "EngineNotStarted: vLLM ended (code 1): nothing special"),
    ],
)
def test_an_engine_that_does_not_start_says_why(start: Start, words: str, code: int, reason: str) -> None:
    launched = start(FAKE_ENGINE_LAST_WORDS=words)
    assert launched.ended() == code
    assert launched.reason().startswith(reason)


def test_an_engine_that_generates_nothing_never_becomes_ready(start: Start) -> None:
    launched = start("tokenless")
    assert launched.ended() == 67
    assert launched.reason() == "EngineNotStarted: vLLM answers but generates no token: 500 no tokens today"


@pytest.mark.parametrize("behaviour", ["", "family"])  # children live on, and hold its output open
def test_an_engine_that_dies_while_serving_says_why(start: Start, behaviour: str) -> None:
    launched = start(behaviour)
    launched.wait_until_ready()
    with pytest.raises(httpx.TransportError):
        launched.client.post(f"{launched.url}/die", json={"code": 3, "words": "ValueError: alas"})
    assert launched.ended() == 68
    assert launched.reason() == "EngineDied: vLLM ended (code 3): ValueError: alas"


def test_a_bad_config_says_why(start: Start) -> None:
    launched = start(config="{}")
    assert launched.ended() == 64
    assert "model: Field required" in launched.reason()


def test_a_missing_source_says_why(start: Start, worker_config: Callable[..., str]) -> None:
    launched = start(config=worker_config(source="file:///nowhere"))
    assert launched.ended() == 65
    assert launched.reason() == "SourceNotFound: file:///nowhere: /nowhere: No such file or directory"


def test_a_failed_download_says_why(start: Start, worker_config: Callable[..., str], hub: FakeHub) -> None:
    hub.token = "another"
    launched = start(config=worker_config(source="hf://org/tiny"))
    assert launched.ended() == 66
    assert "check the name, and HF_TOKEN" in launched.reason()


def test_sigterm_during_a_download_stops_at_once(start: Start, worker_config: Callable[..., str], hub: FakeHub) -> None:
    hub.repositories["org/tiny"] = {"config.json": b"{}", "model.safetensors": bytes(1000)}
    hub.faults.append(Fault("GET /org/tiny/resolve", stall=threading.Event()))
    launched = start(config=worker_config(source="hf://org/tiny"))
    launched.wait(hub.answered_half.is_set, "the download")
    assert launched.probe("/startup") == (503, "fetching weights")
    launched.terminate()
    assert launched.ended(20) == 0


def test_sigterm_while_the_engine_starts_stops_at_once(start: Start) -> None:
    launched = start("silent")
    launched.wait(lambda: launched.engine_pid, "the engine's start")
    launched.terminate()
    assert launched.ended(20) == 0
    assert launched.engine_pid is not None
    assert not alive(launched.engine_pid)
