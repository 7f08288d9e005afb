"""A process that merges fuzzed and good deltas in one whole pass, and reports the outcome of each.

It reads a FuzzCase from standard input and writes a WorkerResult to standard output. It may crash, hence the process.
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
from chromadb_compaction.manifest import Pointer
from tests.builders import NOW, BuiltDelta, a_uuid7
from tests.e2e.model import Delta, Record, Row, content_of, expected
from tests.fakes.published import body_of, parse_manifest
from tests.fakes.services import Fakes, new_fakes
from tests.fuzz import defects
from tests.fuzz.fuzz_case import LARGEST_DELTA, FuzzCase, InputOutcome, WorkerResult
from tests.fuzz.inputs import Fuzzed
from tests.fuzz.reference_reader import rows_of
from tests.passes import compact

GOOD_NUMBERS = 10**9
ADDRESS_SPACE = 6 * 1024 * 1024 * 1024
"""The limit of the process's address space. Larger allocations fail, as they would in a Lambda."""


def _good(number: int, collection: str) -> Delta:
    rows = (Row(f"good-{number}-{row}", (float(number), float(row), 1.0), f"text {row}") for row in range(5))
    return Delta(collection, tuple(rows), str(a_uuid7(NOW, GOOD_NUMBERS + number)))


GOOD = [_good(number, collection) for number, collection in enumerate(("docs", "others") * 6)]


def run(case: FuzzCase, scratch: Path) -> WorkerResult:
    """Merge one good delta, then all the others in a single pass, and compare the result with the model."""
    fakes = new_fakes(max_delta_bytes=LARGEST_DELTA, chromadb_cache_dir=str(scratch / "cache"))
    compact(fakes, _built(GOOD[0]))
    before = _reset_peak_memory()
    fuzzed = [BuiltDelta(each.key, each.body) for each in case.inputs]
    with defects.seeded(case.defect):
        compact(fakes, *map(_built, GOOD[1:]), *fuzzed)
    grown = _peak_memory() - before
    outcomes = [_outcome(each, fakes) for each in case.inputs]
    merged = [each for each, outcome in zip(case.inputs, outcomes, strict=True) if outcome.status == "merged"]
    return WorkerResult(outcomes, grown, [*_wrong_outcomes(fakes, outcomes), *_differences(fakes, merged, scratch)])


def _built(delta: Delta) -> BuiltDelta:
    return BuiltDelta(delta.key, delta.body())


def _reset_peak_memory() -> int:
    """Reset the peak memory, and return it in bytes."""
    Path("/proc/self/clear_refs").write_text("5")
    return _peak_memory()


def _peak_memory() -> int:
    # getrusage would include the parent's memory from before the exec.
    kilobytes = Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]
    return int(kilobytes) * 1024


def _outcome(each: Fuzzed, fakes: Fakes) -> InputOutcome:
    objects = fakes.objects.objects
    quarantined = layout.quarantine_key(each.key)
    keys = {"merged": layout.compacted_key(each.key), "quarantined": quarantined, "ignored": each.key}
    found = [status for status, key in keys.items() if key in objects and objects[key].body == each.body]
    stored = objects.get(layout.reason_key(quarantined))
    reason = QuarantineReason.model_validate_json(stored.body) if stored and found == ["quarantined"] else None
    text = reason.reason if reason and reason.delta == each.key else None
    return InputOutcome(each.number, each.kind, "+".join(found), text)


def _wrong_outcomes(fakes: Fakes, outcomes: list[InputOutcome]) -> Iterator[str]:
    for outcome in outcomes:
        if outcome.status not in ("merged", "quarantined", "ignored"):
            yield f"{outcome.number} is in {outcome.status or 'no known location'}"
        if outcome.status == "quarantined" and not outcome.reason:
            yield f"{outcome.number} is in quarantine without its reason"
    for key in fakes.objects.keys("delta/"):
        if not layout.is_folder_marker(key):
            yield f"{key!r} is still pending"


def _differences(fakes: Fakes, merged: list[Fuzzed], scratch: Path) -> Iterator[str]:
    """Compare the published records with those that the reference reader finds in the merged deltas."""
    model = expected([*GOOD, *(_read_independently(each) for each in merged)])
    found = _published(fakes, scratch)
    for collection in model.keys() | found.keys():
        wanted, got = model.get(collection, {}), found.get(collection, {})
        if wanted != got:
            different = sorted(id_ for id_ in wanted.keys() | got.keys() if wanted.get(id_) != got.get(id_))
            yield f"{collection!r} differs from the model in {len(different)} records, first {different[0]!r}"


def _read_independently(each: Fuzzed) -> Delta:
    name = layout.parse_delta_key(each.key)
    return Delta(name.collection, tuple(rows_of(each.body, name.suffix)), name.stem, name.suffix)


def _published(fakes: Fakes, scratch: Path) -> dict[str, dict[str, Record]]:
    objects = fakes.objects.objects
    pointer = Pointer.model_validate_json(objects[layout.pointer_key()].body)
    manifest = parse_manifest(objects[layout.manifest_key(pointer.snapshot_id)].body, objects)
    content: dict[str, dict[str, Record]] = {}
    for number, (name, collection) in enumerate(manifest.collections.items()):
        directory = scratch / f"published-{number}"
        for path, file in collection.files.items():
            (directory / path).parent.mkdir(parents=True, exist_ok=True)
            (directory / path).write_bytes(body_of(file, objects))
        content[name] = content_of(directory, name) if collection.dimension else {}
    return content


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with tempfile.TemporaryDirectory(prefix="fuzz-") as directory:
        found = run(pickle.load(sys.stdin.buffer), Path(directory))
    sys.stdout.buffer.write(pickle.dumps(tuple(found)))
