"""Reading many small objects: the request that boto3 sends, without most of what boto3 does before and after it.

Of the processor time of boto3's `get_object`, signing the request and exchanging it for the answer take less than half;
and the server has fewer headers to read. Only a plain success counts here: whatever else there is, boto3 is asked for
the same object again, which tries more than once, and explains. What listens to boto3's requests hears these as well.
"""

from __future__ import annotations

import base64
import threading
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import quote

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSPreparedRequest, AWSRequest, AWSResponse
from botocore.exceptions import ConnectionError as BotocoreConnectionError
from botocore.exceptions import HTTPClientError
from botocore.hooks import first_non_none_response

from chromadb_compaction.ports import StoredObject

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

BEFORE_SEND: Final = "before-send.s3.GetObject"
SAFE: Final = "/~"
"""What stands in a URL as it is, beside letters, digits and `_.-`: as botocore writes keys."""
SIGNED: Final = "AWS4-HMAC-SHA256 Credential="
CRC32: Final = "x-amz-checksum-crc32"


class _Origin(NamedTuple):
    """Where boto3 has found the bucket, and for which region it signed the request."""

    url: str
    region: str


class SignedGets:
    """Gets the objects of one bucket, once boto3 has been seen to get one."""

    def __init__(self, client: S3Client) -> None:
        self._client: Any = client
        self._origin: _Origin | None = None
        self._watched = threading.local()
        self._listening = threading.Lock()

    def get(self, key: str) -> StoredObject | None:
        """Return the object; None: boto3 must be asked."""
        if self._origin is None:
            return None
        request = AWSRequest("GET", self._origin.url + quote(key, safe=SAFE), {"x-amz-checksum-mode": "ENABLED"})
        # Asked of the client each time, since it renews them.
        credentials = self._client._get_credentials().get_frozen_credentials()  # noqa: SLF001 - no public way to them
        S3SigV4Auth(credentials, "s3", self._origin.region).add_auth(request)
        try:
            answer = self._exchange(request.prepare())
            return _stored(answer.headers, answer.content) if answer.status_code == 200 else None
        except (HTTPClientError, BotocoreConnectionError):
            return None

    @contextmanager
    def watching(self, key: str) -> Iterator[None]:
        """Learn from boto3's request for `key`, which this thread makes in the block, where the bucket is."""
        if self._origin is not None:
            yield
            return
        if self._listening.acquire(blocking=False):  # and never released: once is enough
            self._client.meta.events.register(BEFORE_SEND, self._learn)
        self._watched.key = key
        try:
            yield
        finally:
            self._watched.key = None

    def _learn(self, request: AWSPreparedRequest, **_: object) -> None:
        key = getattr(self._watched, "key", None)
        written = request.headers.get("Authorization", b"")
        scope = written.decode() if isinstance(written, bytes) else written
        path = quote(key, safe=SAFE) if key else ""
        # Another kind of signature, or another way of writing a key, is boto3's own affair.
        if path and request.url.endswith("/" + path) and scope.startswith(SIGNED):
            self._origin = _Origin(request.url.removesuffix(path), scope.split("/")[2])

    def _exchange(self, request: AWSPreparedRequest) -> AWSResponse:
        answer: AWSResponse | None = first_non_none_response(
            self._client.meta.events.emit(BEFORE_SEND, request=request)
        )
        if answer is None:
            # By the client's own connections, with the certificates and proxies that it was told.
            answer = self._client._endpoint.http_session.send(request)  # noqa: SLF001 - no public way to them
        return answer


def _stored(headers: Mapping[str, str], body: bytes) -> StoredObject | None:
    """Return the object unless its bytes are not those that S3 states."""
    stated, etag, modified = (headers.get(name, "") for name in (CRC32, "etag", "last-modified"))
    if not (etag and modified) or len(body) != int(headers.get("content-length", -1)):
        return None
    # Of an object uploaded in parts it may be a sum of sums, with their number after a dash.
    if stated and "-" not in stated and base64.b64decode(stated) != zlib.crc32(body).to_bytes(4, "big"):
        return None
    return StoredObject(body, etag, parsedate_to_datetime(modified).timestamp())
