"""What must hold of the bucket at every moment and at the end, computed from the deltas alone."""

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
from chromadb_compaction.deltas.outcomes import unpack_outcomes
from chromadb_compaction.manifest import Manifest, Pointer
from chromadb_compaction.rows.ledger import decode_ledger, live_sum
from tests.crash.world import World
from tests.e2e.model import Delta, Record, content_of, expected
from tests.fakes.aws.in_process import Saved
from tests.fakes.aws.protocol import Call
from tests.fakes.aws.s3 import StoredBytes

POINTER = layout.pointer_key()
Held = Mapping[str, StoredBytes]


class RowVersion(NamedTuple):
    """A row of a delta, as the ledger knows it."""

    delta: bytes
    row: int
    deleted: bool


Versions = Mapping[tuple[str, str], RowVersion]
"""By collection and id."""


@dataclass
class Truth:
    """The deltas that producers wrote: `good` ones count, `bad` ones (key -> bytes) belong in quarantine."""

    good: list[Delta] = field(default_factory=list)
    bad: dict[str, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.bodies = {delta.key: delta.body() for delta in self.good} | self.bad
        self.rows = {delta.key: dict(_rows(delta)) for delta in self.good}
        self.known = {(where, version) for rows in self.rows.values() for where, version in rows.items()}
        self.newest: dict[tuple[str, str], RowVersion] = {}
        for rows in self.rows.values():
            for where, version in rows.items():
                self.newest[where] = max(version, self.newest.get(where, version))

    def watch(self, world: World, call: Call, before: Saved) -> None:
        """Note in the world's problems whatever is not true after this call."""
        if call.service == "s3":
            held = world.aws.s3.buckets.objects["bucket"]
            problems = [*_rewritten(held, before.buckets.objects["bucket"]), *self.lost(held)]
        else:
            problems = list(_lease_problems(world, before))
        world.problems += [f"after {call} by {world.actor}: {problem}" for problem in problems]

    def lost(self, held: Held) -> Iterator[str]:
        """Yield what would be lost, or half visible, if everything stopped for ever now."""
        manifest, problem = published(held)
        if problem:
            yield f"half a snapshot is visible: {problem}"
            return
        versions = versions_of(manifest, held) if manifest else {}
        for key, body in self.bodies.items():
            if key in held and held[key].body == body:
                continue  # pending
            if key in self.bad:
                copy = held.get(layout.quarantine_key(key))
                if copy is None or copy.body != body:
                    yield f"lost: the bad delta {key} is neither pending nor in quarantine"
            elif missing := [w for w, version in self.rows[key].items() if versions.get(w, (b"",)) < version]:
                yield f"lost: {missing[0]} of {key}, which is no longer pending"
        for where, version in versions.items():
            if (where, version) not in self.known:
                yield f"invented: {where} has a version that no delta wrote"

    def final_problems(self, world: World) -> Iterator[str]:
        """Yield all that is wrong once every execution has had its turn."""
        held = world.aws.s3.buckets.objects["bucket"]
        yield from self.lost(held)
        yield from self._misplaced(held)
        yield from _lease_left(world)
        manifest, _ = published(held)
        if manifest is None:
            if self.good:
                yield "lost: nothing has been published"
            return
        if versions_of(manifest, held) != self.newest:
            yield "the ledger is not what the deltas say"
        content = content_of_snapshot(manifest, held)
        wanted = expected(self.good)
        for name in wanted.keys() | content.keys():
            yield from _differences(name, wanted.get(name, {}), content.get(name, {}))
        yield from _proof_problems(manifest, held)
        yield from self._list_problems(manifest, held)
        letters = " ".join(message.body for message in world.aws.sqs.queues.messages["dlq"].values())
        yield from (f"untold: no letter says that {key} was refused" for key in self.bad if key not in letters)

    def _misplaced(self, held: Held) -> Iterator[str]:
        yield from (f"left behind: {key} is still pending" for key in held if key.startswith(layout.DELTA_PREFIX))
        archived = {key: held[key].body for key in held if key.startswith(layout.COMPACTED_PREFIX)}
        if archived != {layout.compacted_key(delta.key): self.bodies[delta.key] for delta in self.good}:
            yield f"compacted/ holds {sorted(archived)}, which is not exactly the good deltas"
        refused = {
            key: held[key].body
            for key in held
            if key.startswith(layout.QUARANTINE_PREFIX) and not layout.is_reason_key(key)
        }
        if refused != {layout.quarantine_key(key): body for key, body in self.bad.items()}:
            yield f"quarantine/ holds {sorted(refused)}, which is not exactly the bad deltas"
        yield from (f"no reason beside {key}" for key in refused if layout.reason_key(key) not in held)

    def _list_problems(self, manifest: Manifest, held: Held) -> Iterator[str]:
        times: dict[str, int] = defaultdict(int)
        line: Manifest | None = manifest
        while line is not None:
            stored = held.get(layout.merged_deltas_key(line.snapshot_id))
            for outcome in unpack_outcomes(stored.body) if stored else []:
                times[outcome.key] += outcome.status == "merged"
            parent = held.get(layout.manifest_key(line.parent)) if line.parent else None
            line = Manifest.model_validate_json(parent.body) if parent else None
        yield from (f"doubled: {key} was merged {number} times" for key, number in times.items() if number > 1)


def published(held: Held) -> tuple[Manifest | None, str | None]:
    """Return the published snapshot's manifest, and what keeps a reader from using it."""
    if POINTER not in held:
        return None, None
    pointer = Pointer.model_validate_json(held[POINTER].body)
    stored = held.get(layout.manifest_key(pointer.snapshot_id))
    if stored is None or _sha256(stored.body) != pointer.manifest_sha256:
        return None, f"the manifest of {pointer.snapshot_id} is missing or another"
    manifest = _manifest(stored.body)
    for collection in manifest.collections.values():
        for file in collection.files.values():
            if file.key not in held or _sha256(held[file.key].body) != file.sha256:
                return None, f"{file.key} is missing or altered"
    return manifest, None


def versions_of(manifest: Manifest, held: Held) -> Versions:
    """Return what the snapshot's ledgers hold, tombstones too."""
    versions: dict[tuple[str, str], RowVersion] = {}
    for name, collection in manifest.collections.items():
        for row_id, version in _ledger(held[collection.files[layout.LEDGER_FILE].key].body):
            versions[name, row_id] = version
    return versions


def content_of_snapshot(manifest: Manifest, held: Held) -> dict[str, dict[str, Record]]:
    """Return what plain ChromaDB reads, once per distinct set of files."""
    content: dict[str, dict[str, Record]] = {}
    for name, collection in manifest.collections.items():
        files = tuple((path, held[file.key].body) for path, file in sorted(collection.files.items()))
        content[name] = _read(name, files) if collection.dimension is not None else {}
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
def _manifest(body: bytes) -> Manifest:
    return Manifest.model_validate_json(body)


@cache
def _ledger(body: bytes) -> tuple[tuple[str, RowVersion], ...]:
    return tuple(
        (row["id"], RowVersion(row["delta"], row["row"], row["deleted"])) for row in decode_ledger(body).to_pylist()
    )


def _rows(delta: Delta) -> Iterator[tuple[tuple[str, str], RowVersion]]:
    """Yield the newest row of each id: dict() keeps the last."""
    for number, row in enumerate(delta.rows):
        yield (delta.collection, row.id), RowVersion(UUID(delta.name).bytes, number, row.embedding is None)


def _rewritten(held: Held, before: Held) -> Iterator[str]:
    for key, stored in held.items():
        once = key.startswith(layout.SNAPSHOT_PREFIX) and key != POINTER and not key.endswith("/cleaned.json")
        if once and key in before and before[key].body != stored.body:
            yield f"{key} was written twice with different content"
    if POINTER in before and POINTER not in held:
        yield "the pointer is gone"
    if POINTER in before and POINTER in held and held[POINTER] is not before[POINTER]:
        old, new = (json.loads(each[POINTER].body) for each in (before, held))
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


def _proof_problems(manifest: Manifest, held: Held) -> Iterator[str]:
    for name, collection in manifest.collections.items():
        ledger = decode_ledger(held[collection.files[layout.LEDGER_FILE].key].body)
        if not collection.conservation.holds() or live_sum(ledger) != collection.conservation.next:
            yield f"{name}: the conservation proof is wrong"
        live = sum(not deleted for deleted in ledger["deleted"].to_pylist())
        if (collection.records, collection.records + collection.tombstones) != (live, ledger.num_rows):
            yield f"{name}: the manifest counts {collection.records} records, the ledger {live}"
