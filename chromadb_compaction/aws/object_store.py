"""One S3 bucket behind ports.ObjectStore."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from functools import cached_property, partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Final

from boto3.s3.transfer import TransferConfig, create_transfer_manager
from botocore.exceptions import ClientError
from tenacity import retry, retry_if_exception_type, stop_after_attempt, wait_exponential_jitter

from chromadb_compaction.aws.errors import translated
from chromadb_compaction.aws.ranged_download import MEBIBYTE, FirstPart, RangedDownloads, Source
from chromadb_compaction.aws.signed_gets import SignedGets
from chromadb_compaction.errors import ObjectMissingError, PreconditionFailedError, TransientStorageError
from chromadb_compaction.planning import ObjectInfo
from chromadb_compaction.ports import StoredObject

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import ErrorTypeDef, GetObjectOutputTypeDef, ObjectIdentifierTypeDef
    from s3transfer.manager import TransferManager

DELETE_LIMIT: Final = 1000
"""How many keys one DeleteObjects takes."""
PARTS: Final = TransferConfig(multipart_threshold=16 * MEBIBYTE, multipart_chunksize=8 * MEBIBYTE, max_concurrency=16)
NOT_MODIFIED: Final = 304
NOT_SATISFIABLE: Final = 416
"""The answer to a question for any bytes of an empty object."""
NAMED_ERRORS: Final = {
    "NoSuchKey": ObjectMissingError,
    "404": ObjectMissingError,  # a HEAD's answer has no body, so its status is all there is
    "PreconditionFailed": PreconditionFailedError,
    "412": PreconditionFailedError,
    # One key's error within a bulk answer comes without a status.
    "InternalError": TransientStorageError,
    "ServiceUnavailable": TransientStorageError,
}

# botocore retries a request, but not a body that breaks off while it is read.
again_if_broken_off = retry(
    retry=retry_if_exception_type(TransientStorageError),
    stop=stop_after_attempt(3),
    wait=wait_exponential_jitter(multiplier=0.1, max=2),
    reraise=True,
)


class S3ObjectStore:
    """The bucket `bucket`, through a boto3 client that may be shared by threads."""

    def __init__(self, client: S3Client, bucket: str) -> None:
        self._client = client
        self._bucket = bucket
        self._downloads = RangedDownloads()
        self._gets = SignedGets(client)

    @again_if_broken_off
    def get(self, key: str) -> StoredObject:
        """Return the object. Raises ObjectMissingError."""
        with self._translated("reading", key):
            found = self._gets.get(key)
            if found is not None:
                return found
            with self._gets.watching(key):
                return _stored(self._client.get_object(Bucket=self._bucket, Key=key))

    @again_if_broken_off
    def get_if_changed(self, key: str, etag: str) -> StoredObject | None:
        """Return the object, or None if its ETag is still `etag`: one cheap request. Raises ObjectMissingError."""
        with self._translated("reading", key):
            try:
                return _stored(self._client.get_object(Bucket=self._bucket, Key=key, IfNoneMatch=etag))
            except ClientError as error:
                if error.response["ResponseMetadata"]["HTTPStatusCode"] == NOT_MODIFIED:
                    return None
                raise

    def head(self, key: str) -> ObjectInfo | None:
        """Return the object's description, or None if there is none."""
        try:
            with self._translated("looking at", key):
                found = self._client.head_object(Bucket=self._bucket, Key=key)
        except ObjectMissingError:
            return None
        return ObjectInfo(
            key=key, bytes=found["ContentLength"], etag=found["ETag"], modified=found["LastModified"].timestamp()
        )

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Yield all objects under `prefix` in key order."""
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=prefix)
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
        """Write unconditionally and return the ETag."""
        with self._translated("writing", key):
            return self._client.put_object(Bucket=self._bucket, Key=key, Body=body)["ETag"]

    def put_if(self, key: str, body: bytes, *, etag: str | None) -> str:
        """Write only if the object's ETag is `etag` (None: only if there is none) and return the new ETag.

        PreconditionFailedError may hide a success of our own: the client repeats a request whose response was
        lost, and the repetition finds the object already written. So the caller reads back after this error too.
        """
        try:
            with self._translated("writing", key):
                if etag is None:
                    answer = self._client.put_object(Bucket=self._bucket, Key=key, Body=body, IfNoneMatch="*")
                else:
                    answer = self._client.put_object(Bucket=self._bucket, Key=key, Body=body, IfMatch=etag)
        except ObjectMissingError as error:
            # S3 answers 404, not 412, when If-Match finds no object at all.
            raise PreconditionFailedError(f"s3://{self._bucket}/{key} has gone since it was read") from error
        return answer["ETag"]

    def copy(self, source: str, target: str, *, etag: str) -> None:
        """Copy within the bucket if the source still has `etag`. Raises ObjectMissingError, PreconditionFailedError."""
        with self._translated("copying", source):
            self._client.copy_object(
                Bucket=self._bucket,
                Key=target,
                CopySource={"Bucket": self._bucket, "Key": source},
                CopySourceIfMatch=etag,
            )

    def delete(self, keys: Iterable[str]) -> None:
        """Delete in bulk; a missing key is no error."""
        for refused in self._delete_in_bulk({"Key": key} for key in keys):
            self._raise_refusal(refused)

    def delete_if(self, etags: Mapping[str, str]) -> frozenset[str]:
        """Delete in bulk each key that still has its ETag, and return the keys that were rewritten and so stay.

        A missing key is no error.
        """
        rewritten: set[str] = set()
        for refused in self._delete_in_bulk({"Key": key, "ETag": etag} for key, etag in etags.items()):
            try:
                self._raise_refusal(refused)
            except PreconditionFailedError:
                rewritten.add(refused.get("Key", ""))
            except ObjectMissingError:
                continue
        return frozenset(rewritten)

    @again_if_broken_off
    def download(self, key: str, target: Path) -> str:
        """Stream an object to a file, several parts at once, and return the SHA-256 of what arrived.

        Raises ObjectMissingError.
        """
        source = Source(partial(self._first_part, key), partial(self._read_part, key))
        with self._translated("downloading", key):
            return self._downloads.download(source, target)

    def upload(self, source: Path, key: str) -> None:
        """Stream a file to an object, in parts if it is large."""
        # Not client.upload_file: that hides the ClientError, and with it what to do, behind a message.
        with self._translated("uploading", key):
            self._uploads.upload(str(source), self._bucket, key).result()

    @cached_property
    def _uploads(self) -> TransferManager:
        """What uploads every file, so that all of them share the parts that are on their way."""
        return create_transfer_manager(self._client, PARTS)

    def _first_part(self, key: str, size: int) -> FirstPart | None:
        try:
            answer = self._client.get_object(Bucket=self._bucket, Key=key, Range=f"bytes=0-{size - 1}")
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] == NOT_SATISFIABLE:
                return None
            raise
        return FirstPart(answer["ETag"], int(answer["ContentRange"].rpartition("/")[2]), answer["Body"])

    @again_if_broken_off
    def _read_part(self, key: str, start: int, end: int, etag: str) -> bytes:
        with self._translated("downloading", key):
            part = f"bytes={start}-{end - 1}"
            return self._client.get_object(Bucket=self._bucket, Key=key, Range=part, IfMatch=etag)["Body"].read()

    def _delete_in_bulk(self, objects: Iterable[ObjectIdentifierTypeDef]) -> Iterator[ErrorTypeDef]:
        rest = iter(objects)
        while chunk := tuple(islice(rest, DELETE_LIMIT)):
            with self._translated("deleting", f"{chunk[0]['Key']} and {len(chunk) - 1} more"):
                answer = self._client.delete_objects(Bucket=self._bucket, Delete={"Objects": chunk, "Quiet": True})
            # The request as a whole succeeds even if single keys were refused.
            yield from answer.get("Errors", [])

    def _raise_refusal(self, refused: ErrorTypeDef) -> None:
        with self._translated("deleting", refused.get("Key", "")):
            code, message = refused.get("Code", ""), refused.get("Message", "")
            raise ClientError({"Error": {"Code": code, "Message": message}}, "DeleteObjects")

    def _translated(self, verb: str, key: str) -> AbstractContextManager[None]:
        return translated(f"{verb} s3://{self._bucket}/{key}", NAMED_ERRORS)


def _stored(answer: GetObjectOutputTypeDef) -> StoredObject:
    return StoredObject(answer["Body"].read(), answer["ETag"], answer["LastModified"].timestamp())
