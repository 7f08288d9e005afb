"""The rule that decides, from counts alone, whether an index is rebuilt."""

from __future__ import annotations

import pytest

from chromadb_compaction.chroma.index_cost import IndexChange


@pytest.mark.parametrize(
    ("change", "rebuilds"),
    [
        pytest.param(IndexChange(entries=0, live=0, deleted=0, replaced=0, added=1000), False, id="a new collection"),
        pytest.param(IndexChange(1000, 1000, deleted=0, replaced=0, added=1000), False, id="only inserts"),
        pytest.param(IndexChange(1000, 1000, deleted=0, replaced=0, added=0), False, id="only documents"),
        pytest.param(IndexChange(1000, 1000, deleted=0, replaced=10, added=10), False, id="a few replacements"),
        pytest.param(IndexChange(1000, 1000, deleted=0, replaced=500, added=500), True, id="half replaced"),
        pytest.param(IndexChange(1000, 1000, deleted=10, replaced=0, added=0), False, id="a few deletes"),
        pytest.param(IndexChange(1000, 1000, deleted=200, replaced=0, added=0), True, id="many deletes"),
        pytest.param(IndexChange(1090, 1000, deleted=20, replaced=0, added=0), True, id="deletes add up"),
        pytest.param(IndexChange(1000, 1000, deleted=1000, replaced=0, added=0), True, id="everything deleted"),
        pytest.param(
            IndexChange(1, 1, deleted=0, replaced=1, added=0), True, id="hnswlib ignores an only entry's update"
        ),
        pytest.param(IndexChange(1000, 1000, 0, replaced=100, added=0, replaced_before=162), False, id="not worn yet"),
        pytest.param(IndexChange(1000, 1000, 0, replaced=100, added=0, replaced_before=163), True, id="worn out"),
        pytest.param(IndexChange(1000, 1000, 0, replaced=0, added=9, replaced_before=5000), False, id="only inserts"),
        pytest.param(IndexChange(1200, 1000, deleted=0, replaced=0, added=0), False, id="dead, but nothing to do"),
    ],
)
def test_an_index_is_rebuilt_when_that_is_cheaper_or_when_too_many_entries_are_dead(
    change: IndexChange, *, rebuilds: bool
) -> None:
    assert change.rebuilds is rebuilds


def test_the_choice_and_its_reasons_read_as_one_line() -> None:
    assert str(IndexChange(entries=105, live=100, deleted=1, replaced=2, added=3)) == (
        "index changed in place: 100 live of 105 entries, 1 deleted, 2 replaced, 3 added, 0 replaced before;"
        " in place costs 11 insertions and leaves 6 dead, a rebuild costs 107"
    )


@pytest.mark.parametrize(
    ("change", "isolates"),
    [
        pytest.param(IndexChange(1, 1, deleted=0, replaced=1, added=0), True, id="the only entry"),
        pytest.param(IndexChange(2, 2, deleted=1, replaced=1, added=0), True, id="the only one that is not deleted"),
        pytest.param(IndexChange(9, 1, deleted=0, replaced=1, added=9), True, id="the only live one among dead"),
        pytest.param(IndexChange(2, 2, deleted=0, replaced=1, added=0), False, id="another live one stays"),
        pytest.param(IndexChange(3, 3, deleted=1, replaced=2, added=0), False, id="two are replaced"),
        pytest.param(IndexChange(2, 2, deleted=1, replaced=0, added=0), False, id="none is replaced"),
    ],
)
def test_replacing_the_only_live_vector_rebuilds_the_index_because_hnswlib_would_forget_it(
    change: IndexChange, *, isolates: bool
) -> None:
    assert change.isolates is isolates
    assert change.rebuilds or not isolates
