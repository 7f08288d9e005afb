from __future__ import annotations

import io

import pytest
from rich.console import Console

from chromadb_compaction.cli.commands.why import _render
from chromadb_compaction.cli.common.formatting import until, when
from chromadb_compaction.operations.provenance import Provenance

NOW = 1_760_000_000.0


def text_of(written_at: float) -> str:
    found = Provenance(
        collection="docs",
        id="a",
        snapshot_id="s",
        deleted=False,
        delta="d",
        row=0,
        written_at=written_at,
        place="expired",
        key=None,
        first_snapshot="s",
        first_published_at=NOW,
        no_later_than=None,
        pending_deltas=0,
    )
    console = Console(file=io.StringIO(), width=200)
    for part in _render(found, NOW):
        console.print(part)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_version_from_the_future_lies_ahead_and_wins_until_then() -> None:
    text = text_of(NOW + 3400)

    assert "(56 min 40 s ahead of this machine's clock): its producer's clock was ahead, and it wins" in text


@pytest.mark.parametrize(("age", "words"), [(0, "just now"), (-0.5, "just now"), (65, "1 min 5 s ago")])
def test_a_version_of_the_past_has_its_age(age: float, words: str) -> None:
    text = text_of(NOW - age)

    assert f"({words})" in text
    assert "ahead" not in text


def test_only_what_ends_has_time_left() -> None:
    assert until(NOW + 5, NOW).endswith("(5.00 s left)")
    assert when(NOW + 5, NOW).endswith("(5.00 s ahead of this machine's clock)")
