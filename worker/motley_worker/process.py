"""How a worker's process begins, says why it ends, and ends. Knows nothing of what it does in between."""

import logging
import os
import signal
import sys
from collections.abc import Callable
from typing import NoReturn

from motley_worker.config import Pod
from motley_worker.errors import WorkerError, reason

log = logging.getLogger("motley.worker")


def main(work: Callable[[Pod], None]) -> NoReturn:
    """Exits with 0, or with the WorkerError's code and its reason in the log and in the termination log."""
    # As process 1 of a container an unhandled SIGTERM is ignored.
    signal.signal(signal.SIGTERM, lambda *_: _leave(0))
    logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for chatty in ("httpx", "httpx2"):  # a line per request
        logging.getLogger(chatty).setLevel(logging.WARNING)
    pod = Pod()
    try:
        pod = Pod.from_env()
        work(pod)
    except WorkerError as error:
        log.error("%s", reason(error))
        pod.write_termination_log(reason(error))
        _leave(error.exit_code)
    except Exception:
        log.exception("a bug in Motley")
        _leave(1)
    _leave(0)


def _leave(code: int) -> NoReturn:
    """At once: Python would wait for threads that are still downloading."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
