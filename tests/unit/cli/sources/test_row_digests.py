"""The digests with which a stopped put recognises its records."""

from __future__ import annotations

from chromadb_compaction.cli.sources.records import Records
from chromadb_compaction.cli.sources.row_digests import RowDigests

STORED = "3411c54ecca86048778749ce91857013"


def digest(uri: str | None) -> str:
    records = Records(["a"], [False], [[1, 2]], ["text"], [{"n": 1}], [uri])
    return RowDigests().after(records)[-1]


def test_a_digest_is_stored_and_covers_a_uri_only_if_there_is_one() -> None:
    assert digest(None) == STORED
    assert len({digest(uri) for uri in (None, "", "s3://a")}) == 3
