"""From a WorkerConfig to vLLM's command line and environment. Pure: starts nothing, reads nothing."""

import sys
from collections.abc import Mapping
from pathlib import Path

from motley_worker.config import WorkerConfig

# A module, not the `vllm` command: builds of vLLM under another distribution name lack the command.
VLLM = (sys.executable, "-m", "vllm.entrypoints.openai.api_server")

# How long vLLM finishes requests that no metric showed yet when the launcher stops it.
SHUTDOWN_SECONDS = 10


def vllm_arguments(config: WorkerConfig, model_dir: Path, port: int = 8000) -> tuple[str, ...]:
    """awq and gptq weights say so themselves, and vLLM then picks its fastest kernel; naming them pins a slow one."""
    return (
        *("--model", str(model_dir)),
        *("--served-model-name", config.served_name),
        *("--host", "0.0.0.0"),
        *("--port", str(port)),
        *("--dtype", config.dtype),
        *(("--quantization", "fp8") if config.quantization == "fp8" else ()),
        *("--kv-cache-dtype", config.kv_dtype),
        *("--max-model-len", str(config.max_model_len)),
        *("--tensor-parallel-size", str(config.tensor_parallel)),
        "--enable-chunked-prefill",
        "--enable-prompt-tokens-details",  # how many were cached, for the router's counters
        *("--max-num-batched-tokens", str(config.max_num_batched_tokens)),
        *("--max-num-seqs", str(config.max_num_seqs)),
        *("--shutdown-timeout", str(SHUTDOWN_SECONDS)),
        *("--disable-access-log-for-endpoints", "/health,/metrics"),
        *(("--enforce-eager",) if config.device == "cpu" else ()),
        *config.extra_args,
    )


def vllm_environment(config: WorkerConfig, environ: Mapping[str, str]) -> dict[str, str]:
    """The weights are local by now: vLLM must not ask a hub for anything."""
    forced = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "PYTHONUNBUFFERED": "1"}
    cpu = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_NUM_THREADS": "1"}
    return {**(cpu if config.device == "cpu" else {}), **environ, **forced}
