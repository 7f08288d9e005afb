"""The S3 operations that the product and its tests use, with their conditions."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import formatdate
from itertools import count
from typing import NamedTuple
from urllib.parse import parse_qsl, quote, unquote, urlsplit
from xml.etree import ElementTree as ET
from xml.sax.saxutils import escape

from botocore.awsrequest import AWSPreparedRequest

from tests.fakes.aws.protocol import Answer, Call, Refusal, answer_xml, text_header

PAGE = 1000
_RANGE = re.compile(r"bytes=(\d+)-(\d+)")
NAMESPACE = "{http://s3.amazonaws.com/doc/2006-03-01/}"


class StoredBytes(NamedTuple):
    """An object. It is never changed, only replaced."""

    body: bytes
    etag: str
    modified: float
    archived: bool = False


@dataclass
class Buckets:
    """All buckets, and unfinished multipart uploads."""

    objects: dict[str, dict[str, StoredBytes]] = field(default_factory=dict)
    uploads: dict[str, dict[int, bytes]] = field(default_factory=dict)

    def copy(self) -> Buckets:
        """Return a copy that later writes do not change."""
        return Buckets(
            {name: dict(held) for name, held in self.objects.items()},
            {name: dict(parts) for name, parts in self.uploads.items()},
        )


class Address(NamedTuple):
    """The bucket, key and query of a request's URL."""

    bucket: str
    key: str
    query: Mapping[str, str]


def address(request: AWSPreparedRequest) -> Address:
    """Parse a request's URL. The bucket is in the host name or in the path."""
    url = urlsplit(request.url)
    query = dict(parse_qsl(url.query, keep_blank_values=True))
    host, path = url.netloc, unquote(url.path.removeprefix("/"))
    if ".s3." in host:
        return Address(host.partition(".s3.")[0], path, query)
    bucket, _, key = path.partition("/")
    return Address(bucket, key, query)


