"""The expected content of the bucket after every call and at the end, computed from the deltas alone."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple
from uuid import UUID

from chromadb_compaction import layout
from chromadb_compaction.chroma.client import SQLITE_FILE
from chromadb_compaction.deltas.outcomes import unpack_outcomes
from chromadb_compaction.manifest import Manifest, Pointer
from chromadb_compaction.rows.ledger import decode_ledger, live_sum
from tests.crash.world import World
from tests.e2e.model import Delta, Record, content_of, expected, since_drops
from tests.fakes.aws.in_process import Saved
from tests.fakes.aws.protocol import Call
from tests.fakes.aws.s3 import StoredBytes
from tests.fakes.published import body_of, parse_manifest

POINTER = layout.pointer_key()
Objects = Mapping[str, StoredBytes]


class RowVersion(NamedTuple):
    """A row of a delta, as in the ledger."""

    delta: bytes
    row: int
    deleted: bool


Versions = Mapping[tuple[str, str], RowVersion]
"""Versions by collection and id."""


@dataclass
class Truth:
    """The deltas that producers wrote.

    Attributes:
        good: Those to merge.
        bad: The content, by key, of those that belong in quarantine.
        rewritten: The other content, by key, that was written over merged ones. It belongs in quarantine too.
        unarchived: The keys in `good` that were written over before they could be archived.
        undone: The keys in `good` whose rows come in at the end: written later, or taken out by an earlier rollback.
        unreadable: The content, by key, of archived objects, which stay pending.
    """

    good: list[Delta] = field(default_factory=list)
    bad: dict[str, bytes] = field(default_factory=dict)
    rewritten: dict[str, bytes] = field(default_factory=dict)
    unarchived: frozenset[str] = frozenset()
    undone: frozenset[str] = frozenset()
    unreadable: dict[str, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.quarantined = self.bad | self.rewritten
        self.bodies = {delta.key: delta.body() for delta in self.good}
        self.rows = {delta.key: dict(_rows(delta)) for delta in self.good}
        self.drops = {delta.key for delta in self.good if delta.drops}
        self.known = {(row, version) for rows in self.rows.values() for row, version in rows.items()}
        self.newest: dict[tuple[str, str], RowVersion] = {}
        for delta in since_drops(self.good):
            for row, version in self.rows[delta.key].items():
                self.newest[row] = max(version, self.newest.get(row, version))

    def watch(self, world: World, call: Call, before: Saved) -> None:
        """Add the problems after this call to the problems of the world."""
        if call.service == "s3":
            objects = world.aws.s3.buckets.objects["bucket"]
            lost = self.lost(objects, except_for=self.undone)
            problems = [*_rewritten(objects, before.buckets.objects["bucket"]), *lost]
        else:
            problems = list(_lease_problems(world, before))
        world.problems += [f"after {call} by {world.actor}: {problem}" for problem in problems]

    def lost(self, objects: Objects, *, except_for: frozenset[str] = frozenset()) -> Iterator[str]:
        """Yield the rows that would be lost, and half a snapshot, if everything stopped now."""
        manifest, problem = published(objects)
        if problem:
            yield f"half a snapshot is visible: {problem}"
            return
        versions = versions_of(manifest, objects) if manifest else {}
        dropped = manifest.all_dropped if manifest else {}
        for key, body in self.quarantined.items():
            copy = objects.get(layout.quarantine_key(key))
            if not _is_pending(key, body, objects) and (copy is None or copy.body != body):
                yield f"lost: the bad delta {key} is neither pending nor in quarantine"
        yield from (
            f"lost: the unreadable delta {key} is no longer pending"
            for key, body in self.unreadable.items()
            if not _is_pending(key, body, objects)
        )
        for key in self.rows.keys() - except_for:
            is_dropped = layout.delta_stem(key) <= dropped.get(layout.collection_of_key(key), "")
            if not is_dropped and not _is_pending(key, self.bodies[key], objects):
                yield from self._missing(key, versions)
        yield from self._invented(versions, dropped)

    def _missing(self, key: str, versions: Versions) -> Iterator[str]:
        """Yield what is lost of a delta that is no longer pending, and newer than every drop that was merged."""
        missing = [row for row, version in self.rows[key].items() if versions.get(row, (b"",)) < version]
        if missing or key in self.drops:
            yield f"lost: {missing[0] if missing else 'the drop'} of {key}, which is no longer pending"

    def _invented(self, versions: Versions, dropped: Mapping[str, str]) -> Iterator[str]:
        for row, version in versions.items():
            if (row, version) not in self.known:
                yield f"invented: {row} has a version that no delta wrote"
        for name, drop in dropped.items():
            if layout.delta_key(name, drop, ".jsonl.gz") not in self.drops:
                yield f"invented: {name} was dropped by no delta"

    def final_problems(self, world: World) -> Iterator[str]:
        """Yield all problems after the last execution."""
        objects = world.aws.s3.buckets.objects["bucket"]
        yield from self.lost(objects)
        yield from self._misplaced(objects)
        yield from _lease_left(world)
        manifest, _ = published(objects)
        if manifest is None:
            if self.good:
                yield "lost: nothing has been published"
            return
        if versions_of(manifest, objects) != self.newest:
            yield "the ledger differs from the deltas"
        content = content_of_snapshot(manifest, objects)
        wanted = expected(self.good)
        for name in wanted.keys() | content.keys():
            yield from _differences(name, wanted.get(name, {}), content.get(name, {}))
        yield from _proof_problems(manifest, objects)
        yield from self._list_problems(manifest, objects)
        dead_letters = " ".join(message.body for message in world.aws.sqs.queues.messages["dlq"].values())
        yield from (
            f"unreported: no dead-letter message names {key}" for key in self.quarantined if key not in dead_letters
        )

    def _misplaced(self, objects: Objects) -> Iterator[str]:
        pending = [key for key in objects if key.startswith(layout.DELTA_PREFIX) and key not in self.unreadable]
        yield from (f"left behind: {key} is still pending" for key in pending)
        archived = {key: objects[key].body for key in objects if key.startswith(layout.COMPACTED_PREFIX)}
        merged = {key: body for key, body in self.bodies.items() if key not in self.unarchived}
        if archived != {layout.compacted_key(key): body for key, body in merged.items()}:
            yield f"compacted/ holds {sorted(archived)}, which are not exactly the good deltas"
        quarantined = {
            key: objects[key].body
            for key in objects
            if key.startswith(layout.QUARANTINE_PREFIX) and not layout.is_reason_key(key)
        }
        if quarantined != {layout.quarantine_key(key): body for key, body in self.quarantined.items()}:
            yield f"quarantine/ holds {sorted(quarantined)}, which are not exactly the bad deltas"
        yield from (f"no reason beside {key}" for key in quarantined if layout.reason_key(key) not in objects)

    def _list_problems(self, manifest: Manifest, objects: Objects) -> Iterator[str]:
        times: dict[str, int] = defaultdict(int)
        line: Manifest | None = manifest
        while line is not None:
            stored = objects.get(layout.merged_deltas_key(line.snapshot_id))
            for outcome in unpack_outcomes(stored.body) if stored else []:
                times[outcome.key] += outcome.status == "merged"
            parent = objects.get(layout.manifest_key(line.parent)) if line.parent else None
            line = parse_manifest(parent.body, objects) if parent else None
        yield from (f"doubled: {key} was merged {number} times" for key, number in times.items() if number > 1)


def _is_pending(key: str, body: bytes, objects: Objects) -> bool:
    return key in objects and objects[key].body == body


def published(objects: Objects) -> tuple[Manifest | None, str | None]:
    """Return the published snapshot's manifest, and the problem that keeps a reader from using it."""
    if POINTER not in objects:
        return None, None
    pointer = Pointer.model_validate_json(objects[POINTER].body)
    stored = objects.get(layout.manifest_key(pointer.snapshot_id))
    if stored is None or _sha256(stored.body) != pointer.manifest_sha256:
        return None, f"the manifest of {pointer.snapshot_id} is missing or altered"
    manifest = parse_manifest(stored.body, objects)
    for name, ref in manifest.collections.refs.items():
        key = layout.collection_key(ref.snapshot_id, name)
        if key not in objects or _sha256(objects[key].body) != ref.sha256:
            return None, f"{key} is missing or altered"
    for collection in manifest.collections.values():
        for file in collection.all_files.values():
            if file.key not in objects or _sha256(body_of(file, objects)) != file.sha256:
                return None, f"{file.key} is missing or altered"
    return manifest, None


