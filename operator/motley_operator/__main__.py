"""The operator's process: `python -m motley_operator`. Threads watch and keep the lease; the main one runs passes."""

import gc
import logging
import os
import signal
import sys
import threading
import time
from datetime import UTC, datetime

from pydantic import ValidationError

from motley_operator import handlers, logs, metrics, traffic
from motley_operator.batch import Batcher
from motley_operator.errors import ApiError, LeaseLost
from motley_operator.kube import Kube, api_client
from motley_operator.lease import Lease
from motley_operator.reconcile import Reconciler
from motley_operator.settings import Settings, from_env
from motley_operator.solving import Solver

log = logging.getLogger("motley_operator")

RETRY_SECONDS = 2.0
STUCK_SECONDS = 300.0
"""A leader whose pass takes longer than this is restarted by its liveness probe."""


class Passes:
    """Runs a pass when poked or when it is time, as long as the lease is held."""

    def __init__(self, reconciler: Reconciler, lease: Lease, batcher: Batcher, settings: Settings) -> None:
        self._reconciler, self._lease, self._batcher, self._settings = reconciler, lease, batcher, settings
        self._began: float | None = None

    def run(self, stop: threading.Event) -> None:
        wait = 0.0
        while not stop.is_set():
            self._batcher.wait(wait)
            if stop.is_set():
                return
            if self._lease.held():
                wait = self._pass()
            else:
                metrics.forget()
                wait = self._settings.resync_seconds

    def _pass(self) -> float:
        self._began = time.monotonic()
        try:
            return self._reconciler.run_pass()
        except LeaseLost as error:
            log.warning("%s", error)
        except ApiError as error:
            metrics.PASS_FAILURES.inc()
            log.warning("%s; the fleet stays as it is", error)
        except Exception:
            metrics.PASS_FAILURES.inc()
            log.exception("a pass failed; the fleet stays as it is")
        finally:
            self._began = None
        return RETRY_SECONDS

    def stuck(self) -> str:
        began = self._began
        return "a pass does not end" if began is not None and time.monotonic() - began > STUCK_SECONDS else ""


def main() -> int:
    try:
        settings = from_env()
    except (ValidationError, ValueError) as error:
        print(f"settings: {error}", file=sys.stderr)
        return 2
    logs.set_up(settings.log_level)
    gc.freeze()  # what is imported stays
    gc.set_threshold(50_000, 20, 100)  # lists are large trees without cycles: looking for garbage in them costs most
    stop, batcher = threading.Event(), Batcher()
    lease = Lease(
        Kube(api_client()), settings.namespace, settings.identity, settings.lease_seconds, on_change=batcher.poke
    )
    kube = Kube(api_client(), may_write=lease.require)
    reconciler = Reconciler(kube, traffic.observed, settings, Solver(settings.solve_seconds), lambda: datetime.now(UTC))
    passes = Passes(reconciler, lease, batcher, settings)
    watching = threading.Thread(target=_watch, args=(batcher, stop, settings.identity), name="kopf", daemon=True)

    def unhealthy() -> str:
        return passes.stuck() or ("" if watching.is_alive() or stop.is_set() else "the watches ended")

    server = metrics.serve(settings.metrics_port, unhealthy, unhealthy)

    def leave(*_: object) -> None:
        stop.set()
        batcher.poke()

    signal.signal(signal.SIGTERM, leave)
    signal.signal(signal.SIGINT, leave)
    watching.start()
    lease.start()
    passes.run(stop)
    lease.stop()
    watching.join(timeout=5)
    server.shutdown()
    return 0


def _watch(batcher: Batcher, stop: threading.Event, identity: str) -> None:
    try:
        handlers.watch(batcher.poke, stop, identity)
    except Exception:
        log.exception("the watches failed")
        if not stop.is_set():
            os.kill(os.getpid(), signal.SIGTERM)  # without watches the operator is blind: start anew


if __name__ == "__main__":
    sys.exit(main())