class S3:
    """A fake S3. `clock` gives the time of every write.

    Attributes:
        buckets: The objects.
        readable: The prefixes that the caller's role may read, and list if the request names one. None: no limit.
        denied: The keys that the role may not read, as if another KMS key encrypted them.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self.buckets = Buckets()
        self.readable: tuple[str, ...] | None = None
        self.denied: set[str] = set()
        self._clock = clock
        self._upload_numbers = count(1)

    def answer(self, call: Call) -> Answer:
        """Carry out one request. Raises Refusal."""
        at = address(call.request)
        if call.operation == "CreateBucket":
            self.buckets.objects.setdefault(at.bucket, {})
            return answer_xml("")
        if at.bucket not in self.buckets.objects:
            raise Refusal(404, "NoSuchBucket")
        answers = {
            "AbortMultipartUpload": self._abort,
            "CompleteMultipartUpload": self._complete,
            "CopyObject": self._copy,
            "CreateMultipartUpload": self._begin,
            "DeleteBucket": self._delete_bucket,
            "DeleteObject": self._delete_one,
            "DeleteObjects": self._delete,
            "GetObject": self._get,
            "HeadObject": self._get,
            "ListObjectsV2": self._list,
            "PutObject": self._put,
            "UploadPart": self._part,
        }
        return answers[call.operation](at, call)

    def _get(self, at: Address, call: Call) -> Answer:
        found = self._find(at.bucket, at.key)
        headers = {"etag": found.etag, "last-modified": formatdate(found.modified, usegmt=True)}
        if text_header(call.request, "if-none-match") == found.etag:
            return Answer(304, headers, b"")
        if text_header(call.request, "if-match") not in {"", found.etag}:
            raise Refusal(412, "PreconditionFailed")
        if call.request.method == "HEAD":
            return Answer(200, {**headers, "content-length": str(len(found.body))}, b"")
        _refuse_archived(found)
        wanted = _RANGE.fullmatch(text_header(call.request, "range"))
        if wanted is None:
            return Answer(200, headers, found.body)
        first, last = int(wanted[1]), min(int(wanted[2]), len(found.body) - 1)
        if first > last:
            raise Refusal(416, "InvalidRange")
        headers["content-range"] = f"bytes {first}-{last}/{len(found.body)}"
        return Answer(206, headers, found.body[first : last + 1])

    def _put(self, at: Address, call: Call) -> Answer:
        present = self.buckets.objects[at.bucket].get(at.key)
        if_match = text_header(call.request, "if-match")
        if if_match and present is None:
            raise Refusal(404, "NoSuchKey")
        if (if_match and present and present.etag != if_match) or (
            text_header(call.request, "if-none-match") and present
        ):
            raise Refusal(412, "PreconditionFailed")
        archived = text_header(call.request, "x-amz-storage-class") == "GLACIER"
        headers = {
            "etag": self._write(at, call.body, archived=archived),
            "date": formatdate(self._clock(), usegmt=True),
        }
        return Answer(200, headers, b"")

    def _copy(self, at: Address, call: Call) -> Answer:
        bucket, _, key = unquote(text_header(call.request, "x-amz-copy-source")).removeprefix("/").partition("/")
        source = self._find(bucket, key)
        wanted = text_header(call.request, "x-amz-copy-source-if-match")
        if wanted and wanted != source.etag:
            raise Refusal(412, "PreconditionFailed")
        _refuse_archived(source)
        etag = self._write(at, source.body)
        modified = _iso(self._clock())
        return answer_xml(
            f"<CopyObjectResult><ETag>{escape(etag)}</ETag><LastModified>{modified}</LastModified></CopyObjectResult>"
        )

    def _delete(self, at: Address, call: Call) -> Answer:
        held = self.buckets.objects[at.bucket]
        errors: list[bytes] = []
        try:
            items = keys_to_delete(call)
        except ET.ParseError as error:
            raise Refusal(400, "MalformedXML") from error
        for key, etag in items.items():
            if etag is not None and key not in held:
                errors.append(refused_key(key, "NoSuchKey"))
            elif etag is not None and held[key].etag != etag:
                errors.append(refused_key(key, "PreconditionFailed"))
            else:
                held.pop(key, None)
        return answer_xml(f"<DeleteResult>{b''.join(errors).decode()}</DeleteResult>")

    def _delete_one(self, at: Address, call: Call) -> Answer:
        held, etag = self.buckets.objects[at.bucket], text_header(call.request, "if-match")
        if etag and self._find(at.bucket, at.key).etag != etag:
            raise Refusal(412, "PreconditionFailed")
        held.pop(at.key, None)
        return Answer(204, {}, b"")

    def _list(self, at: Address, call: Call) -> Answer:
        prefix, after = (
            at.query.get("prefix", ""),
            at.query.get("continuation-token") or at.query.get("start-after", ""),
        )
        if self.readable is not None and not prefix.startswith(self.readable):
            raise Refusal(403, "AccessDenied")
        held = self.buckets.objects[at.bucket]
        keys = sorted((key for key in held if key.startswith(prefix)), key=str.encode)
        rest = [key for key in keys if key.encode() > after.encode()]
        size = int(at.query.get("max-keys", PAGE))
        page = rest[:size]
        more = len(rest) > size
        token = f"<NextContinuationToken>{escape(page[-1])}</NextContinuationToken>" if more else ""
        return answer_xml(
            "<ListBucketResult><EncodingType>url</EncodingType>"
            f"<IsTruncated>{str(more).lower()}</IsTruncated>{token}"
            f"{''.join(_listed(key, held[key]) for key in page)}</ListBucketResult>"
        )

    def _begin(self, at: Address, call: Call) -> Answer:
        upload = f"upload-{next(self._upload_numbers)}"
        self.buckets.uploads[upload] = {}
        return answer_xml(
            f"<InitiateMultipartUploadResult><UploadId>{upload}</UploadId></InitiateMultipartUploadResult>"
        )

    def _part(self, at: Address, call: Call) -> Answer:
        body = call.body
        self._upload(at)[int(at.query["partNumber"])] = body
        return Answer(200, {"etag": _etag(body)}, b"")

    def _complete(self, at: Address, call: Call) -> Answer:
        parts = self._upload(at)
        etag = self._write(at, b"".join(parts[number] for number in sorted(parts)))
        del self.buckets.uploads[at.query["uploadId"]]
        return answer_xml(f"<CompleteMultipartUploadResult><ETag>{escape(etag)}</ETag></CompleteMultipartUploadResult>")

    def _abort(self, at: Address, call: Call) -> Answer:
        self.buckets.uploads.pop(at.query["uploadId"], None)
        return Answer(204, {}, b"")

    def _delete_bucket(self, at: Address, call: Call) -> Answer:
        if self.buckets.objects[at.bucket]:
            raise Refusal(409, "BucketNotEmpty")
        del self.buckets.objects[at.bucket]
        return Answer(204, {}, b"")

    def _find(self, bucket: str, key: str) -> StoredBytes:
        found = self.buckets.objects.get(bucket, {}).get(key)
        limited = self.readable is not None
        if key in self.denied or (limited and (found is None or not key.startswith(self.readable or ()))):
            raise Refusal(403, "AccessDenied")
        if found is None:
            raise Refusal(404, "NoSuchKey")
        return found

    def _upload(self, at: Address) -> dict[int, bytes]:
        parts = self.buckets.uploads.get(at.query["uploadId"])
        if parts is None:
            raise Refusal(404, "NoSuchUpload")
        return parts

    def _write(self, at: Address, body: bytes, *, archived: bool = False) -> str:
        stored = StoredBytes(body, _etag(body), self._clock(), archived)
        self.buckets.objects[at.bucket][at.key] = stored
        return stored.etag


def _refuse_archived(stored: StoredBytes) -> None:
    if stored.archived:
        raise Refusal(403, "InvalidObjectState")


def _etag(body: bytes) -> str:
    return f'"{hashlib.md5(body, usedforsecurity=False).hexdigest()}"'


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _listed(key: str, stored: StoredBytes) -> str:
    return (
        f"<Contents><Key>{quote(key)}</Key><LastModified>{_iso(stored.modified)}</LastModified>"
        f"<ETag>{escape(stored.etag)}</ETag><Size>{len(stored.body)}</Size></Contents>"
    )


def keys_to_delete(call: Call) -> dict[str, str | None]:
    """Return the keys of a DeleteObjects request, each with the ETag it must have. None: any."""
    items = ET.fromstring(call.body).iter(f"{NAMESPACE}Object")
    return {item.findtext(f"{NAMESPACE}Key", ""): item.findtext(f"{NAMESPACE}ETag") for item in items}


def refused_key(key: str, code: str = "InternalError") -> bytes:
    """Return the part of a DeleteObjects answer for a key that was not deleted."""
    return f"<Error><Key>{escape(key)}</Key><Code>{code}</Code><Message>simulated</Message></Error>".encode()
