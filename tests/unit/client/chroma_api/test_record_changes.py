"""The rules of add, upsert and update."""

from __future__ import annotations

import numpy as np
import pytest

from chromadb_compaction.client.chroma_api.record_changes import (
    Record,
    added,
    matrix,
    merged_metadata,
    updated,
    upserted,
)

OLD = Record("a", np.array([1, 2], np.float32), "old", {"kept": 1, "changed": 1, "gone": 1}, "s3://old")


def changed(records: list[Record]) -> dict[str, Record]:
    return {record.id: record for record in records}


def test_add_leaves_an_existing_record_alone() -> None:
    assert changed(added([Record("a", document="new"), Record("b", document="new")], {"a": OLD})) == {
        "b": Record("b", document="new")
    }


def test_the_first_of_two_added_records_wins() -> None:
    assert added([Record("b", document="one"), Record("b", document="two")], {}) == [Record("b", document="one")]


def test_update_skips_ids_that_do_not_exist() -> None:
    assert updated([Record("b", document="new")], {"a": OLD}) == []


def test_upsert_inserts_ids_that_do_not_exist() -> None:
    assert upserted([Record("b", document="new")], {"a": OLD}) == [Record("b", document="new")]


@pytest.mark.parametrize("rule", [upserted, updated])
def test_an_existing_record_keeps_what_is_not_given(rule: object) -> None:
    (record,) = rule([Record("a", metadata={"changed": 2, "gone": None, "added": 3})], {"a": OLD})  # type: ignore[operator] # a parameter of the test

    assert record.vector is OLD.vector
    assert record.document == "old"
    assert record.uri == "s3://old"
    assert record.metadata == {"kept": 1, "changed": 2, "added": 3}


def test_of_two_changes_of_one_record_both_are_made() -> None:
    (record,) = upserted([Record("a", document="new"), Record("a", metadata={"kept": 2})], {"a": OLD})

    assert (record.document, record.metadata) == ("new", {"kept": 2, "changed": 1, "gone": 1})


def test_metadata_without_keys_is_none() -> None:
    assert merged_metadata({"a": 1}, {"a": None}) is None
    assert upserted([Record("b", metadata={"a": None})], {}) == [Record("b")]


def test_the_matrix_has_a_row_for_each_record() -> None:
    assert matrix([OLD, Record("b", np.array([3, 4], np.float32))]).tolist() == [[1, 2], [3, 4]]
