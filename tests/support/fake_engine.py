"""Speaks as much of vLLM's API as the launcher needs and misbehaves on command. Started with vLLM's arguments.

FAKE_ENGINE, words in one string: `silent` never answers, `tokenless` generates nothing, `stubborn` ignores SIGTERM,
`family` has a child in its process group and leaves an orphan behind. FAKE_ENGINE_LAST_WORDS: says this and exits."""

import argparse
import json
import os
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

BEHAVIOUR = os.environ.get("FAKE_ENGINE", "").split()
ORPHAN = "import os, sys; os.fork() and sys.exit(); print('orphan', os.getpid(), flush=True)"

running = 0
lock = threading.Lock()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path == "/metrics":
            lines = ("vllm:num_requests_running", running), ("vllm:num_requests_waiting", 0)
            self._send(200, "".join(f'{name}{{engine="0"}} {value}.0\n' for name, value in lines))
        else:
            self._send(200, "")

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/die":
            print(body["words"], flush=True)
            os._exit(body["code"])
        if "tokenless" in BEHAVIOUR:
            self._send(500, "no tokens today")
            return
        self._complete(body)

    def _complete(self, body: dict[str, int]) -> None:
        global running
        with lock:
            running += 1
        try:
            if body.get("stream"):
                self._stream(body["max_tokens"])
            else:
                self._send(200, json.dumps({"choices": [{"text": "x"}]}))
        finally:
            with lock:
                running -= 1

    def _stream(self, tokens: int) -> None:
        self.send_response(200)
        self.send_header("Connection", "close")
        self.end_headers()
        for _ in range(tokens):
            self.wfile.write(b'data: {"choices": [{"text": "x"}]}\n\n')
            self.wfile.flush()
            time.sleep(0.05)
        self.wfile.write(b"data: [DONE]\n\n")
        self.close_connection = True

    def _send(self, status: int, text: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, format: str, *args: object) -> None:
        pass


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    port = parser.parse_known_args()[0].port
    if words := os.environ.get("FAKE_ENGINE_LAST_WORDS"):
        sys.exit(words)
    if "stubborn" in BEHAVIOUR:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if "family" in BEHAVIOUR:
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        print("child", child.pid, flush=True)
        subprocess.run([sys.executable, "-c", ORPHAN], check=True)
    if "silent" in BEHAVIOUR:
        signal.pause()
    ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()


if __name__ == "__main__":
    main()
