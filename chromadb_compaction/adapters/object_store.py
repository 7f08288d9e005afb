"""One S3 bucket behind ports.ObjectStore."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Final

from boto3.s3.transfer import TransferConfig, create_transfer_manager
from botocore.exceptions import ClientError
from tenacity import retry, retry_if_exception_type, stop_after_attempt, wait_exponential_jitter

from chromadb_compaction.adapters.s3_errors import translated
from chromadb_compaction.errors import ObjectMissingError, PreconditionFailedError, TransientStorageError
from chromadb_compaction.planning import ObjectInfo
from chromadb_compaction.ports import StoredObject

if TYPE_CHECKING:
    from pathlib import Path

    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import ErrorTypeDef, GetObjectOutputTypeDef

MEBIBYTE: Final = 1024 * 1024
DELETE_LIMIT: Final = 1000
"""How many keys one DeleteObjects takes."""

# botocore retries a request, but not a body that breaks off while it is read.
_again_if_broken_off = retry(
    retry=retry_if_exception_type(TransientStorageError),
    stop=stop_after_attempt(3),
    wait=wait_exponential_jitter(initial=0.1, max=2),
    reraise=True,
)


class S3ObjectStore:
    """The bucket `bucket`, through a boto3 client that may be shared by threads."""

    def __init__(self, client: S3Client, bucket: str) -> None:
        self._client = client
        self._bucket = bucket
        self._parts = TransferConfig(
            multipart_threshold=16 * MEBIBYTE, multipart_chunksize=16 * MEBIBYTE, max_concurrency=4
        )

    @_again_if_broken_off
    def get(self, key: str) -> StoredObject:
        """Return the object. Raises ObjectMissingError."""
        with translated(self._bucket, key):
            return _stored(self._client.get_object(Bucket=self._bucket, Key=key))

    @_again_if_broken_off
    def get_if_changed(self, key: str, etag: str) -> StoredObject | None:
        """Return the object, or None if its ETag is still `etag`: one cheap request. Raises ObjectMissingError."""
        with translated(self._bucket, key):
            try:
                return _stored(self._client.get_object(Bucket=self._bucket, Key=key, IfNoneMatch=etag))
            except ClientError as error:
                if error.response["ResponseMetadata"]["HTTPStatusCode"] == 304:
                    return None
                raise

    def head(self, key: str) -> ObjectInfo | None:
        """Return the object's description, or None if there is none."""
        try:
            with translated(self._bucket, key):
                found = self._client.head_object(Bucket=self._bucket, Key=key)
        except ObjectMissingError:
            return None
        return ObjectInfo(
            key=key, bytes=found["ContentLength"], etag=found["ETag"], modified=found["LastModified"].timestamp()
        )

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Yield all objects under `prefix` in key order."""
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=prefix)
        # The generator's own frame holds the translation, so that it covers every page and not the first alone.
        with translated(self._bucket, prefix):
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
        with translated(self._bucket, key):
            return self._client.put_object(Bucket=self._bucket, Key=key, Body=body)["ETag"]

    def put_if(self, key: str, body: bytes, *, etag: str | None) -> str:
        """Write only if the object's ETag is `etag` (None: only if there is none) and return the new ETag.

        PreconditionFailedError may hide a success of our own: the client repeats a request whose response was
        lost, and the repetition finds the object already written. So the caller reads back after this error too.
        """
        try:
            with translated(self._bucket, key):
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
        with translated(self._bucket, source):
            self._client.copy_object(
                Bucket=self._bucket,
                Key=target,
                CopySource={"Bucket": self._bucket, "Key": source},
                CopySourceIfMatch=etag,
            )

    def delete(self, keys: Iterable[str]) -> None:
        """Delete in bulk; a missing key is no error."""
        rest = iter(keys)
        while chunk := tuple(islice(rest, DELETE_LIMIT)):
            with translated(self._bucket, chunk[0]):
                answer = self._client.delete_objects(
                    Bucket=self._bucket, Delete={"Objects": [{"Key": key} for key in chunk], "Quiet": True}
                )
            # The request as a whole succeeds even if single keys were refused.
            for refused in answer.get("Errors", []):
                _raise_refusal(self._bucket, refused)

    @_again_if_broken_off
    def download(self, key: str, target: Path) -> str:
        """Stream an object to a file and return the SHA-256 of what arrived. Raises ObjectMissingError."""
        digest = hashlib.sha256()
        with translated(self._bucket, key):
            body = self._client.get_object(Bucket=self._bucket, Key=key)["Body"]
            with target.open("wb") as file:
                for chunk in body.iter_chunks(MEBIBYTE):
                    digest.update(chunk)
                    file.write(chunk)
        return digest.hexdigest()

    def upload(self, source: Path, key: str) -> None:
        """Stream a file to an object, in parts if it is large."""
        # Not client.upload_file: that hides the ClientError, and with it what to do, behind a message.
        with translated(self._bucket, key), create_transfer_manager(self._client, self._parts) as manager:
            manager.upload(str(source), self._bucket, key).result()


def _stored(answer: GetObjectOutputTypeDef) -> StoredObject:
    return StoredObject(answer["Body"].read(), answer["ETag"], answer["LastModified"].timestamp())


def _raise_refusal(bucket: str, refused: ErrorTypeDef) -> None:
    key = refused.get("Key", "")
    with translated(bucket, key):
        raise ClientError(
            {"Error": {"Code": refused.get("Code", ""), "Message": f"{refused.get('Message', '')} ({key})"}},
            "DeleteObjects",
        )
