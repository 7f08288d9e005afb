"""Deltas in quarantine, each with its reason beside it."""

from __future__ import annotations

from pydantic import ValidationError

from chromadb_compaction.deltas.outcomes import QuarantineReason
from chromadb_compaction.errors import NewerFormatError, ObjectMissingError
from chromadb_compaction.layout import former_reason_key, pending_key, quarantine_key, reason_key
from chromadb_compaction.manifest import parse_stored
from chromadb_compaction.planning import ObjectInfo
from chromadb_compaction.ports import Services


def copy_into_quarantine(key: str, source: ObjectInfo, services: Services, *, reason: str, execution: str) -> None:
    """Copy a delta into quarantine byte for byte, and write its reason beside it.

    `key` is the delta's pending key, `source` the object to copy. The source stays, so a second call does the same.
    Raises ObjectMissingError and PreconditionFailedError if the source is gone or has changed.
    """
    target = quarantine_key(key, prefix=services.settings.delta_prefix)
    services.objects.copy(source.key, target, etag=source.etag)
    note = QuarantineReason(
        delta=key, reason=reason, quarantined_at=services.clock(), execution=execution, etag=source.etag
    )
    services.objects.put(reason_key(target), note.model_dump_json().encode())


def read_reason(quarantined: str, services: Services) -> QuarantineReason:
    """Return the reason beside the delta under the key `quarantined`.

    Raises ObjectMissingError if there is none, NewerFormatError if a newer version wrote it, and
    pydantic.ValidationError if it cannot be understood.
    """
    try:
        key = reason_key(quarantined)
        return parse_stored(QuarantineReason, services.objects.get(key).body, key)
    except ObjectMissingError:
        return _read_former_reason(quarantined, services)


def remove_from_quarantine(quarantined: str, services: Services) -> None:
    """Delete a delta and its reason from quarantine, but not the reason of another delta of the same name."""
    keys = [quarantined, reason_key(quarantined)]
    try:
        _read_former_reason(quarantined, services)
        keys.append(former_reason_key(quarantined))
    except (ObjectMissingError, NewerFormatError, ValidationError):
        pass
    services.objects.delete(dict.fromkeys(keys))


def _read_former_reason(quarantined: str, services: Services) -> QuarantineReason:
    """Return the reason that an older version stored. Raises ObjectMissingError if it is another delta's."""
    key = former_reason_key(quarantined)
    note = parse_stored(QuarantineReason, services.objects.get(key).body, key)
    prefix = services.settings.delta_prefix
    if note.delta != pending_key(quarantined, prefix=prefix) and quarantined != quarantine_key(
        note.delta, prefix=prefix
    ):
        raise ObjectMissingError(f"{key} is the reason of {note.delta}, not of {quarantined}", key=key)
    return note
