"""Which endpoint gets a request: the plan's shares pick the backend, the fewest outstanding requests the endpoint.

A function of frozen values and a random source; knows no network and remembers nothing.
"""

from collections.abc import Collection, Mapping, Sequence
from random import Random

from motley_worker.router.tables import Endpoint, Route, Size


def size_of(sizes: Sequence[Size], input_tokens: int, output_tokens: int) -> Size | None:
    """Among sizes of the smallest input that holds the request, the smallest output that holds the expected one, else
    the largest: the input is known and decides, the output is expected only. `sizes` are ordered, smallest first."""
    if not sizes:
        return None
    known = next((size.input_tokens for size in sizes if input_tokens <= size.input_tokens), sizes[-1].input_tokens)
    alike = [size for size in sizes if size.input_tokens == known]
    return next((size for size in alike if output_tokens <= size.output_tokens), alike[-1])


def choose(
    route: Route,
    size: Size | None,
    outstanding: Mapping[Endpoint, int],
    avoid: Collection[Endpoint],
    tried: Collection[Endpoint],
    random: Random,
) -> Endpoint | None:
    """`avoid`: known not to answer, never chosen. `tried`: failed this request, chosen only if nothing else is left."""
    live = [[endpoint for endpoint in backend if endpoint not in avoid] for backend in route.backends]
    fresh = [[endpoint for endpoint in backend if endpoint not in tried] for backend in live]
    for backends in (fresh, live):
        backend = _backend(backends, size, random)
        if backend:
            return _least_outstanding(backend, outstanding, random)
    return None


def _backend(backends: list[list[Endpoint]], size: Size | None, random: Random) -> list[Endpoint]:
    """By the plan's shares among backends that live; without such a share any that lives (all its endpoints pooled)."""
    if size is not None:
        shares = [share if endpoints else 0.0 for share, endpoints in zip(size.shares, backends, strict=True)]
        if sum(shares) > 0:
            return random.choices(backends, weights=shares)[0]
    return [endpoint for endpoints in backends for endpoint in endpoints]


def _least_outstanding(endpoints: Sequence[Endpoint], outstanding: Mapping[Endpoint, int], random: Random) -> Endpoint:
    if len(endpoints) == 1:
        return endpoints[0]
    fewest = min(outstanding.get(endpoint, 0) for endpoint in endpoints)
    return random.choice([endpoint for endpoint in endpoints if outstanding.get(endpoint, 0) == fewest])