def versions_of(manifest: Manifest, objects: Objects) -> Versions:
    """Return what the snapshot's ledgers hold, tombstones too."""
    return {
        (name, row_id): version
        for name, collection in manifest.collections.items()
        for each in collection.directories
        for row_id, version in _ledger(body_of(each.files[layout.LEDGER_FILE], objects))
    }


def content_of_snapshot(manifest: Manifest, objects: Objects) -> dict[str, dict[str, Record]]:
    """Return what plain ChromaDB reads, once per distinct set of files of a directory."""
    content: dict[str, dict[str, Record]] = {}
    for name, collection in manifest.collections.items():
        content[name] = {}
        for each in collection.directories:
            if SQLITE_FILE in each.files:
                files = tuple((path, body_of(file, objects)) for path, file in sorted(each.files.items()))
                content[name] |= _read(name, files)
    return content


@cache
def _read(name: str, files: tuple[tuple[str, bytes], ...]) -> dict[str, Record]:
    with TemporaryDirectory() as directory:
        for path, body in files:
            target = Path(directory) / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(body)
        return content_of(Path(directory), name)


@cache
def _sha256(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


@cache
def _ledger(body: bytes) -> tuple[tuple[str, RowVersion], ...]:
    return tuple(
        (row["id"], RowVersion(row["delta"], row["row"], row["deleted"])) for row in decode_ledger(body).to_pylist()
    )


def _rows(delta: Delta) -> Iterator[tuple[tuple[str, str], RowVersion]]:
    """Yield the version of each row. dict() keeps the last row of an id, the newest."""
    for number, row in enumerate(delta.rows):
        yield (delta.collection, row.id), RowVersion(UUID(delta.name).bytes, number, row.embedding is None)


def _rewritten(objects: Objects, before: Objects) -> Iterator[str]:
    for key, stored in objects.items():
        once = layout.snapshot_of_key(key) is not None and not key.endswith("/cleaned.json")
        if once and key in before and before[key].body != stored.body:
            yield f"{key} was written twice with different content"
    if POINTER in before and POINTER not in objects:
        yield "the pointer was deleted"
    if POINTER in before and POINTER in objects and objects[POINTER] is not before[POINTER]:
        old, new = (json.loads(each[POINTER].body) for each in (before, objects))
        if new["sequence"] <= old["sequence"] and new != old:
            yield f"the pointer went from {old['sequence']} to {new['sequence']}: a commit was overwritten"


def _lease_problems(world: World, before: Saved) -> Iterator[str]:
    ((_, old),) = before.tables.items.items()
    ((_, new),) = world.aws.dynamodb.tables.items.items()
    for key in old.keys() | new.keys():
        was, now = old.get(key), new.get(key)
        if was == now:
            continue
        if now is not None and now.get("owner", {}).get("S") != world.actor:
            yield f"the lease was written for {now.get('owner')}"
        unexpired = was is not None and float(was["expires_at"]["N"]) >= world.clock.now
        if was is not None and unexpired and was.get("owner", {}).get("S") != world.actor:
            yield f"the unexpired lease of {was.get('owner')} was taken away"


def _lease_left(world: World) -> Iterator[str]:
    for table in world.aws.dynamodb.tables.items.values():
        yield from (f"leaked: the lock is still held by {item.get('owner')}" for item in table.values())


def _differences(name: str, wanted: Mapping[str, Record], found: Mapping[str, Record]) -> Iterator[str]:
    yield from (f"lost: {name}/{row_id} is not in the snapshot" for row_id in wanted.keys() - found.keys())
    yield from (f"resurrected or invented: {name}/{row_id}" for row_id in found.keys() - wanted.keys())
    both: Iterable[str] = wanted.keys() & found.keys()
    yield from (f"wrong: {name}/{row_id} is {found[row_id]}" for row_id in both if found[row_id] != wanted[row_id])


def _proof_problems(manifest: Manifest, objects: Objects) -> Iterator[str]:
    for name, collection in manifest.collections.items():
        if not collection.conservation.holds():
            yield f"{name}: the conservation proof is wrong"
        for each in collection.directories:
            ledger = decode_ledger(body_of(each.files[layout.LEDGER_FILE], objects))
            if live_sum(ledger) != each.conservation.next:
                yield f"{name}: the conservation proof of the directory at {each.first!r} is wrong"
            live = sum(not deleted for deleted in ledger["deleted"].to_pylist())
            if (each.records, each.records + each.tombstones) != (live, ledger.num_rows):
                yield f"{name}: the manifest counts {each.records} records, the ledger {live}"
            misplaced = [
                row_id for row_id in map(str, ledger["id"].to_pylist()) if collection.directory_of(row_id) != each
            ]
            yield from (f"misplaced: {name}/{row_id} is in the directory at {each.first!r}" for row_id in misplaced)
