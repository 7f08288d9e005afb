"""The invariants, checked after every call and at the end. A message starts with the invariant's number."""

from __future__ import annotations

import json
from collections.abc import Mapping
from io import BytesIO
from typing import Any, NamedTuple

import pyarrow.parquet as pq

from chromadb_compaction import layout
from chromadb_compaction.manifest import Manifest, Pointer
from tests.interleavings.actors import WrittenDeltas, WrittenRow
from tests.interleavings.environment import ROWS_FILE, Environment

Content = dict[str, dict[str, str]]
"""Collection -> id -> document."""
MARGIN_SECONDS = 600
"""More than any two clocks differ. A lease that runs longer has expired on no clock."""


class SharedState(NamedTuple):
    """The lock and the pointer at one moment."""

    lock: Mapping[str, Any] | None
    pointer: bytes | None


class InvariantChecker:
    """Reads the bucket and the lock directly, without calls to AWS."""

    def __init__(self, environment: Environment, written: WrittenDeltas) -> None:
        self.swaps: list[str] = []
        self._environment = environment
        self._written = written
        self._contents: dict[str, Content] = {}
        self._last_seen = 0
        self._accepted: set[str] = set()

    def read_state(self) -> SharedState:
        """Return the current lock and pointer."""
        stored = self._environment.objects.get(layout.pointer_key())
        return SharedState(self._environment.lock, stored.body if stored else None)

    def check(self, actor: str, before: SharedState) -> None:
        """Check the invariants after a call of `actor`."""
        after = self.read_state()
        self._accepted |= self._environment.keys("delta/")
        if after.pointer != before.pointer:
            assert after.pointer is not None, "the pointer was deleted"
            self._check_swap(before.pointer, Pointer.model_validate_json(after.pointer))
        self._check_complete(after.pointer)
        self._check_lock(actor, before.lock, after.lock)

    def check_read(self, name: str, snapshot_id: str, rows: Mapping[str, str], *, swaps: int) -> None:
        """Check the rows that a reader got. `swaps` is the number of swaps before its read."""
        assert snapshot_id in self._contents, "4. a reader got a snapshot that was never published"
        assert rows == self._contents[snapshot_id][name], "4. a reader got rows that differ from the published ones"
        since = max(self._last_seen, swaps - 1, 0)
        following = [number for number, each in enumerate(self.swaps) if number >= since and each == snapshot_id]
        assert following, "4. a reader went backward"
        self._last_seen = following[0]

    def check_at_the_end(self) -> None:
        """Check that every delta is pending, quarantined, published, or superseded by a published row."""
        ledger = self._ledger()
        for key, rows in self._rows():
            inside = all(ledger.get((row.collection, row.id), (b"", 0)) >= _version(row) for row in rows)
            assert inside or key in self._environment.objects, f"1. {key} is lost: neither pending nor published"
        for key in self._written.bad & self._accepted:
            exists = key in self._environment.objects or layout.quarantine_key(key) in self._environment.objects
            assert exists, f"1. the bad delta {key} is lost"

    def check_after_quiet(self) -> None:
        """Check that the snapshot equals the set of all deltas, and that nothing is left to do."""
        assert self._content() == self._expected(), "2. the snapshot differs from the set of deltas"
        assert not self._environment.keys("delta/"), "7. deltas are pending after undisturbed executions"
        for key in self._written.bad & self._accepted:
            assert layout.quarantine_key(key) in self._environment.objects, "3. a bad delta is not in quarantine"
            assert layout.reason_key(layout.quarantine_key(key)) in self._environment.objects, (
                "3. a quarantined delta has no reason"
            )
        assert self._environment.lock is None, "8. the lock is held after undisturbed executions"

    def _rows(self) -> list[tuple[str, list[WrittenRow]]]:
        """Return the rows of the deltas that were stored. A dead producer may not have written all of its deltas."""
        return [(key, rows) for key, rows in self._written.rows.items() if key in self._accepted]

    def _check_swap(self, before: bytes | None, pointer: Pointer) -> None:
        manifest = self._manifest(pointer.snapshot_id)
        if not pointer.commit_id.endswith("/rollback"):
            replaced = Pointer.model_validate_json(before).snapshot_id if before else None
            assert manifest.parent == replaced, "5. a snapshot replaced one that is not its parent"
        self.swaps.append(pointer.snapshot_id)
        self._contents[pointer.snapshot_id] = self._content()

    def _check_complete(self, pointer: bytes | None) -> None:
        if pointer is None:
            return
        manifest = self._manifest(Pointer.model_validate_json(pointer).snapshot_id)
        for collection in manifest.collections.values():
            for file in collection.files.values():
                stored = self._environment.objects.get(file.key)
                assert stored is not None, f"4. {file.key} of the published snapshot is missing"
                assert len(stored.body) == file.bytes, f"4. {file.key} of the published snapshot was changed"

    def _check_lock(self, actor: str, before: Mapping[str, Any] | None, after: Mapping[str, Any] | None) -> None:
        if before is None or before["owner"] == (after or {}).get("owner"):
            return
        unexpired = int(before["expires_at"]["N"]) > self._environment.clock() + MARGIN_SECONDS
        owner = str(before["owner"]["S"]).rpartition(":")[2]
        own = actor.split(maxsplit=1)[0] == owner or actor.endswith(f" {owner}") or owner.startswith("me/")
        assert own or not unexpired, f"8. {actor} took or released the unexpired lease of {owner}"

    def _manifest(self, snapshot_id: str) -> Manifest:
        stored = self._environment.objects.get(layout.manifest_key(snapshot_id))
        assert stored is not None, "4. the published snapshot has no manifest"
        return Manifest.model_validate_json(stored.body)

    def _files(self) -> list[tuple[str, str, bytes]]:
        """Return collection, path and body of every file of the published snapshot."""
        stored = self._environment.objects.get(layout.pointer_key())
        if stored is None:
            return []
        manifest = self._manifest(Pointer.model_validate_json(stored.body).snapshot_id)
        return [
            (name, path, self._environment.objects[file.key].body)
            for name, collection in manifest.collections.items()
            for path, file in collection.files.items()
        ]

    def _content(self) -> Content:
        content: Content = {name: {} for name, _, _ in self._files()}
        for name, path, body in self._files():
            if path == ROWS_FILE:
                rows = json.loads(body)
                content[name] = dict(rows)
                assert len(rows) == len(content[name]), "2. an id exists twice"
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


def _version(row: WrittenRow) -> tuple[bytes, int]:
    return row.version.bytes, row.row
