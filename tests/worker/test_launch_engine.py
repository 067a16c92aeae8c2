"""The launcher with real vLLM on a tiny model. One engine is shared by the first tests; the last one drains it."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import openai
import pytest
from launched import Launched, alive, children

from e2e import tiny_model
from motley_worker.router.usage import StreamReader, WholeReader

pytestmark = pytest.mark.engine

LAUNCH = ["-m", "motley_worker.launch"]
START_SECONDS = 300


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model.make(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def engine(
    model: Path, worker_config: Callable[..., str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Launched]:
    config = worker_config(source=f"file://{model}", kvDtype="auto", extraArgs=["--seed", "1"])
    with Launched(tmp_path_factory.mktemp("engine"), LAUNCH, config, {}) as launched:
        launched.wait_until_ready(START_SECONDS)
        yield launched


def client(engine: Launched) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{engine.url}/v1", api_key="none", max_retries=0, timeout=120)


def test_it_serves_under_the_served_name(engine: Launched) -> None:
    with client(engine) as api:
        assert [model.id for model in api.models.list()] == ["tiny"]
        answer = api.chat.completions.create(
            model="tiny", messages=[{"role": "user", "content": "Hello"}], max_tokens=8, extra_body={"ignore_eos": True}
        )
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 8


def test_a_token_was_generated_before_it_was_ready(engine: Launched) -> None:
    assert engine.log.index("POST /v1/completions") < engine.log.index("serving team/tiny as tiny")


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_tells_how_much_of_its_prompt_was_cached(engine: Launched, stream: bool) -> None:
    body = {"model": "tiny", "prompt": [7 + stream] * 500, "max_tokens": 2, "stream": stream}
    body |= {"stream_options": {"include_usage": True}} if stream else {}
    found = []
    for _ in range(2):
        reader = StreamReader(0) if stream else WholeReader()
        reader.feed(engine.client.post(f"{engine.url}/v1/completions", json=body).content)
        reader.finish()
        assert reader.usage is not None
        found.append(reader.usage)
    assert (found[0].input_tokens, found[0].cached_tokens) == (500, 0)
    assert found[1].cached_tokens > 250


def test_probes_do_not_drown_the_log(engine: Launched) -> None:
    assert "GET /health" not in engine.log


def test_a_drain_under_load_loses_no_request(engine: Launched) -> None:
    begun = threading.Event()

    def stream(tokens: int) -> int:
        usage = []
        with client(engine) as api:
            chunks = api.completions.create(
                model="tiny",
                prompt="Some are fast and dear",
                max_tokens=tokens,
                stream=True,
                stream_options={"include_usage": True},
                extra_body={"ignore_eos": True},
            )
            for chunk in chunks:
                begun.set()
                usage += [chunk.usage] if chunk.usage else []
        return usage[-1].completion_tokens

    processes = engine.engine_pid
    assert processes is not None
    lengths = [600] * 12  # more than maxNumSeqs: some wait
    with ThreadPoolExecutor(16) as clients:
        answers = [clients.submit(stream, tokens) for tokens in lengths]
        engine.wait(begun.is_set, "a first token")
        engine.terminate()
        engine.wait(lambda: engine.probe("/ready") == (503, "draining"), "unreadiness")
        late = clients.submit(stream, 20)  # from a router that has not noticed yet
        assert [answer.result() for answer in answers] == lengths
        assert late.result() == 20
    assert engine.ended(60) == 0
    assert "drained" in engine.log
    assert not alive(processes)


def test_vllm_that_refuses_its_configuration_says_why(
    model: Path, worker_config: Callable[..., str], tmp_path: Path
) -> None:
    config = worker_config(source=f"file://{model}", maxModelLen=1_000_000)
    with Launched(tmp_path, LAUNCH, config, {}) as launched:
        assert launched.ended(START_SECONDS) == 64
        assert "User-specified max_model_len (1000000) is greater than the derived" in launched.reason()


def test_an_engine_whose_core_is_killed_ends_the_pod(
    model: Path, worker_config: Callable[..., str], tmp_path: Path
) -> None:
    """The API server outlives its core for a while; the pod must not."""
    config = worker_config(source=f"file://{model}")
    with Launched(tmp_path, LAUNCH, config, {}) as launched:
        launched.wait_until_ready(START_SECONDS)
        assert launched.engine_pid is not None
        core = next(pid for pid in children(launched.engine_pid) if "EngineCore" in name(pid))
        os.kill(core, signal.SIGKILL)
        assert launched.ended(60) == 68
        assert launched.reason().startswith("EngineDied: ")
        assert not alive(launched.engine_pid)


def name(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text()
