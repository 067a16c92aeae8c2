"""As much of S3 as a download needs, on loopback: listing in pages, ranges, ETags."""

import hashlib
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

from loopback import Loopback, Request

Answer = tuple[int, dict[str, str], bytes]


class FakeBucket(Loopback):
    def __init__(self, name: str = "models", page: int = 2, host: str = "127.0.0.1") -> None:
        super().__init__(host)
        self.name = name
        self.page = page
        self.objects: dict[str, bytes] = {}
        self.ranges = True

    def answer(self, request: Request) -> Answer:
        url = urlsplit(request.path)
        bucket, _, key = unquote(url.path).removeprefix("/").partition("/")
        if "authorization" not in request.headers:
            return _error(403, "AccessDenied")
        if bucket != self.name:
            return _error(404, "NoSuchBucket")
        return self._object(request, key) if key else self._list(parse_qs(url.query))

    def _list(self, query: dict[str, list[str]]) -> Answer:
        prefix = query.get("prefix", [""])[0]
        start = int(query.get("continuation-token", ["0"])[0])
        keys = [key for key in sorted(self.objects) if key.startswith(prefix)]
        page = keys[start : start + self.page]
        more = start + self.page < len(keys)
        contents = "".join(
            f"<Contents><Key>{escape(key)}</Key><ETag>{escape(self._etag(key))}</ETag>"
            f"<Size>{len(self.objects[key])}</Size></Contents>"
            for key in page
        )
        token = f"<NextContinuationToken>{start + self.page}</NextContinuationToken>" if more else ""
        body = (
            '<?xml version="1.0"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
            f"<IsTruncated>{str(more).lower()}</IsTruncated>{token}{contents}</ListBucketResult>"
        )
        return 200, {"Content-Type": "application/xml"}, body.encode()

    def _object(self, request: Request, key: str) -> Answer:
        body = self.objects.get(key)
        if body is None:
            return _error(404, "NoSuchKey")
        if request.headers.get("if-match", self._etag(key)) != self._etag(key):
            return _error(412, "PreconditionFailed")
        headers = {"ETag": self._etag(key)}
        span = request.headers.get("range")
        if span and self.ranges:
            start = int(span.removeprefix("bytes=").rstrip("-"))
            return 206, {**headers, "Content-Range": f"bytes {start}-{len(body) - 1}/{len(body)}"}, body[start:]
        return 200, headers, body

    def _etag(self, key: str) -> str:
        return f'"{hashlib.md5(self.objects[key]).hexdigest()}"'


def _error(status: int, code: str) -> Answer:
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{code}</Message></Error>"
    return status, {"Content-Type": "application/xml"}, body.encode()
