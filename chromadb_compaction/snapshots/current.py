"""The published snapshot as a reader knows it."""

from __future__ import annotations

import logging
from typing import NamedTuple

from chromadb_compaction.errors import NotReplicatedYetError, ObjectMissingError
from chromadb_compaction.manifest import Manifest
from chromadb_compaction.ports import Services
from chromadb_compaction.snapshots.files import read_replicated_manifest
from chromadb_compaction.snapshots.pointer import PublishedPointer, read_pointer, read_pointer_if_changed

log = logging.getLogger(__name__)


class CurrentSnapshot(NamedTuple):
    """The published snapshot as it was read: its pointer, and its manifest."""

    published: PublishedPointer
    manifest: Manifest


def read_current(services: Services, known: CurrentSnapshot | None) -> CurrentSnapshot | None:
    """Return the published snapshot, which is `known` if the pointer has not changed. None: there is no pointer."""
    try:
        pointer = read_pointer_if_changed(services, known.published) if known else read_pointer(services)
        if pointer is None or (known is not None and pointer == known.published):
            return known if pointer else None
        before = known.manifest if known else None
        return CurrentSnapshot(pointer, read_replicated_manifest(services, pointer.pointer, known=before))
    except ObjectMissingError:
        return None
    except NotReplicatedYetError as error:
        if known is None:
            raise
        log.warning("reading snapshot %s until the next one is there: %s", known.manifest.snapshot_id, error)
        return known
