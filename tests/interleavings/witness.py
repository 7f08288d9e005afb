"""What must hold while the actors play, and when all is over: each broken rule is told by its name."""

from __future__ import annotations

import json
from collections.abc import Mapping
from io import BytesIO
from typing import Any, NamedTuple

import pyarrow.parquet as pq

from chromadb_compaction import layout
from chromadb_compaction.manifest import Manifest, Pointer
from tests.interleavings.people import Writing, Written
from tests.interleavings.stage import PAPER, Stage

Content = dict[str, dict[str, str]]
"""Collection -> id -> document."""
MARGIN_SECONDS = 600
"""More than any two clocks differ: a lease that has longer to run has run out for nobody."""


class Before(NamedTuple):
    """What stood before a call."""

    lock: Mapping[str, Any] | None
    pointer: bytes | None


class Witness:
    """Looks at the bucket and the lock from outside, without a call."""

    def __init__(self, stage: Stage, writing: Writing) -> None:
        self.swaps: list[str] = []
        self._stage = stage
        self._writing = writing
        self._contents: dict[str, Content] = {}
        self._last_seen = 0
        self._accepted: set[str] = set()

    def look(self) -> Before:
        """Remember what a call may change."""
        stored = self._stage.objects.get(layout.pointer_key())
        return Before(self._stage.lock, stored.body if stored else None)

    def check(self, actor: str, before: Before) -> None:
        """Hold a call to the rules."""
        after = self.look()
        self._accepted |= self._stage.keys("delta/")
        if after.pointer != before.pointer:
            assert after.pointer is not None, "the pointer has gone"
            self._check_swap(before.pointer, Pointer.model_validate_json(after.pointer))
        self._check_complete(after.pointer)
        self._check_lock(actor, before.lock, after.lock)

    def seen(self, name: str, snapshot_id: str, rows: Mapping[str, str], *, asked: int) -> None:
        """Hold what a reader was given, who asked after so many swaps, to what was published."""
        assert snapshot_id in self._contents, "4. a reader was given a snapshot that was never published"
        assert rows == self._contents[snapshot_id][name], "4. a reader was given other rows than were published"
        since = max(self._last_seen, asked - 1, 0)
        following = [number for number, each in enumerate(self.swaps) if number >= since and each == snapshot_id]
        assert following, "4. a reader went backward"
        self._last_seen = following[0]

    def check_at_the_end(self) -> None:
        """Every delta is pending, in quarantine, or in the published snapshot or superseded by what is."""
        ledger = self._ledger()
        for key, rows in self._rows():
            inside = all(ledger.get((row.collection, row.id), (b"", 0)) >= _version(row) for row in rows)
            assert inside or key in self._stage.objects, f"1. {key} is lost: neither pending nor published"
        for key in self._writing.bad & self._accepted:
            there = key in self._stage.objects or layout.quarantine_key(key) in self._stage.objects
            assert there, f"1. the bad delta {key} is lost"

    def check_after_quiet(self) -> None:
        """After quiet executions the snapshot is what the set of all deltas makes, and nothing is left to do."""
        assert self._content() == self._expected(), "2. the snapshot is not what the set of deltas makes"
        assert not self._stage.keys("delta/"), "7. deltas are pending after quiet executions"
        for key in self._writing.bad & self._accepted:
            assert layout.quarantine_key(key) in self._stage.objects, "3. a bad delta is not in quarantine"
            assert layout.reason_key(layout.quarantine_key(key)) in self._stage.objects, "3. nobody knows the reason"
        assert self._stage.lock is None, "8. the lock is held after quiet executions"

    def _rows(self) -> list[tuple[str, list[Written]]]:
        """Return what was accepted: what a producer that died never wrote is nobody's loss."""
        return [(key, rows) for key, rows in self._writing.rows.items() if key in self._accepted]

    def _check_swap(self, before: bytes | None, pointer: Pointer) -> None:
        manifest = self._manifest(pointer.snapshot_id)
        if not pointer.commit_id.endswith("/rollback"):
            replaced = Pointer.model_validate_json(before).snapshot_id if before else None
            assert manifest.parent == replaced, "5. a snapshot replaced another that it does not come from"
        self.swaps.append(pointer.snapshot_id)
        self._contents[pointer.snapshot_id] = self._content()

    def _check_complete(self, pointer: bytes | None) -> None:
        if pointer is None:
            return
        manifest = self._manifest(Pointer.model_validate_json(pointer).snapshot_id)
        for collection in manifest.collections.values():
            for file in collection.files.values():
                stored = self._stage.objects.get(file.key)
                assert stored is not None, f"4. {file.key} of the published snapshot is missing"
                assert len(stored.body) == file.bytes, f"4. {file.key} of the published snapshot was changed"

    def _check_lock(self, actor: str, before: Mapping[str, Any] | None, after: Mapping[str, Any] | None) -> None:
        if before is None or before["owner"] == (after or {}).get("owner"):
            return
        runs = int(before["expires_at"]["N"]) > self._stage.clock() + MARGIN_SECONDS
        owner = str(before["owner"]["S"]).rpartition(":")[2]
        own = actor.split(maxsplit=1)[0] == owner or actor.endswith(f" {owner}") or owner.startswith("me/")
        assert own or not runs, f"8. {actor} took or freed the lease of {owner}, which still runs"

    def _manifest(self, snapshot_id: str) -> Manifest:
        stored = self._stage.objects.get(layout.manifest_key(snapshot_id))
        assert stored is not None, "4. the published snapshot has no manifest"
        return Manifest.model_validate_json(stored.body)

    def _files(self) -> list[tuple[str, str, bytes]]:
        """Return collection, path and body of every file of the published snapshot."""
        stored = self._stage.objects.get(layout.pointer_key())
        if stored is None:
            return []
        manifest = self._manifest(Pointer.model_validate_json(stored.body).snapshot_id)
        return [
            (name, path, self._stage.objects[file.key].body)
            for name, collection in manifest.collections.items()
            for path, file in collection.files.items()
        ]

    def _content(self) -> Content:
        content: Content = {name: {} for name, _, _ in self._files()}
        for name, path, body in self._files():
            if path == PAPER:
                rows = json.loads(body)
                content[name] = dict(rows)
                assert len(rows) == len(content[name]), "2. an id is there twice"
        return content

    def _ledger(self) -> dict[tuple[str, str], tuple[bytes, int]]:
        ledger = {}
        for name, path, body in self._files():
            if path == layout.LEDGER_FILE:
                for row in pq.read_table(BytesIO(body)).to_pylist():
                    ledger[name, row["id"]] = (bytes(row["delta"]), int(row["row"]))
        return ledger

    def _expected(self) -> Content:
        rows = sorted((row for _, each in self._rows() for row in each), key=_version)
        content: Content = {row.collection: {} for row in rows}
        for row in rows:
            if row.document is None:
                content[row.collection].pop(row.id, None)
            else:
                content[row.collection][row.id] = row.document
        return content


def _version(row: Written) -> tuple[bytes, int]:
    return row.version.bytes, row.row
