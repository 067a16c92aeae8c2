from collections.abc import Callable
from pathlib import Path

import pytest

from motley_worker.arguments import vllm_arguments, vllm_environment
from motley_worker.config import WorkerConfig

Config = Callable[..., str]


def arguments(text: str) -> str:
    return " ".join(vllm_arguments(WorkerConfig.model_validate_json(text), Path("/cache/abc"), 8000))


def test_every_field_reaches_vllm(worker_config: Config) -> None:
    text = worker_config(
        device="gpu", quantization="fp8", kvDtype="fp8", tensorParallel=4, extraArgs=["--seed", "7"], dtype="float16"
    )
    assert arguments(text) == (
        "--model /cache/abc --served-model-name tiny --host 0.0.0.0 --port 8000 --dtype float16 --quantization fp8 "
        "--kv-cache-dtype fp8 --max-model-len 1024 --tensor-parallel-size 4 --enable-chunked-prefill "
        "--enable-prompt-tokens-details --max-num-batched-tokens 512 --max-num-seqs 8 --shutdown-timeout 10 "
        "--disable-access-log-for-endpoints /health,/metrics --seed 7"
    )


@pytest.mark.parametrize("quantization", ["awq", "gptq"])
def test_weights_that_name_their_own_quantization_are_left_to_vllm(worker_config: Config, quantization: str) -> None:
    assert "--quantization" not in arguments(worker_config(quantization=quantization))


def test_the_users_arguments_come_last_so_that_they_win(worker_config: Config) -> None:
    assert arguments(worker_config(extraArgs=["--max-num-seqs", "3"])).endswith("--enforce-eager --max-num-seqs 3")


def test_a_cpu_engine_gets_settings_that_the_user_can_change(worker_config: Config) -> None:
    config = WorkerConfig.model_validate_json(worker_config())
    environ = vllm_environment(config, {"VLLM_CPU_KVCACHE_SPACE": "4", "HF_HUB_OFFLINE": "0"})
    assert environ["VLLM_CPU_KVCACHE_SPACE"] == "4"
    assert environ["VLLM_CPU_OMP_THREADS_BIND"] == "nobind"
    assert environ["HF_HUB_OFFLINE"] == "1"
    assert "VLLM_CPU_KVCACHE_SPACE" not in vllm_environment(
        WorkerConfig.model_validate_json(worker_config(device="gpu")), {}
    )
