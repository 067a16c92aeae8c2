"""Why did vLLM end? From its last lines to a WorkerError whose text is the telling line. Pure."""

import re
import signal
from collections.abc import Sequence

from motley_worker.errors import BadConfig, EngineDied, EngineNotStarted, OutOfMemory, UnsupportedModel, WorkerError

# First match wins: what vLLM says about memory and architecture is often followed by less telling errors.
_PATTERNS: tuple[tuple[type[WorkerError], re.Pattern[str]], ...] = (
    (
        OutOfMemory,
        re.compile(
            r"out of memory|OutOfMemoryError|No available memory for the cache blocks|Free memory on device"
            r"|KV cache is needed, which is larger than the available|can't allocate memory|Cannot allocate memory"
            r"|less than requested memory for kv"
            r"|larger than the maximum number of tokens that can be stored in KV cache|\bMemoryError\b",
            re.IGNORECASE,
        ),
    ),
    (
        UnsupportedModel,
        re.compile(
            r"Model architectures? .*(not supported|failed to be inspected)|does not recognize this architecture"
            r"|has no vLLM implementation|Unrecognized model in|No model architectures are specified"
        ),
    ),
    (
        BadConfig,
        re.compile(
            r"error: (unrecognized arguments|argument |the following arguments)|User-specified max_model_len"
            r"|validation errors? for \w*(Config|Args)|must be divisible by tensor parallel size"
        ),
    ),
)
_ERROR = re.compile(r"\b\w*(Error|Exception)\b: ")
_LONGEST = 320
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_NOISE = re.compile(r"^(\(\w+ pid=\d+\)\s*)?(DEBUG|INFO|WARNING)\b|.*(it/s|s/it)\]\s*$")  # and progress bars
_PREFIX = re.compile(r"^(\(\w+ pid=\d+\)\s*)?((ERROR|INFO|WARNING) [\d-]+ [\d:.]+ )?(\[[\w./]+:\d+\]\s*)*")


def diagnosis(output: str, returncode: int, was_serving: bool, killed_for_memory: bool = False) -> WorkerError:
    plain = [_COLOURS.sub("", line) for line in output.splitlines()]
    lines = [_PREFIX.sub("", line).strip() for line in plain if not _NOISE.match(line)]
    ended = f"signal {-returncode}" if returncode < 0 else f"code {returncode}"
    if killed_for_memory:
        return OutOfMemory(f"vLLM ended ({ended}): the kernel killed a process of this container; raise its memory")
    for kind, pattern in _PATTERNS:
        line = next((line for line in lines if pattern.search(line)), None)
        if line is not None:
            return kind(f"vLLM ended ({ended}): {_with_detail(lines, line)}")
    kind = EngineDied if was_serving else EngineNotStarted
    return kind(f"vLLM ended ({ended}): {_last_words(lines, returncode)}")


def _with_detail(lines: Sequence[str], line: str) -> str:
    """pydantic says what is wrong on the lines that follow."""
    start = lines.index(line)
    return " ".join(lines[start : start + 3])[:_LONGEST] if "validation error" in line else line[:_LONGEST]


def _last_words(lines: Sequence[str], returncode: int) -> str:
    """The first error tells more than the last: later ones say that earlier ones happened."""
    spoken = [line for line in lines if line]
    error = next((line for line in spoken if _ERROR.search(line)), None)
    if error is None and returncode == -signal.SIGKILL:
        return "killed from outside"
    return (error or (spoken[-1] if spoken else "it said nothing"))[:_LONGEST]
