"""The keys, each built and parsed in one place. Each parser is the inverse of its builder."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chromadb_compaction import layout
from chromadb_compaction.errors import CorruptDeltaError

EXECUTION = "arn:aws:states:eu-west-1:000000000000:execution:chromadb-compaction-dev:2025-01-01_a"
DELTA = "delta/docs/01890a5d-ac96-774b-bcce-b302099a8057.parquet"

edges = st.sampled_from("abcXYZ019")
collections = (
    st.builds("{}{}{}".format, edges, st.text("abcXYZ019._-", min_size=1, max_size=40), edges)
    .filter(lambda name: ".." not in name)
    .filter(lambda name: not re.fullmatch(r"[0-9.]+", name))
)
uuids = st.uuids().map(str)
suffixes = st.sampled_from(layout.DELTA_SUFFIXES)
prefixes = st.sampled_from(["delta/", "inbox/", "d.e-l_ta/"])
sequences = st.integers(1, 9_999_999_999)
tokens = st.text("0123456789abcdef", min_size=8, max_size=8)
paths = st.sampled_from(["chroma.sqlite3", "ledger.parquet", "0189-index/data_level0.bin"])


@given(collections, uuids, suffixes, prefixes)
def test_a_delta_key_parses_back_to_its_parts(collection: str, stem: str, suffix: str, prefix: str) -> None:
    key = layout.delta_key(collection, stem, suffix, prefix=prefix)

    assert layout.parse_delta_key(key, prefix=prefix) == (collection, stem, suffix)


@given(collections, uuids, suffixes, prefixes)
def test_the_pending_key_of_an_archived_or_quarantined_delta_is_known(
    collection: str, stem: str, suffix: str, prefix: str
) -> None:
    key = layout.delta_key(collection, stem, suffix, prefix=prefix)

    assert layout.pending_key(layout.compacted_key(key, prefix=prefix), prefix=prefix) == key
    assert layout.pending_key(layout.quarantine_key(key, prefix=prefix), prefix=prefix) == key


@given(st.lists(st.tuples(collections, uuids, suffixes), unique=True, max_size=8))
def test_different_deltas_never_share_a_key_after_they_are_moved(deltas: list[tuple[str, str, str]]) -> None:
    keys = [layout.delta_key(*delta) for delta in deltas]

    moved = {move(key) for key in keys for move in (layout.compacted_key, layout.quarantine_key)}

    assert len(moved) == 2 * len(keys)


def test_a_pending_delta_has_not_been_moved() -> None:
    with pytest.raises(ValueError, match="neither a compacted nor a quarantined delta"):
        layout.pending_key(DELTA)


def test_the_reason_is_beside_the_quarantined_delta() -> None:
    quarantined = layout.quarantine_key(DELTA)

    assert layout.reason_key(quarantined) == f"{quarantined}.reason.json"
    assert layout.former_reason_key(quarantined) == quarantined.replace(".parquet", ".reason.json")
    assert layout.former_reason_key("quarantine/docs/a.jsonl.gz") == "quarantine/docs/a.reason.json"


@given(st.text(max_size=1100), st.text(max_size=1100))
def test_every_quarantined_delta_has_its_own_key_and_so_has_its_reason(one: str, two: str) -> None:
    places = {layout.quarantine_key(f"delta/{name}") for name in (one, two)}
    reasons = {layout.reason_key(place) for place in places}

    assert len(places) == len(reasons) == len({one, two})
    assert not places & reasons
    assert all(len(key.encode(errors="surrogatepass")) <= layout.LONGEST_KEY for key in places | reasons)


@pytest.mark.parametrize(
    "name", ["docs/a.reason.json", "d" * (1024 - 6), "docs/" + "é" * 500, "_renamed/" + "0" * 64, "_renamed/x.parquet"]
)
def test_a_quarantined_delta_is_renamed_if_its_name_would_collide_or_be_too_long(name: str) -> None:
    place = layout.quarantine_key(f"delta/{name}")

    assert re.fullmatch(r"quarantine/_renamed/[0-9a-f]{64}", place)
    assert layout.reason_key(place) == f"{place}.reason.json"


@pytest.mark.parametrize(
    "key",
    [
        "delta/a.parquet",
        "delta/docs/sub/a.parquet",
        "delta/docs/a.csv",
        "delta/docs/",
        "delta/",
        "delta",
        "",
        "other/docs/a.parquet",
        "delta//a.parquet",
    ],
)
def test_a_key_of_another_form_is_refused(key: str) -> None:
    with pytest.raises(CorruptDeltaError):
        layout.parse_delta_key(key)


@given(st.text())
def test_any_text_is_either_a_delta_key_or_refused(text: str) -> None:
    try:
        name = layout.parse_delta_key(text)
    except CorruptDeltaError:
        return
    assert layout.delta_key(*name) == text


@pytest.mark.parametrize(
    "name", ["ab", "-abc", "abc-", "a..b", "10.0.0.1", "a b c", "größe", "abc\n", "a" * 513, "", "١٢٣"]
)
def test_a_collection_name_that_chromadb_would_refuse_is_refused_with_its_rule(name: str) -> None:
    with pytest.raises(CorruptDeltaError, match="3 to 255 characters"):
        layout.check_collection_name(name)


@pytest.mark.parametrize("name", ["abc", "a-b", "A.b_c-9", "a" * 255, "manifest.json", "1.2.3.4.5", "123"])
def test_a_collection_name_that_chromadb_accepts_is_accepted(name: str) -> None:
    assert layout.check_collection_name(name) == name


@given(sequences, tokens)
def test_a_snapshot_id_carries_its_sequence(sequence: int, token: str) -> None:
    assert layout.snapshot_sequence(layout.new_snapshot_id(sequence, token)) == sequence


@given(sequences, sequences, tokens, tokens)
def test_snapshot_ids_sort_by_their_sequence(one: int, other: int, token: str, another: str) -> None:
    if one < other:
        assert layout.new_snapshot_id(one, token) < layout.new_snapshot_id(other, another)


@pytest.mark.parametrize(
    "text", ["", "CURRENT", "42-3f2a9c1b", "0000000042-3F2A9C1B", "0000000042-3f2a9c1b/", "\u0660" * 10 + "-3f2a9c1b"]
)
def test_text_that_is_not_a_snapshot_id_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a snapshot id"):
        layout.snapshot_sequence(text)


@given(sequences, tokens, collections, paths, st.sampled_from(["snapshot/", "published/"]))
def test_every_object_of_a_snapshot_names_its_snapshot(
    sequence: int, token: str, collection: str, path: str, prefix: str
) -> None:
    snapshot_id = layout.new_snapshot_id(sequence, token)
    keys = [
        layout.manifest_key(snapshot_id, prefix=prefix),
        layout.merged_deltas_key(snapshot_id, prefix=prefix),
        layout.result_key(snapshot_id, prefix=prefix),
        layout.cleaned_key(snapshot_id, prefix=prefix),
        layout.snapshot_file_key(snapshot_id, collection, path, prefix=prefix),
        layout.mark_key(layout.pruning_prefix(snapshot_id, prefix=prefix), token),
        layout.mark_key(layout.claim_prefix(snapshot_id, prefix=prefix), token),
    ]

    assert {layout.snapshot_of_key(key, prefix=prefix) for key in keys} == {snapshot_id}
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize("key", ["snapshot/CURRENT", "snapshot/notes.txt", "snapshot/", "delta/0000000042-3f2a9c1b/x"])
def test_the_pointer_and_foreign_objects_belong_to_no_snapshot(key: str) -> None:
    assert layout.snapshot_of_key(key) is None


@given(st.integers(1, 50), st.integers(0, 399))
def test_all_keys_of_a_batch_are_in_the_folder_of_its_execution(pass_number: int, number: int) -> None:
    batch = layout.batch_key(EXECUTION, pass_number, number)
    keys = {batch, layout.run_key(batch), layout.report_key(batch)}

    assert len(keys) == 3
    assert all(key.startswith(f"work/2025-01-01_a/{pass_number}/") for key in keys)


@given(st.lists(st.tuples(st.integers(1, 50), st.integers(0, 399)), unique=True, max_size=10))
def test_no_two_batches_share_a_key(batches: list[tuple[int, int]]) -> None:
    made = [layout.batch_key(EXECUTION, *batch) for batch in batches]

    assert len({key for batch in made for key in (batch, layout.run_key(batch), layout.report_key(batch))}) == 3 * len(
        made
    )


def test_the_stored_keys_are_the_documented_ones() -> None:
    batch = layout.batch_key(EXECUTION, 2, 7)

    assert batch == "work/2025-01-01_a/2/batches/0007.json"
    assert layout.run_key(batch) == "work/2025-01-01_a/2/runs/0007.parquet"
    assert layout.report_key(batch) == "work/2025-01-01_a/2/reports/0007.json"
    assert layout.shapes_key(EXECUTION, 2) == "work/2025-01-01_a/2/collections.json"
    assert layout.outcome_key(EXECUTION, 2) == "work/2025-01-01_a/2/deltas.json.gz"
    assert layout.pointer_key() == "snapshot/CURRENT"
    assert layout.manifest_key("0000000042-3f2a9c1b") == "snapshot/0000000042-3f2a9c1b/manifest.json"
    assert layout.compacted_key(DELTA) == DELTA.replace("delta/", "compacted/", 1)


def test_a_folder_marker_of_a_console_or_a_reason_is_not_a_delta() -> None:
    assert layout.is_folder_marker("delta/docs/")
    assert not layout.is_folder_marker(DELTA)
    assert [layout.is_delta(key) for key in (DELTA, "delta/docs/", layout.reason_key(DELTA))] == [True, False, False]
