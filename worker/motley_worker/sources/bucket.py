"""s3://: the objects below a prefix (AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, …). The only door to boto3."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, PartialCredentialsError

from motley_worker.errors import DownloadFailed, SourceNotFound, WorkerError
from motley_worker.sources.remote import Interrupted, Listing, RemoteFile

_CHUNK = 1 << 20
_MISSING = {"NoSuchBucket", "NoSuchKey", "404"}
_REFUSED = {"AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "403", "401"}


@dataclass(frozen=True)
class Bucket:
    name: str
    prefix: str  # without slashes at its ends; empty is the whole bucket

    @cached_property
    def _client(self) -> Any:
        retries = {"mode": "standard", "max_attempts": 3}
        return boto3.session.Session().client("s3", config=Config(connect_timeout=10, read_timeout=60, retries=retries))

    def listing(self) -> Listing:
        start = f"{self.prefix}/" if self.prefix else ""
        with self._errors():
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=start)
            objects = [item for page in pages for item in page.get("Contents", ())]
        files = tuple(
            RemoteFile(item["Key"].removeprefix(start), int(item["Size"]), item["ETag"])
            for item in objects
            if not item["Key"].endswith("/")  # consoles make empty objects for folders
        )
        return Listing(hashlib.sha256(repr(files).encode()).hexdigest(), files)

    def download(self, file: RemoteFile, version: str, folder: Path) -> None:
        """Continues where an earlier try ended; the ETag keeps two versions from being joined."""
        target = folder / file.path
        part = target.with_name(f"{target.name}.part")
        target.parent.mkdir(parents=True, exist_ok=True)
        have = part.stat().st_size if part.exists() else 0
        if have > file.size:
            part.unlink()
            have = 0
        if have < file.size or file.size == 0:
            self._append(file, part, have)
        part.rename(target)

    def _append(self, file: RemoteFile, part: Path, have: int) -> None:
        key = f"{self.prefix}/{file.path}" if self.prefix else file.path
        span = {"Range": f"bytes={have}-"} if have else {}
        with self._errors(), part.open("ab") as out:
            answer = self._client.get_object(Bucket=self.name, Key=key, IfMatch=file.tag, **span)
            if have and answer["ResponseMetadata"]["HTTPStatusCode"] != 206:
                out.truncate(0)  # a server that knows no ranges sends it all
            for chunk in answer["Body"].iter_chunks(_CHUNK):
                out.write(chunk)
        if part.stat().st_size != file.size:
            raise Interrupted(f"s3://{self.name}/{key}: {part.stat().st_size} of {file.size} bytes came")

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (BotoCoreError, ClientError) as error:
            raise self._mapped(error) from error

    def _mapped(self, error: Exception) -> WorkerError:
        where = f"s3://{self.name}/{self.prefix}"
        if isinstance(error, NoCredentialsError | PartialCredentialsError):
            return DownloadFailed(f"{where}: no credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
        code = str(error.response.get("Error", {}).get("Code", "")) if isinstance(error, ClientError) else ""
        if code in _MISSING:
            return SourceNotFound(f"{where}: not found ({code})")
        if code in _REFUSED:
            return DownloadFailed(f"{where}: refused ({code}); check AWS_ACCESS_KEY_ID and its permissions")
        if code in ("PreconditionFailed", "412"):
            return DownloadFailed(f"{where}: changed while it was downloaded")
        return Interrupted(f"{where}: {error}")
