"""S3 objects of one bucket."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from email.utils import parsedate_to_datetime
from functools import cached_property, partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Final

from boto3.s3.transfer import TransferConfig, create_transfer_manager
from botocore.exceptions import ClientError
from tenacity import retry, retry_if_exception_type, stop_after_attempt, wait_exponential_jitter

from chromadb_compaction.aws.errors import translated
from chromadb_compaction.aws.ranged_download import MEBIBYTE, FirstPart, ObjectParts, RangedDownloads
from chromadb_compaction.aws.signed_requests import SignedRequests
from chromadb_compaction.aws.unreadable import DeniedReads, copy_errors, read_errors
from chromadb_compaction.concurrency import in_threads
from chromadb_compaction.errors import (
    CompactionError,
    ObjectMissingError,
    PreconditionFailedError,
    TransientStorageError,
    UnreadableObjectError,
)
from chromadb_compaction.planning import ObjectInfo
from chromadb_compaction.ports import StoredObject
from chromadb_compaction.settings import UPLOAD_PART_BYTES

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import ErrorTypeDef, GetObjectOutputTypeDef, ObjectIdentifierTypeDef
    from s3transfer.manager import TransferManager

DELETE_LIMIT: Final = 1000
"""Keys that one DeleteObjects request accepts."""
PARTS: Final = TransferConfig(
    multipart_threshold=16 * MEBIBYTE, multipart_chunksize=UPLOAD_PART_BYTES, max_concurrency=16
)
NOT_IN_XML: Final = re.compile("[^\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML 1.0 cannot hold, or whose answer may hold another one. DeleteObjects cannot name such a key."""
NOT_MODIFIED: Final = 304
NOT_SATISFIABLE: Final = 416
"""S3's status for a range that begins at or after the end of the object."""
OBJECT_ERRORS: Final = {
    "NoSuchKey": ObjectMissingError,
    "404": ObjectMissingError,  # the response to a HEAD has no body, so its status is the code
    "PreconditionFailed": PreconditionFailedError,
    "412": PreconditionFailedError,
}

# botocore retries a request, but not a response body that breaks while it is read.
retry_broken_reads = retry(
    retry=retry_if_exception_type(TransientStorageError),
    stop=stop_after_attempt(3),
    wait=wait_exponential_jitter(multiplier=0.1, max=2),
    reraise=True,
)


