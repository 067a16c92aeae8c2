"""Why a worker ends, one exit code each: the operator and people read them from the pod's last state.

WorkerError
├── BadConfig         64  the WorkerConfig, or an argument that vLLM refused
├── SourceNotFound    65  the weights do not exist or cannot be read
├── DownloadFailed    66  credentials refused, network or disk trouble; worth another try
├── EngineNotStarted  67  vLLM ended, or could not generate a token, before it served
├── EngineDied        68  vLLM ended while it served
├── OutOfMemory       69  of the GPU or of the host
└── UnsupportedModel  70  this vLLM does not know the architecture

0 is a drained or stopped worker.
"""


class WorkerError(Exception):
    exit_code = 1


class BadConfig(WorkerError):
    exit_code = 64


class SourceNotFound(WorkerError):
    exit_code = 65


class DownloadFailed(WorkerError):
    exit_code = 66


class EngineNotStarted(WorkerError):
    exit_code = 67


class EngineDied(WorkerError):
    exit_code = 68


class OutOfMemory(WorkerError):
    exit_code = 69


class UnsupportedModel(WorkerError):
    exit_code = 70


def reason(error: WorkerError) -> str:
    """One line for the termination log."""
    words = " ".join(str(error).split())
    return f"{type(error).__name__}: {words}"[:1000]
