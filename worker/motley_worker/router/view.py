"""What the router last saw of the cluster: the last good version of each object, and the routes they make.

Knows no API server. When nothing arrives any more, what is here stays.
"""

from collections.abc import Mapping
from typing import Generic, TypeVar

from motley_worker.router.tables import Endpoint, EndpointSlice, Key, Route, RoutingTable, routes_of

Item = TypeVar("Item")


class Shelf(Generic[Item]):
    """The objects of one kind by (namespace, name). `None` stands for a malformed object."""

    def __init__(self) -> None:
        self.items: dict[Key, Item] = {}
        self.listed = False
        self.changes = 0

    def replace(self, listed: Mapping[Key, Item | None]) -> None:
        kept = {key: self.items.get(key) if item is None else item for key, item in listed.items()}
        self.items = {key: item for key, item in kept.items() if item is not None}
        self.listed = True
        self.changes += 1

    def put(self, key: Key, item: Item | None) -> None:
        if item is not None:
            self.items[key] = item
            self.changes += 1

    def drop(self, key: Key) -> None:
        self.items.pop(key, None)
        self.changes += 1


class View:
    """Read and written only from the event loop."""

    def __init__(self) -> None:
        self.tables: Shelf[RoutingTable] = Shelf()
        self.slices: Shelf[EndpointSlice] = Shelf()
        self._routes: Mapping[str, Route] = {}
        self._endpoints: frozenset[Endpoint] = frozenset()
        self._seen = (0, 0)

    @property
    def synced(self) -> bool:
        return self.tables.listed and self.slices.listed

    @property
    def routes(self) -> Mapping[str, Route]:
        self._refresh()
        return self._routes

    @property
    def endpoints(self) -> frozenset[Endpoint]:
        """Every live endpoint of every route."""
        self._refresh()
        return self._endpoints

    def _refresh(self) -> None:
        seen = (self.tables.changes, self.slices.changes)
        if seen == self._seen:
            return
        self._seen = seen
        self._routes = routes_of(self.tables.items.values(), self.slices.items.values())
        self._endpoints = frozenset(
            endpoint for route in self._routes.values() for backend in route.backends for endpoint in backend
        )
