from motley_worker.engine import busy
from motley_worker.health import SILENT_SECONDS, Health


def test_a_silent_engine_is_dead_only_after_its_first_token() -> None:
    health = Health(last_answer=100.0, engine_answered=True)
    later = 101.0 + SILENT_SECONDS
    assert health.live(later)[0]
    health.token_generated = True
    assert health.live(later) == (False, "vLLM has not answered for 121 s")
    assert health.live(99.0 + SILENT_SECONDS)[0]


def test_an_answer_without_a_token_is_not_ready() -> None:
    health = Health(engine_answered=True)
    assert health.startup()[0]
    assert not health.ready()[0]
    health.token_generated = health.engine_running = True
    assert health.ready()[0]
    health.engine_running = False
    assert not health.ready()[0]


def test_running_and_waiting_requests_are_added_over_engines() -> None:
    metrics = (
        "# HELP vllm:num_requests_running Number of requests\n"
        'vllm:num_requests_running{engine="0",model_name="a b"} 2.0\n'
        'vllm:num_requests_running{engine="1",model_name="a b"} 1.0\n'
        'vllm:num_requests_waiting{engine="0"} 4.0\n'
        'vllm:num_requests_waiting_by_reason{engine="0",reason="capacity"} 4.0\n'
    )
    assert busy(metrics) == 7
    assert busy("other 1.0\n") is None
