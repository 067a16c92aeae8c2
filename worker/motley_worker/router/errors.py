"""Errors in OpenAI's shape, as bytes and as ASGI responses."""

import json
from collections.abc import Mapping

from starlette.responses import Response

RETRY_AFTER_SECONDS = 5
CLOSE = {"connection": "close"}  # the rest of the body is not worth reading
HEADERS: Mapping[int, Mapping[str, str]] = {503: {"retry-after": str(RETRY_AFTER_SECONDS)}, 408: CLOSE, 413: CLOSE}


class Refusal(Exception):
    """A request that is answered by us, not by an engine."""

    def __init__(self, status: int, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.param = param
        self.code = code

    @property
    def body(self) -> bytes:
        kind = "invalid_request_error" if self.status < 500 else "server_error"
        error = {"message": self.message, "type": kind, "param": self.param, "code": self.code}
        return json.dumps({"error": error}).encode()

    def response(self) -> Response:
        return Response(self.body, self.status, HEADERS.get(self.status), "application/json")


def unknown_model(name: str) -> Refusal:
    shown = name if len(name) <= 200 else name[:200] + "…"
    return Refusal(
        404, f"The model `{shown}` does not exist; GET /v1/models lists those that do.", param="model",
        code="model_not_found",
    )  # fmt: skip


def no_endpoint(model: str) -> Refusal:
    return Refusal(503, f"No engine of the model `{model}` answers now; try again later.", code="no_endpoint")
