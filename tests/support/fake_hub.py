"""As much of a Hugging Face hub as a download needs, on loopback."""

import hashlib
import json
import re

from loopback import Loopback, Request

_INFO = re.compile(r"^/api/models/([\w.-]+/[\w.-]+?)(?:/revision/([^/?]+))?(?:\?.*)?$")
_FILE = re.compile(r"^/([\w.-]+/[\w.-]+)/resolve/([^/]+)/([^?]+)")


class FakeHub(Loopback):
    def __init__(self, host: str = "127.0.0.1") -> None:
        super().__init__(host)
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.sizes: dict[str, int] = {}  # what is declared, where that is not the truth
        self.token: str | None = None  # what a request must bear

    def commit(self, repository: str) -> str:
        files = self.repositories[repository]
        return hashlib.sha1(repr(sorted(files.items())).encode()).hexdigest()

    def answer(self, request: Request) -> tuple[int, dict[str, str], bytes]:
        if self.token is not None and request.headers.get("authorization") != f"Bearer {self.token}":
            return 401, {"X-Error-Message": "Invalid credentials"}, b"{}"
        if found := _INFO.match(request.path):
            return self._info(found[1], found[2])
        if (found := _FILE.match(request.path)) and found[1] in self.repositories:
            return self._file(request, found[1], found[3])
        return 404, {"X-Error-Code": "RepoNotFound"}, b"{}"

    def _info(self, repository: str, revision: str | None) -> tuple[int, dict[str, str], bytes]:
        files = self.repositories.get(repository)
        if files is None:
            return 404, {"X-Error-Code": "RepoNotFound"}, b"{}"
        commit = self.commit(repository)
        if revision not in (None, "main", commit):
            return 404, {"X-Error-Code": "RevisionNotFound"}, b"{}"
        siblings = [{"rfilename": name, "size": self.sizes.get(name, len(body))} for name, body in files.items()]
        return 200, {}, json.dumps({"id": repository, "sha": commit, "siblings": siblings}).encode()

    def _file(self, request: Request, repository: str, name: str) -> tuple[int, dict[str, str], bytes]:
        body = self.repositories[repository].get(name)
        commit = self.commit(repository)
        if body is None:
            return 404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit}, b"{}"
        headers = {"ETag": f'"{hashlib.sha1(body).hexdigest()}"', "X-Repo-Commit": commit}
        if span := request.headers.get("range"):
            start = int(span.removeprefix("bytes=").rstrip("-"))
            headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
            return 206, headers, body[start:]
        return 200, headers, body
