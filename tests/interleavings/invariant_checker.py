"""The invariants, checked after every call and at the end. A message starts with the invariant's number."""

from __future__ import annotations

import json
from collections.abc import Mapping
from io import BytesIO
from typing import Any, NamedTuple

import pyarrow.parquet as pq

from chromadb_compaction import layout
from chromadb_compaction.fold.units import directories_of
from chromadb_compaction.manifest import Manifest, Pointer
from chromadb_compaction.rows.id_ranges import IdRange
from tests.fakes.published import body_of, parse_manifest
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


class PublishedFile(NamedTuple):
    """A file of a directory of a published collection, and the ids of that directory."""

    collection: str
    ids: IdRange
    path: str
    body: bytes


class InvariantChecker:
    """Reads the bucket and the lock directly, without calls to AWS."""

    def __init__(self, environment: Environment, written: WrittenDeltas, *, reads_fresh: bool = False) -> None:
        self.swaps: list[str] = []
        # How often a directory of a collection was divided, and how often it was joined with the one before it.
        self.divided = self.joined = 0
        self._reads_fresh = reads_fresh
        self._pending: set[str] = set()
        self._has_gap = False
        self._environment = environment
        self._written = written
        self._contents: dict[str, Content] = {}
        self._last_seen = 0
        # The deltas that were ever pending, with the time at which each was first seen.
        self._accepted: dict[str, float] = {}
        # The times at which a delta was neither pending nor published.
        self._gaps: list[tuple[float, str]] = []

    def read_state(self) -> SharedState:
        """Return the current lock and pointer."""
        stored = self._environment.objects.get(layout.pointer_key())
        return SharedState(self._environment.lock, stored.body if stored else None)

    def check(self, actor: str, before: SharedState) -> None:
        """Check the invariants after a call of `actor`."""
        after = self.read_state()
        pending = self._environment.keys("delta/")
        for key in pending:
            self._accepted.setdefault(key, self.now)
        self._check_complete(after.pointer)
        if after.pointer != before.pointer:
            assert after.pointer is not None, "the pointer was deleted"
            self._check_swap(before.pointer, Pointer.model_validate_json(after.pointer))
        if self._reads_fresh and (after.pointer != before.pointer or self._pending - pending or self._has_gap):
            self._note_gaps()
        self._pending = pending
        self._check_lock(actor, before.lock, after.lock)

    def check_read(self, name: str, snapshot_id: str, rows: Mapping[str, str], *, swaps: int) -> None:
        """Check the rows that a reader got. `swaps` is the number of swaps before its read."""
        assert snapshot_id in self._contents, "4. a reader got a snapshot that was never published"
        assert rows == self._contents[snapshot_id][name], "4. a reader got rows that differ from the published ones"
        since = max(self._last_seen, swaps - 1, 0)
        following = [number for number, each in enumerate(self.swaps) if number >= since and each == snapshot_id]
        assert following, "4. a reader went backward"
        self._last_seen = following[0]

    @property
    def now(self) -> float:
        """The true time, in Unix seconds."""
        return self._environment.clock()

    def check_fresh_read(self, name: str, rows: Mapping[str, str], *, began: float) -> None:
        """Check that a read shows each id as it was at `began` or later, and nothing that was never written."""
        versions = self._versions(name)
        for row_id in {row.id for row in versions} | rows.keys():
            seen = [row for row in versions if row.id == row_id and row.document == rows.get(row_id)]
            known = [row for row in versions if row.id == row_id and self._was_durable(row, began)]
            if not seen and row_id not in rows:
                assert not known, f"9. a fresh read of {name} does not show {row_id}, which was written before"
                continue
            assert seen, f"9. a fresh read of {name} shows {row_id} as nobody wrote it: {rows.get(row_id)!r}"
            newest = max(map(_version, known), default=(b"", 0))
            assert max(map(_version, seen)) >= newest, f"9. a fresh read of {name} shows an old {row_id}: {rows}"

    def _versions(self, name: str) -> list[WrittenRow]:
        """Return all versions of the rows of a collection. A drop deletes each of them."""
        rows = [row for _, written in self._rows() for row in written if row.collection == name]
        drops = [drop for key, drop in self._written.drops.items() if key in self._accepted and drop.collection == name]
        return rows + [
            WrittenRow(name, drop.version, 0, row_id, None) for drop in drops for row_id in {row.id for row in rows}
        ]

    def _was_durable(self, row: WrittenRow, began: float) -> bool:
        """Return whether the row was stored before `began`, and since then has always been pending or published."""
        parquet, drop = (layout.delta_key(row.collection, str(row.version), end) for end in (".parquet", ".jsonl.gz"))
        key = drop if drop in self._written.drops else parquet
        lost = any(at >= began and gap == key for at, gap in self._gaps)
        return self._accepted.get(key, began) < began and not lost

    def _note_gaps(self) -> None:
        """Note the deltas that are nowhere: a clean-up that a rollback has overtaken puts them back."""
        missing = self._missing()
        self._gaps += [(self.now, key) for key in missing]
        self._has_gap = bool(missing)

    def _missing(self) -> list[str]:
        """Return the deltas that are neither pending, nor published, nor superseded by a published row or drop."""
        ledger, dropped = self._ledger(), self._dropped()

        def is_inside(row: WrittenRow) -> bool:
            newest = ledger.get((row.collection, row.id), (b"", 0))
            return newest >= _version(row) or str(row.version) < dropped.get(row.collection, "")

        outside = [key for key, rows in self._rows() if not all(map(is_inside, rows))]
        outside += [
            key
            for key, drop in self._written.drops.items()
            if key in self._accepted and str(drop.version) > dropped.get(drop.collection, "")
        ]
        return [key for key in outside if key not in self._environment.objects]

    def check_at_the_end(self) -> None:
        """Check that every delta is pending, quarantined, published, or superseded by a published row."""
        lost = self._missing()
        assert not lost, f"1. lost, neither pending nor published: {', '.join(lost)}"
        for key in self._written.bad & self._accepted.keys():
            exists = key in self._environment.objects or layout.quarantine_key(key) in self._environment.objects
            assert exists, f"1. the bad delta {key} is lost"

    def check_after_quiet(self) -> None:
        """Check that the snapshot equals the set of all deltas, and that nothing is left to do."""
        assert self._content() == self._expected(), "2. the snapshot differs from the set of deltas"
        assert not self._environment.keys("delta/"), "7. deltas are pending after undisturbed executions"
        for key in self._written.bad & self._accepted.keys():
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
            self._count_borders(manifest)
        self.swaps.append(pointer.snapshot_id)
        self._contents[pointer.snapshot_id] = self._content()

    def _count_borders(self, manifest: Manifest) -> None:
        known = self._manifest(manifest.parent).collections if manifest.parent else {}
        for name, described in manifest.collections.items():
            if name in known:
                before, after = ({each.first for each in one.directories} for one in (known[name], described))
                self.divided += bool(after - before)
                self.joined += bool(before - after)

    def _check_complete(self, pointer: bytes | None) -> None:
        if pointer is None:
            return
        manifest = self._manifest(Pointer.model_validate_json(pointer).snapshot_id)
        for name, ref in manifest.collections.refs.items():
            key = layout.collection_key(ref.snapshot_id, name)
            assert key in self._environment.objects, f"4. {key} of the published snapshot is missing"
        for collection in manifest.collections.values():
            for file in collection.all_files.values():
                stored = self._environment.objects.get(file.key)
                assert stored is not None, f"4. {file.key} of the published snapshot is missing"
                assert len(body_of(file, {file.key: stored})) == file.bytes, (
                    f"4. {file.key} of the published snapshot was changed"
                )

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
        return parse_manifest(stored.body, self._environment.objects)

    def _files(self) -> list[PublishedFile]:
        """Return every file of the published snapshot."""
        stored = self._environment.objects.get(layout.pointer_key())
        if stored is None:
            return []
        manifest = self._manifest(Pointer.model_validate_json(stored.body).snapshot_id)
        return [
            PublishedFile(name, ids, path, body_of(file, self._environment.objects))
            for name, collection in manifest.collections.items()
            for directory, ids in directories_of(collection)
            for path, file in directory.files.items()
        ]

    def _content(self) -> Content:
        files = self._files()
        content: Content = {each.collection: {} for each in files}
        for name, ids, path, body in files:
            if path == ROWS_FILE:
                rows = json.loads(body)
                before = len(content[name])
                content[name] |= {row_id: document for row_id, document, _ in rows}
                assert len(content[name]) == before + len(rows), "2. an id exists twice"
                assert all(ids.holds(row_id) for row_id, *_ in rows), "2. an id is in the directory of others"
        return content

    def _ledger(self) -> dict[tuple[str, str], tuple[bytes, int]]:
        ledger = {}
        for name, ids, path, body in self._files():
            if path == layout.LEDGER_FILE:
                for row in pq.read_table(BytesIO(body)).to_pylist():
                    assert ids.holds(row["id"]), "2. an id is in the ledger of others"
                    ledger[name, row["id"]] = (bytes(row["delta"]), int(row["row"]))
        return ledger

    def _dropped(self) -> dict[str, str]:
        """Return the version of the newest published drop, by collection."""
        stored = self._environment.objects.get(layout.pointer_key())
        return self._manifest(Pointer.model_validate_json(stored.body).snapshot_id).all_dropped if stored else {}

    def _expected(self) -> Content:
        drops = [drop for key, drop in self._written.drops.items() if key in self._accepted]
        rows = sorted(
            (
                row
                for _, each in self._rows()
                for row in each
                if not any(drop.collection == row.collection and drop.version > row.version for drop in drops)
            ),
            key=_version,
        )
        content: Content = {row.collection: {} for row in rows}
        for row in rows:
            if row.document is None:
                content[row.collection].pop(row.id, None)
            else:
                content[row.collection][row.id] = row.document
        return content


def _version(row: WrittenRow) -> tuple[bytes, int]:
    return row.version.bytes, row.row
