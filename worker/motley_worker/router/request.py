"""What the router reads of a completion request's body: the model's name and how big the request is.

The body itself is forwarded as it came; whether the rest of it makes sense is the engine's to say.
"""

from dataclasses import dataclass
from typing import Any

from pydantic_core import from_json

MEDIA = frozenset({"image_url", "image_embeds", "input_audio", "audio_url", "video_url", "file"})


class BadRequest(Exception):
    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


@dataclass(frozen=True, slots=True)
class Ask:
    model: str
    text_bytes: int
    token_ids: int
    """Tokens that the client counted for us: a prompt given as token ids."""
    max_output_tokens: int | None
    only_text: bool
    """Whether the prompt's tokens all come from its text (no images, no audio)."""


def ask_of(body: bytes) -> Ask:
    try:
        request = from_json(body)
    except ValueError as error:
        raise BadRequest(f"The body is not JSON: {error}") from None
    if not isinstance(request, dict):
        raise BadRequest("The body must be a JSON object.")
    model = request.get("model")
    if not isinstance(model, str) or not model:
        raise BadRequest("Name the model to ask as a string; GET /v1/models lists them.", "model")
    size = _Size()
    for field in ("messages", "prompt", "tools"):
        size.add(request.get(field))
    return Ask(
        model=model,
        text_bytes=size.text_bytes,
        token_ids=size.token_ids,
        max_output_tokens=_positive(request.get("max_completion_tokens")) or _positive(request.get("max_tokens")),
        only_text=not size.media,
    )


def _positive(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


class _Size:
    def __init__(self) -> None:
        self.text_bytes = 0
        self.token_ids = 0
        self.media = False

    def add(self, value: Any) -> None:
        """The parser bounds the nesting, so recursion is bounded here."""
        if isinstance(value, str):
            self.text_bytes += len(value) if value.isascii() else len(value.encode())
        elif isinstance(value, int):
            self.token_ids += 1
        elif isinstance(value, list):
            for item in value:
                self.add(item)
        elif isinstance(value, dict):
            for key, item in value.items():
                if key in MEDIA:
                    self.media = True
                else:
                    self.add(item)
