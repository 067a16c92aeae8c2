"""The real launcher with the fake engine for vLLM. Inherits orphans as process 1 of a container does."""

import ctypes
import sys
from pathlib import Path

from motley_worker.launch import run
from motley_worker.process import main

PR_SET_CHILD_SUBREAPER = 36

if __name__ == "__main__":
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
    main(lambda pod: run(pod, vllm=(sys.executable, str(Path(__file__).with_name("fake_engine.py")))))
