"""What vLLM 0.32 really prints, line by line."""

import pytest

from motley_worker.diagnosis import diagnosis
from motley_worker.errors import BadConfig, EngineDied, EngineNotStarted, OutOfMemory, UnsupportedModel, reason

CORE = "\x1b[0;36m(EngineCore pid=181)\x1b[0;0m ERROR 11-20 09:10:11 [core.py:1210] "
LINES = [
    ("api_server.py: error: unrecognized arguments: --foo", BadConfig, "unrecognized arguments: --foo"),
    ("api_server.py: error: argument --block-size: invalid int value: 'abc'", BadConfig, "--block-size"),
    (
        "pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig\n"
        "  Value error, User-specified max_model_len (100000) is greater than the derived max_model_len\n",
        BadConfig,
        "max_model_len (100000) is greater",
    ),
    (
        "pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig\n"
        "  Value error, Model architectures ['FooForCausalLM'] are not supported for now.",
        UnsupportedModel,
        "FooForCausalLM",
    ),
    (
        "Value error, The checkpoint you are trying to load has model type `foo` but Transformers does not "
        "recognize this architecture.",
        UnsupportedModel,
        "`foo`",
    ),
    (f"{CORE}torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 224.00 MiB.", OutOfMemory, "224.00 MiB"),
    (
        f"{CORE}ValueError: To serve at least one request with the model's max seq len (4096), 0.5 GiB KV cache is "
        "needed, which is larger than the available KV cache memory (0.1 GiB).",
        OutOfMemory,
        "0.1 GiB",
    ),
    (
        f"{CORE}ValueError: Available memory on node 0 (20.09/23.54 GiB) on kv cache allocation is less than requested "
        "memory for kv (100000.0 GiB).",
        OutOfMemory,
        "100000.0 GiB",
    ),
    (
        "RuntimeError: [enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory",
        OutOfMemory,
        "alloc_cpu",
    ),
]
WARNING = "(APIServer pid=1) WARNING 11-20 09:10:01 [x.py:1] This can cause errors like `OSError: out of memory`.\n"
LATER = "\n(APIServer pid=1) RuntimeError: Engine core initialization failed. See root cause above.\n"


@pytest.mark.parametrize(("line", "kind", "telling"), LINES)
def test_the_telling_line_decides_whatever_follows(line: str, kind: type[Exception], telling: str) -> None:
    found = diagnosis(f"{WARNING}{line}{LATER}", 1, was_serving=False)
    assert type(found) is kind
    assert telling in str(found)


def test_colours_and_prefixes_are_left_out() -> None:
    found = diagnosis(f"{WARNING}{CORE}ValueError: odd weights{LATER}", 1, was_serving=False)
    assert reason(found) == "EngineNotStarted: vLLM ended (code 1): ValueError: odd weights"


def test_an_unknown_end_is_the_engines_death_when_it_served() -> None:
    assert type(diagnosis("bye", 1, was_serving=False)) is EngineNotStarted
    assert type(diagnosis("bye", 1, was_serving=True)) is EngineDied


def test_a_signal_is_named_and_silence_is_said() -> None:
    assert str(diagnosis("", -11, was_serving=True)) == "vLLM ended (signal 11): it said nothing"


def test_what_was_said_last_is_not_blamed_for_a_kill_nor_a_progress_bar_for_anything() -> None:
    said = "ready\nLoading safetensors checkpoint shards: 100% Completed | 1/1 [00:00<00:00, 86.67it/s] \n"
    assert str(diagnosis(said, -9, was_serving=True)) == "vLLM ended (signal 9): killed from outside"
    assert str(diagnosis(said, 3, was_serving=True)) == "vLLM ended (code 3): ready"


def test_a_process_that_the_kernel_killed_for_memory_is_out_of_memory() -> None:
    found = diagnosis("RuntimeError: Engine core died", 1, was_serving=True, killed_for_memory=True)
    assert type(found) is OutOfMemory
    assert "raise its memory" in str(found)


def test_a_reason_is_one_line_of_bounded_length() -> None:
    found = diagnosis("ValueError: " + "long " * 1000, 1, was_serving=False)
    assert len(reason(found)) < 500
    assert "\n" not in reason(EngineDied("a\nb"))
