"""`python -m motley_operator.release`: takes the drain finalizer off all GPUPools, so that after the operator is
uninstalled no pool is stuck in deletion. Serving pods are left alone."""

import logging
import sys

from motley_operator import logs
from motley_operator.errors import ApiError, NotFound
from motley_operator.kube import Kube, api_client
from motley_operator.labels import DRAIN_FINALIZER

log = logging.getLogger("motley_operator.release")


def release(kube: Kube) -> int:
    """Number of pools released; raises ApiError, after which it can simply be run again."""
    released = 0
    for pool in kube.listed("GPUPool"):
        before = pool["metadata"].get("finalizers") or []
        if DRAIN_FINALIZER in before:
            try:
                kube.set_finalizers("GPUPool", pool, [one for one in before if one != DRAIN_FINALIZER])
                released += 1
            except NotFound:
                pass  # gone meanwhile
    return released


if __name__ == "__main__":
    logs.set_up("INFO")
    try:
        log.info("released %d GPUPools", release(Kube(api_client())))
    except NotFound:
        log.info("the CRDs are gone; nothing to release")
    except ApiError as error:
        log.error("%s", error)
        sys.exit(1)