class S3ObjectStore:
    """One S3 bucket as a ports.ObjectStore.

    Args:
        client: An S3 client. Threads may share it.
        bucket: The bucket's name.
    """

    def __init__(self, client: S3Client, bucket: str) -> None:
        self._client = client
        self._bucket = bucket
        self._downloads = RangedDownloads()
        self._signed = SignedRequests(client)
        self._denied = DeniedReads(client, bucket)
        self._seconds_ahead: float | None = None

    @retry_broken_reads
    def get(self, key: str) -> StoredObject:
        with self._reading("reading", key):
            found = self._signed.get(key)
            if found is not None:
                return found
            with self._signed.learning_from(key):
                return _stored(self._client.get_object(Bucket=self._bucket, Key=key))

    @retry_broken_reads
    def get_if_changed(self, key: str, etag: str) -> StoredObject | None:
        with self._reading("reading", key):
            try:
                return _stored(self._client.get_object(Bucket=self._bucket, Key=key, IfNoneMatch=etag))
            except ClientError as error:
                if error.response["ResponseMetadata"]["HTTPStatusCode"] == NOT_MODIFIED:
                    return None
                raise

    @retry_broken_reads
    def get_range(self, key: str, start: int, end: int, *, etag: str | None = None) -> bytes:
        part = f"bytes={start}-{end - 1}"
        with self._reading("reading", key):
            try:
                if etag is None:
                    return self._client.get_object(Bucket=self._bucket, Key=key, Range=part)["Body"].read()
                return self._client.get_object(Bucket=self._bucket, Key=key, Range=part, IfMatch=etag)["Body"].read()
            except ClientError as error:
                if error.response["ResponseMetadata"]["HTTPStatusCode"] == NOT_SATISFIABLE:
                    return b""
                raise

    def head(self, key: str) -> ObjectInfo | None:
        try:
            with self._reading("describing", key):
                found = self._client.head_object(Bucket=self._bucket, Key=key)
        except ObjectMissingError:
            return None
        return ObjectInfo(
            key=key, bytes=found["ContentLength"], etag=found["ETag"], modified=found["LastModified"].timestamp()
        )

    def list(self, prefix: str, *, start_after: str = "") -> Iterator[ObjectInfo]:
        paginator = self._client.get_paginator("list_objects_v2")
        if start_after:
            pages = paginator.paginate(Bucket=self._bucket, Prefix=prefix, StartAfter=start_after)
        else:
            pages = paginator.paginate(Bucket=self._bucket, Prefix=prefix)
        with self._translated("listing", prefix):
            for page in pages:
                for item in page.get("Contents", []):
                    yield ObjectInfo(
                        key=item["Key"],
                        bytes=item["Size"],
                        etag=item["ETag"],
                        modified=item["LastModified"].timestamp(),
                    )

    def put(self, key: str, body: bytes) -> str:
        with self._translated("writing", key):
            response = self._client.put_object(Bucket=self._bucket, Key=key, Body=body)
        date = response["ResponseMetadata"]["HTTPHeaders"].get("date")
        self._seconds_ahead = time.time() - parsedate_to_datetime(date).timestamp() if date else None
        return response["ETag"]

    def seconds_ahead(self) -> float | None:
        return self._seconds_ahead

    def put_if(self, key: str, body: bytes, *, etag: str | None) -> str:
        try:
            with self._translated("writing", key):
                if etag is None:
                    response = self._client.put_object(Bucket=self._bucket, Key=key, Body=body, IfNoneMatch="*")
                else:
                    response = self._client.put_object(Bucket=self._bucket, Key=key, Body=body, IfMatch=etag)
        except ObjectMissingError as error:
            # S3 answers 404, not 412, when If-Match finds no object.
            raise PreconditionFailedError(f"s3://{self._bucket}/{key} no longer exists", key=key) from error
        return response["ETag"]

    def copy(self, source: str, target: str, *, etag: str) -> None:
        with self._copying(source):
            if self._signed.copy(self._bucket, source, target, etag=etag):
                return
            self._client.copy_object(
                Bucket=self._bucket,
                Key=target,
                CopySource={"Bucket": self._bucket, "Key": source},
                CopySourceIfMatch=etag,
            )

    def delete(self, keys: Iterable[str]) -> None:
        for failed in self._delete_each({"Key": key} for key in keys):
            self._raise_for(failed)

    def delete_if(self, etags: Mapping[str, str]) -> frozenset[str]:
        rewritten: set[str] = set()
        for failed in self._delete_each({"Key": key, "ETag": etag} for key, etag in etags.items()):
            try:
                self._raise_for(failed)
            except PreconditionFailedError:
                rewritten.add(failed.get("Key", ""))
            except ObjectMissingError:
                continue
        return frozenset(rewritten)

    @retry_broken_reads
    def download(self, key: str, target: Path) -> str:
        parts = ObjectParts(partial(self._request_first_part, key), partial(self._read_part, key))
        with self._reading("downloading", key):
            return self._downloads.download(parts, target)

    def upload(self, source: Path, key: str) -> None:
        # client.upload_file would hide the ClientError, and with it the next step, behind a message.
        with self._translated("uploading", key):
            self._uploads.upload(str(source), self._bucket, key).result()

    @cached_property
    def _uploads(self) -> TransferManager:
        """The one transfer manager, so that all uploads share its limit of parallel parts."""
        return create_transfer_manager(self._client, PARTS)

    def _request_first_part(self, key: str, size: int) -> FirstPart | None:
        try:
            response = self._client.get_object(Bucket=self._bucket, Key=key, Range=f"bytes=0-{size - 1}")
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] == NOT_SATISFIABLE:
                return None
            raise
        return FirstPart(response["ETag"], int(response["ContentRange"].rpartition("/")[2]), response["Body"])

    @retry_broken_reads
    def _read_part(self, key: str, start: int, end: int, etag: str) -> bytes:
        with self._translated("downloading", key):
            part = f"bytes={start}-{end - 1}"
            return self._client.get_object(Bucket=self._bucket, Key=key, Range=part, IfMatch=etag)["Body"].read()

    def _delete_each(self, objects: Iterable[ObjectIdentifierTypeDef]) -> Iterator[ErrorTypeDef]:
        """Delete the objects, in bulk where possible. Yield the errors of single keys."""
        items = list(objects)
        yield from self._delete_in_bulk(item for item in items if not NOT_IN_XML.search(item["Key"]))
        singly = in_threads(self._delete_one, [item for item in items if NOT_IN_XML.search(item["Key"])])
        yield from (failed for failed in singly if failed is not None)

    def _delete_in_bulk(self, objects: Iterable[ObjectIdentifierTypeDef]) -> Iterator[ErrorTypeDef]:
        rest = iter(objects)
        while chunk := tuple(islice(rest, DELETE_LIMIT)):
            with self._translated("deleting", f"{chunk[0]['Key']} and {len(chunk) - 1} more"):
                response = self._client.delete_objects(Bucket=self._bucket, Delete={"Objects": chunk, "Quiet": True})
            # The request succeeds even if single keys fail.
            yield from response.get("Errors", [])

    def _delete_one(self, item: ObjectIdentifierTypeDef) -> ErrorTypeDef | None:
        """Delete a key that DeleteObjects cannot name. Return its error as DeleteObjects does, or None."""
        key = item["Key"]
        try:
            with self._translated("deleting", key):
                if "ETag" in item:
                    self._client.delete_object(Bucket=self._bucket, Key=key, IfMatch=item["ETag"])
                else:
                    self._client.delete_object(Bucket=self._bucket, Key=key)
        except PreconditionFailedError:
            return {"Key": key, "Code": "PreconditionFailed"}
        except ObjectMissingError:
            pass
        return None

    def _raise_for(self, failed: ErrorTypeDef) -> None:
        with self._translated("deleting", failed.get("Key", "")):
            code, message = failed.get("Code", ""), failed.get("Message", "")
            raise ClientError({"Error": {"Code": code, "Message": message}}, "DeleteObjects")

    def _translated(
        self, verb: str, key: str, named: Mapping[str, Callable[[str], CompactionError]] | None = None
    ) -> AbstractContextManager[None]:
        common = {code: partial(kind, key=key) for code, kind in OBJECT_ERRORS.items()}
        return translated(f"{verb} s3://{self._bucket}/{key}", {**common, **(named or {})})

    def _reading(self, verb: str, key: str) -> AbstractContextManager[None]:
        return self._translated(verb, key, read_errors(key, self._denied))

    def _copying(self, key: str) -> AbstractContextManager[None]:
        # The copy itself may be forbidden. The source is at fault only if it alone cannot be read.
        return self._translated("copying", key, copy_errors(key, self._denied, self._is_unreadable))

    def _is_unreadable(self, key: str) -> bool:
        try:
            with self._reading("reading", key):
                self._client.get_object(Bucket=self._bucket, Key=key, Range="bytes=0-0")
        except CompactionError as error:
            return isinstance(error, UnreadableObjectError)
        return False


def _stored(response: GetObjectOutputTypeDef) -> StoredObject:
    return StoredObject(response["Body"].read(), response["ETag"], response["LastModified"].timestamp())
