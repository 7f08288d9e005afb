"""Errors of S3 that are about one object: others can be read, and this one cannot until somebody changes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Final

from botocore.exceptions import ClientError

from chromadb_compaction.errors import CompactionError, ConfigurationError, ObjectMissingError, UnreadableObjectError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

NEIGHBOUR: Final = ".neighbour"
"""The name of an object that does not exist. Reading it shows if a role may read that folder at all."""
NEIGHBOURS: Final = 20
"""The most objects that are tried if that shows nothing."""
OK: Final = 200
NOT_FOUND: Final = 404

_RESTORE = "restore it (aws s3api restore-object), or write it again in another storage class"
_NO_KEY = "enable its KMS key, or write it again with the bucket's key"
_REQUEST = (
    "if it is encrypted with a customer's key (SSE-C), write it again without one;"
    " if it is larger than 5 GB, write smaller ones"
)
_NEXT_STEPS: Final = {
    "InvalidObjectState": _RESTORE,  # archived to Glacier
    "ObjectNotInActiveTierError": _RESTORE,
    "InvalidRequest": _REQUEST,  # SSE-C, and a copy of more than 5 GB
    "400": _REQUEST,  # the response to a HEAD has no body, so its status is the code
    "KMS.DisabledException": _NO_KEY,
    "KMS.InvalidStateException": _NO_KEY,
    "KMS.KMSInvalidStateException": _NO_KEY,
    "KMS.NotFoundException": _NO_KEY,
}
_DENIED: Final = ("AccessDenied", "403")


class DeniedReads:
    """Finds out why S3 has denied a read: IAM answers 403 for several reasons.

    Args:
        client: An S3 client. Threads may share it.
        bucket: The bucket's name.
    """

    def __init__(self, client: S3Client, bucket: str) -> None:
        self._client = client
        self._bucket = bucket

    def is_missing(self, key: str) -> bool:
        """Return whether the caller may list `key`, and there is no such object.

        S3 answers 403 for a missing key, not 404, to a role that may not list the bucket without a prefix.
        """
        try:
            return key not in self._listed(key, limit=1)
        except ClientError:
            return False

    def denies_only(self, key: str) -> bool:
        """Return whether the caller may read objects of the same top folder as `key`, so that only this one is denied.

        A role that may list the bucket gets 404 for a neighbour that does not exist, unless it may read none. To other
        roles 403 says nothing, so a few neighbours that exist are tried.
        """
        folder = f"{key.partition('/')[0]}/"
        if self._head(f"{folder}{NEIGHBOUR}") in {OK, NOT_FOUND}:
            return True
        try:
            others = [other for other in self._listed(folder, limit=NEIGHBOURS) if other != key]
        except ClientError:
            return False
        return not others or any(self._head(other) == OK for other in others)

    def _listed(self, prefix: str, *, limit: int) -> list[str]:
        found = self._client.list_objects_v2(Bucket=self._bucket, Prefix=prefix, MaxKeys=limit)
        return [item["Key"] for item in found.get("Contents", [])]

    def _head(self, key: str) -> int:
        try:
            self._client.head_object(Bucket=self._bucket, Key=key)
        except ClientError as error:
            return error.response["ResponseMetadata"]["HTTPStatusCode"]
        return OK


def read_errors(key: str, denied: DeniedReads) -> Mapping[str, Callable[[str], CompactionError]]:
    """Return the errors for reading `key`, by S3's error code, for aws.errors.translated.

    A denied access is a missing object, the object's own fault, or a role without permission, a ConfigurationError,
    which must stop everything.
    """
    return _errors(key, partial(_denied, key=key, denied=denied, is_alone=denied.denies_only))


def copy_errors(
    key: str, denied: DeniedReads, is_unreadable: Callable[[str], bool]
) -> Mapping[str, Callable[[str], CompactionError]]:
    """Return the errors for copying `key`. The copy itself may be forbidden, so `is_unreadable` decides about it."""
    return _errors(key, partial(_denied, key=key, denied=denied, is_alone=is_unreadable))


def _errors(key: str, of_denied: Callable[[str], CompactionError]) -> Mapping[str, Callable[[str], CompactionError]]:
    errors: dict[str, Callable[[str], CompactionError]] = {
        code: partial(UnreadableObjectError, next_step=next_step, key=key) for code, next_step in _NEXT_STEPS.items()
    }
    return errors | dict.fromkeys(_DENIED, of_denied)


def _denied(message: str, *, key: str, denied: DeniedReads, is_alone: Callable[[str], bool]) -> CompactionError:
    if denied.is_missing(key):
        return ObjectMissingError(message, key=key)
    if is_alone(key):
        next_step = "allow the functions' roles to read it and to use its KMS key, or write it again"
        return UnreadableObjectError(f"{message}; other objects can be read", next_step=next_step, key=key)
    return ConfigurationError(f"{message}; access is denied", next_step="give the caller's role this permission")
