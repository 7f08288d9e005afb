"""The rule that decides, from counts alone, whether an index is rebuilt."""

from __future__ import annotations

import pytest

from chromadb_compaction.chroma.rebuild import IndexChange


@pytest.mark.parametrize(
    ("change", "rebuilds"),
    [
        pytest.param(IndexChange(entries=0, live=0, deleted=0, replaced=0, added=1000), False, id="a new collection"),
        pytest.param(IndexChange(1000, 1000, deleted=0, replaced=0, added=1000), False, id="only inserts"),
        pytest.param(IndexChange(1000, 1000, deleted=0, replaced=0, added=0), False, id="only documents"),
        pytest.param(IndexChange(1000, 1000, deleted=0, replaced=150, added=0), False, id="few replacements"),
        pytest.param(IndexChange(1000, 1000, deleted=0, replaced=151, added=0), True, id="many replacements"),
        pytest.param(IndexChange(1000, 1000, deleted=0, replaced=400, added=4000), False, id="far more inserts"),
        pytest.param(IndexChange(1000, 1000, deleted=0, replaced=501, added=4000), True, id="most are replaced"),
        pytest.param(IndexChange(1000, 1000, deleted=10, replaced=0, added=0), False, id="a few deletes"),
        pytest.param(IndexChange(1000, 1000, deleted=200, replaced=0, added=0), True, id="many deletes"),
        pytest.param(IndexChange(1000, 1000, deleted=100, replaced=100, added=0), True, id="both together"),
        pytest.param(IndexChange(1140, 1000, deleted=20, replaced=0, added=0), True, id="deletes add up"),
        pytest.param(IndexChange(1140, 1000, deleted=0, replaced=20, added=0), True, id="replacements add up"),
        pytest.param(IndexChange(1000, 1000, deleted=1000, replaced=0, added=0), True, id="everything deleted"),
        pytest.param(IndexChange(1, 1, deleted=0, replaced=1, added=9), True, id="the only entry is replaced"),
        pytest.param(IndexChange(1000, 1000, 0, replaced=0, added=9, replaced_in_place=1), True, id="an older release"),
        pytest.param(IndexChange(1000, 1000, 0, 0, 0, replaced_in_place=1), False, id="older, but nothing to do"),
        pytest.param(IndexChange(1200, 1000, deleted=0, replaced=0, added=0), False, id="dead, but nothing to do"),
    ],
)
def test_an_index_is_rebuilt_when_too_many_entries_would_be_dead(change: IndexChange, *, rebuilds: bool) -> None:
    assert change.rebuilds is rebuilds


def test_the_choice_and_its_reasons_read_as_one_line() -> None:
    assert str(IndexChange(entries=105, live=100, deleted=1, replaced=2, added=3)) == (
        "index changed in place: 100 live of 105 entries, 1 deleted, 2 replaced, 3 added; in place leaves 8 dead"
    )


@pytest.mark.parametrize(
    ("change", "strands"),
    [
        pytest.param(IndexChange(1, 1, deleted=0, replaced=1, added=9), True, id="the only entry"),
        pytest.param(IndexChange(2, 2, deleted=1, replaced=1, added=9), True, id="all entries"),
        pytest.param(IndexChange(9, 2, deleted=0, replaced=1, added=9), True, id="among dead entries"),
        pytest.param(IndexChange(2, 2, deleted=0, replaced=1, added=0), False, id="as many stay"),
        pytest.param(IndexChange(0, 0, deleted=0, replaced=0, added=9), False, id="a new collection"),
    ],
)
def test_an_index_whose_entries_would_mostly_be_dead_is_rebuilt(change: IndexChange, *, strands: bool) -> None:
    assert change.strands is strands
    assert change.rebuilds or not strands
