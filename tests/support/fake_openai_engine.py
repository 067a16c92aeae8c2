"""A small OpenAI-compatible engine on loopback that misbehaves on command. Also a fast yardstick for benchmarks."""

import argparse
import asyncio
import json
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Received:
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class FakeEngine:
    """`behaviour`: serve, close_before_head, close_after_head, close_in_body, error_event, silent, or a status."""

    name: str = "engine"
    host: str = "127.0.0.1"
    behaviour: str = "serve"
    first: list[str] = field(default_factory=list)
    """Behaviours of the next requests; `behaviour` holds when they are used up."""
    health: int = 200
    tokens: int = 4
    prompt_tokens: int = 10
    cached_tokens: int = 0
    """Of the prompt; told as vLLM does with --enable-prompt-tokens-details."""
    gate: asyncio.Semaphore | None = None
    """When set, each chunk waits for one release."""
    received: list[Received] = field(default_factory=list)
    left: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the other side hangs up on a response."""
    port: int = 0
    connections: int = 0
    """Taken so far."""
    _server: asyncio.Server | None = None
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)

    @property
    def open_connections(self) -> int:
        return len(self._writers)

    async def start(self) -> "FakeEngine":
        self._server = await asyncio.start_server(self._connection, self.host, self.port, limit=1 << 26)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def stop(self) -> None:
        """Refuses connections from now on and resets those there are, as a killed process does."""
        if self._server is not None:
            self._server.close()
            for writer in list(self._writers):
                writer.transport.abort()
            await self._server.wait_closed()
            self._server = None

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(writer)
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                request = await _request(head, reader)
                if request.path == "/health":
                    await _send(writer, self.health, b"")
                    continue
                self.received.append(request)
                if not await self._answer(request, reader, writer):
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _answer(self, request: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Whether the connection may be used again."""
        behaviour = self.first.pop(0) if self.first else self.behaviour
        if behaviour.isdigit():
            await _send(writer, int(behaviour), json.dumps({"error": {"message": self.name}}).encode())
            return True
        if behaviour == "close_before_head":
            return False
        hang_up = asyncio.create_task(reader.read(1))
        try:
            if behaviour == "silent":
                await hang_up
            else:
                await self._complete(request, writer, hang_up)
        finally:
            if hang_up.done() and not hang_up.cancelled():
                self.left.set()
            hang_up.cancel()
            await asyncio.gather(hang_up, return_exceptions=True)
        return behaviour == "serve" and not self.left.is_set()

    async def _complete(self, request: Received, writer: asyncio.StreamWriter, hang_up: "asyncio.Task[bytes]") -> None:
        body = request.json
        chat = request.path == "/v1/chat/completions"
        if not body.get("stream"):
            if self.gate is not None:
                await self._pass_gate(hang_up)
            whole = json.dumps(self._document(body, chat)).encode()
            await _send(writer, 200, whole, cut=self.behaviour == "close_in_body")
            return
        writer.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
        )
        if self.behaviour == "close_after_head":
            await writer.drain()
            return
        for number, event in enumerate(self._events(body, chat)):
            if self.behaviour == "close_in_body" and number == 2:
                await writer.drain()
                return
            if self.gate is not None and not await self._pass_gate(hang_up):
                return
            data = b"data: " + (event if isinstance(event, bytes) else json.dumps(event).encode()) + b"\n\n"
            writer.write(b"%x\r\n%b\r\n" % (len(data), data))
            await writer.drain()
        writer.write(b"0\r\n\r\n")
        await writer.drain()

    async def _pass_gate(self, hang_up: "asyncio.Task[bytes]") -> bool:
        assert self.gate is not None
        opened = asyncio.create_task(self.gate.acquire())
        await asyncio.wait((opened, hang_up), return_when=asyncio.FIRST_COMPLETED)
        opened.cancel()
        return not hang_up.done()

    def _usage(self) -> dict[str, Any]:
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.tokens,
            "total_tokens": self.prompt_tokens + self.tokens,
            "prompt_tokens_details": {"cached_tokens": self.cached_tokens},
        }

    def _document(self, body: Any, chat: bool) -> dict[str, Any]:
        text = " ".join(f"{self.name}{number}" for number in range(self.tokens))
        said = {"message": {"role": "assistant", "content": text}} if chat else {"text": text}
        return {
            "id": "cmpl-1",
            "object": "chat.completion" if chat else "text_completion",
            "created": 1,
            "model": body["model"],
            "choices": [{"index": 0, "finish_reason": "length", **said}],
            "usage": self._usage(),
        }

    def _events(self, body: Any, chat: bool) -> list[dict[str, Any] | bytes]:
        if self.behaviour == "error_event":
            return [{"error": {"message": "EngineCore encountered an issue", "code": 500}}, b"[DONE]"]
        head = {"id": "cmpl-1", "created": 1, "model": body["model"]}
        head["object"] = "chat.completion.chunk" if chat else "text_completion"

        def event(**said: Any) -> dict[str, Any]:
            return {**head, "choices": [{"index": 0, "finish_reason": None, **said}]}

        words = [f"{self.name}{number} " for number in range(self.tokens)]
        events: list[dict[str, Any] | bytes] = []
        if chat:
            events.append(event(delta={"role": "assistant", "content": ""}))
        events += [event(delta={"content": word}) if chat else event(text=word) for word in words]
        if (body.get("stream_options") or {}).get("include_usage"):
            events.append({**head, "choices": [], "usage": self._usage()})
        return [*events, b"[DONE]"]


async def _request(head: bytes, reader: asyncio.StreamReader) -> Received:
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Received(first.split(" ")[1], headers, body)


async def _send(writer: asyncio.StreamWriter, status: int, body: bytes, cut: bool = False) -> None:
    writer.write(
        b"HTTP/1.1 %d Said\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % (status, len(body))
    )
    writer.write(body[: len(body) // 2] if cut else body)
    await writer.drain()


async def _serve_alone(port: int, tokens: int) -> None:
    await FakeEngine(port=port, tokens=tokens).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    import uvloop

    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--port", type=int, required=True)
    arguments.add_argument("--tokens", type=int, default=16)
    chosen = arguments.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve_alone(chosen.port, chosen.tokens))
