"""The deltas that a reader knows: read once, and judged again when a twin appears."""

from __future__ import annotations

from chromadb_compaction.errors import CorruptDeltaError
from chromadb_compaction.pending.known import KnownDeltas
from tests.builders import NOW, a_delta, a_jsonl_delta, a_uuid7
from tests.fakes.services import Fakes, new_fakes


def verdicts(known: KnownDeltas, fakes: Fakes) -> dict[str, bool]:
    """Return whether each pending delta is refused, by the end of its key."""
    listed = list(fakes.objects.list("delta/docs/"))
    return {
        read.listed.key.partition(".")[2]: isinstance(read.error, CorruptDeltaError)
        for read in known.read(listed, fakes.services)
    }


def test_a_delta_that_gets_a_twin_is_refused_with_it() -> None:
    fakes, known = new_fakes(), KnownDeltas()
    name = a_uuid7(NOW)
    a_delta({"a": [1, 1]}, name=name).put_into(fakes.objects)
    assert verdicts(known, fakes) == {"parquet": False}

    a_jsonl_delta([{"id": "a", "embedding": [2, 2]}], name=name).put_into(fakes.objects)

    assert verdicts(known, fakes) == {"parquet": True, "jsonl.gz": True}
