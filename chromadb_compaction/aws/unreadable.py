"""Errors of S3 that are about one object: others can be read, and this one cannot until somebody changes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

from chromadb_compaction.errors import CompactionError, ConfigurationError, UnreadableObjectError

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


def unreadable_errors(key: str, is_alone: Callable[[], bool]) -> Mapping[str, Callable[[str], CompactionError]]:
    """Return the errors for reading or copying `key`, by S3's error code, for aws.errors.translated.

    A denied access is the object's own fault only if `is_alone` returns True. Otherwise it is a role without
    permission, a ConfigurationError, which must stop everything.
    """
    errors: dict[str, Callable[[str], CompactionError]] = {
        code: partial(UnreadableObjectError, next_step=next_step, key=key) for code, next_step in _NEXT_STEPS.items()
    }
    return errors | dict.fromkeys(_DENIED, partial(_denied, key=key, is_alone=is_alone))


def _denied(message: str, *, key: str, is_alone: Callable[[], bool]) -> CompactionError:
    if is_alone():
        next_step = "allow the functions' roles to read it and to use its KMS key, or write it again"
        return UnreadableObjectError(f"{message}; other objects can be read", next_step=next_step, key=key)
    return ConfigurationError(f"{message}; access is denied", next_step="give the caller's role this permission")
