"""A process that merges fuzzed deltas in one whole pass, good ones beside them, and says what became of each.

It reads an Ordeal from its standard input and writes a Verdict to its standard output. It may die instead: that is why
it is a process of its own.
"""

from __future__ import annotations

import pickle
import resource
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from chromadb_compaction import layout
from chromadb_compaction.deltas.outcomes import QuarantineReason
from chromadb_compaction.manifest import Manifest, Pointer
from tests.builders import NOW, BuiltDelta, a_uuid7
from tests.e2e.model import Delta, Record, Row, content_of, expected
from tests.fakes.services import Fakes, new_fakes
from tests.fuzz import defects
from tests.fuzz.inputs import Fuzzed
from tests.fuzz.ordeal import LARGEST_DELTA, Fate, Ordeal, Verdict
from tests.fuzz.outsider import rows_of
from tests.passes import compact

GOOD_NUMBERS = 10**9
ADDRESS_SPACE = 6 * 1024 * 1024 * 1024
"""What is asked for at once beyond this fails here, as it would in a Lambda."""


def _good(number: int, collection: str) -> Delta:
    rows = (Row(f"good-{number}-{row}", (float(number), float(row), 1.0), f"text {row}") for row in range(5))
    return Delta(collection, tuple(rows), str(a_uuid7(NOW, GOOD_NUMBERS + number)))


GOOD = [_good(number, collection) for number, collection in enumerate(("docs", "others") * 6)]


def endure(ordeal: Ordeal, scratch: Path) -> Verdict:
    """Merge one good delta, then everything else in a single pass, and compare the outcome to the model."""
    fakes = new_fakes(max_delta_bytes=LARGEST_DELTA, chromadb_cache_dir=str(scratch / "cache"))
    compact(fakes, _built(GOOD[0]))
    before = _start_measuring()
    fuzzed = [BuiltDelta(each.key, each.body) for each in ordeal.inputs]
    with defects.seeded(ordeal.defect):
        compact(fakes, *map(_built, GOOD[1:]), *fuzzed)
    grown = _largest_size() - before
    fates = [_fate(each, fakes) for each in ordeal.inputs]
    merged = [each for each, fate in zip(ordeal.inputs, fates, strict=True) if fate.fate == "merged"]
    return Verdict(fates, grown, [*_left_undone(fakes, fates), *_differences(fakes, merged, scratch)])


def _built(delta: Delta) -> BuiltDelta:
    return BuiltDelta(delta.key, delta.body())


def _start_measuring() -> int:
    """Forget the largest size so far, and return the present one, in bytes."""
    Path("/proc/self/clear_refs").write_text("5")
    return _largest_size()


def _largest_size() -> int:
    # Not getrusage: that counts what the parent took before it started this program.
    told = Path("/proc/self/status").read_text().split("VmHWM:")[1]
    return int(told.split()[0]) * 1024


def _fate(each: Fuzzed, fakes: Fakes) -> Fate:
    objects = fakes.objects.objects
    refused = layout.quarantine_key(each.key)
    places = {"merged": layout.compacted_key(each.key), "quarantined": refused, "ignored": each.key}
    found = [fate for fate, key in places.items() if key in objects and objects[key].body == each.body]
    note = objects.get(layout.reason_key(refused))
    reason = QuarantineReason.model_validate_json(note.body) if note and found == ["quarantined"] else None
    told = reason.reason if reason and reason.delta == each.key else None
    return Fate(each.number, each.kind, "+".join(found), told)


def _left_undone(fakes: Fakes, fates: list[Fate]) -> Iterator[str]:
    for fate in fates:
        if fate.fate not in ("merged", "quarantined", "ignored"):
            yield f"{fate.number} is in {fate.fate or 'no place'}"
        if fate.fate == "quarantined" and not fate.reason:
            yield f"{fate.number} is in quarantine without its reason"
    for key in fakes.objects.keys("delta/"):
        if not layout.is_folder_marker(key):
            yield f"{key!r} is still pending"


def _differences(fakes: Fakes, merged: list[Fuzzed], scratch: Path) -> Iterator[str]:
    """Hold what is published against what somebody else's code reads in the deltas that were merged."""
    model = expected([*GOOD, *(_as_outsider(each) for each in merged)])
    found = _published(fakes, scratch)
    for collection in model.keys() | found.keys():
        wanted, got = model.get(collection, {}), found.get(collection, {})
        if wanted != got:
            odd = sorted(id_ for id_ in wanted.keys() | got.keys() if wanted.get(id_) != got.get(id_))
            yield f"{collection!r} differs from the model in {len(odd)} records, {odd[0]!r} the first"


def _as_outsider(each: Fuzzed) -> Delta:
    name = layout.parse_delta_key(each.key)
    return Delta(name.collection, tuple(rows_of(each.body, name.suffix)), name.stem, name.suffix)


def _published(fakes: Fakes, scratch: Path) -> dict[str, dict[str, Record]]:
    objects = fakes.objects.objects
    pointer = Pointer.model_validate_json(objects[layout.pointer_key()].body)
    manifest = Manifest.model_validate_json(objects[layout.manifest_key(pointer.snapshot_id)].body)
    content: dict[str, dict[str, Record]] = {}
    for number, (name, collection) in enumerate(manifest.collections.items()):
        directory = scratch / f"published-{number}"
        for path, file in collection.files.items():
            (directory / path).parent.mkdir(parents=True, exist_ok=True)
            (directory / path).write_bytes(objects[file.key].body)
        content[name] = content_of(directory, name) if collection.dimension else {}
    return content


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with tempfile.TemporaryDirectory(prefix="fuzz-") as directory:
        verdict = endure(pickle.load(sys.stdin.buffer), Path(directory))
    sys.stdout.buffer.write(pickle.dumps(tuple(verdict)))
