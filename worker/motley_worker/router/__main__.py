"""`python -m motley_worker.router`: joins watches, view and server. Settings come from the environment.

MOTLEY_ROUTER_PORT           port of everything (8000)
MOTLEY_ROUTER_NAMESPACE      namespace whose routing tables count; empty for all (empty)
MOTLEY_ROUTER_DRAIN_SECONDS  how long responses in flight may take after SIGTERM (120)
"""

import asyncio
import logging
import os
import socket
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Generic, TypeVar

import uvloop
from pydantic import BaseModel

from motley_worker.router.app import app_of
from motley_worker.router.metrics import Metrics
from motley_worker.router.proxy import Proxy
from motley_worker.router.server import server_of
from motley_worker.router.tables import EndpointSlice, Key, RoutingTable
from motley_worker.router.view import Shelf, View
from motley_worker.router.watch import ENDPOINT_SLICES, ROUTING_TABLES, Watch, api_client

Item = TypeVar("Item", bound=BaseModel)


class InLoop(Generic[Item]):
    """A shelf of the view as a watch's thread may write to it: the event loop does the writing."""

    def __init__(self, loop: asyncio.AbstractEventLoop, shelf: Shelf[Item]) -> None:
        self._call = loop.call_soon_threadsafe
        self._shelf = shelf

    def replace(self, listed: Mapping[Key, Item | None]) -> None:
        self._call(self._shelf.replace, listed)

    def put(self, key: Key, item: Item | None) -> None:
        self._call(self._shelf.put, key, item)

    def drop(self, key: Key) -> None:
        self._call(self._shelf.drop, key)


async def route(port: int, namespace: str, drain_seconds: float) -> None:
    view = View()
    metrics = Metrics(router=socket.gethostname())
    api = api_client()
    loop = asyncio.get_running_loop()
    watches: list[Watch[Any]] = [
        Watch(api, replace(ROUTING_TABLES, namespace=namespace), RoutingTable, InLoop(loop, view.tables)),
        Watch(api, replace(ENDPOINT_SLICES, namespace=namespace), EndpointSlice, InLoop(loop, view.slices)),
    ]
    for watch in watches:
        watch.start()
    try:
        await server_of(app_of(view, metrics, Proxy(view, metrics)), "0.0.0.0", port, drain_seconds).serve()
    finally:
        for watch in watches:
            watch.stop()


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(
            route(
                port=int(os.environ.get("MOTLEY_ROUTER_PORT", "8000")),
                namespace=os.environ.get("MOTLEY_ROUTER_NAMESPACE", ""),
                drain_seconds=float(os.environ.get("MOTLEY_ROUTER_DRAIN_SECONDS", "120")),
            )
        )


if __name__ == "__main__":
    main()
