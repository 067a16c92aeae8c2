"""The router's HTTP face: an allow-list of paths, everything else is 404 in OpenAI's shape."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from motley_worker.router.errors import Refusal
from motley_worker.router.metrics import Metrics
from motley_worker.router.proxy import CHAT_PATH, Proxy
from motley_worker.router.view import View

log = logging.getLogger(__name__)


def app_of(view: View, metrics: Metrics, proxy: Proxy) -> Starlette:
    """Closes `proxy` when it stops. `app.state.draining` turns `/readyz` off."""

    async def models(request: Request) -> Response:
        routes = sorted(view.routes.values(), key=lambda route: route.served_name)
        listed = [
            {"id": route.served_name, "object": "model", "created": route.created, "owned_by": "motley"}
            for route in routes
        ]
        return JSONResponse({"object": "list", "data": listed})

    async def healthz(request: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def readyz(request: Request) -> Response:
        if request.app.state.draining:
            return PlainTextResponse("draining\n", 503)
        if not view.synced:
            return PlainTextResponse("routing tables and endpoints have not been listed yet\n", 503)
        return PlainTextResponse("ok\n")

    async def scrape(request: Request) -> Response:
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)

    async def scrape_sizes(request: Request) -> Response:
        """Hundreds of lines per Model: not for every scrape."""
        return Response(metrics.offered.text(), media_type=CONTENT_TYPE_LATEST)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        await proxy.aclose()

    app = Starlette(
        routes=[
            Route(CHAT_PATH, proxy, methods=["POST"]),
            Route("/v1/completions", proxy, methods=["POST"]),
            Route("/v1/models", models),
            Route("/healthz", healthz),
            Route("/readyz", readyz),
            Route("/metrics", scrape),
            Route("/metrics/sizes", scrape_sizes),
        ],
        exception_handlers={HTTPException: _refuse, Exception: _fail},
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False
    app.state.draining = False
    return app


async def _refuse(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    message = f"There is no {request.method} {request.url.path[:200]} here."
    response = Refusal(error.status_code, message).response()
    response.headers.update(error.headers or {})
    return response


async def _fail(request: Request, error: Exception) -> Response:
    return Refusal(500, "The router failed on this request.").response()
