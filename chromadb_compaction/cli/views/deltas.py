"""Pending deltas as an operator sees them."""

from __future__ import annotations

from uuid import UUID

from pydantic import BaseModel, ConfigDict

from chromadb_compaction import layout
from chromadb_compaction.deltas.versions import uuid7_seconds
from chromadb_compaction.planning import ObjectInfo
from chromadb_compaction.ports import Services
from chromadb_compaction.times import Moment


class PendingDelta(BaseModel):
    """A pending delta.

    `written_at` is the time in its name, or None if the name is not a UUIDv7. `age_seconds` counts from S3's time.
    """

    model_config = ConfigDict(frozen=True)

    collection: str
    id: str
    key: str
    bytes: int
    written_at: Moment | None
    age_seconds: float


def pending_deltas(services: Services, collection: str | None) -> list[PendingDelta]:
    """Return the pending deltas of one collection (None: of all), the longest pending first."""
    prefix, now = services.settings.delta_prefix, services.clock()
    listed = services.objects.list(layout.delta_key(collection, "", "", prefix=prefix) if collection else prefix)
    found = [_view(each, prefix, now) for each in listed if not layout.is_folder_marker(each.key)]
    return sorted(found, key=lambda each: (-each.age_seconds, each.key))


def _view(info: ObjectInfo, prefix: str, now: float) -> PendingDelta:
    stem = layout.delta_stem(info.key)
    return PendingDelta(
        collection=info.key.removeprefix(prefix).rpartition("/")[0],
        id=stem,
        key=info.key,
        bytes=info.bytes,
        written_at=_time_in_name(stem),
        age_seconds=max(now - info.modified, 0.0),
    )


def _time_in_name(stem: str) -> float | None:
    try:
        named = UUID(stem)
    except ValueError:
        return None
    return uuid7_seconds(named) if named.version == 7 else None
