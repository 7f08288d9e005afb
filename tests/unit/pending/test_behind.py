"""Fresh reads from the open snapshot while the next one is downloaded: they lack nothing that is merged."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from threading import Event

import pytest

from chromadb_compaction.chroma.query import Filters
from chromadb_compaction.errors import TransientStorageError
from chromadb_compaction.layout import merged_deltas_key
from chromadb_compaction.pending.reader import FreshReader
from chromadb_compaction.snapshots import reader as snapshot_reader
from tests.builders import NOW, a_delta, a_drop, a_uuid7
from tests.fakes.services import Fakes, new_fakes
from tests.passes import Pass, compact

SECONDS = 20


pytestmark = pytest.mark.usefixtures("unpacked")


@pytest.fixture
def fakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fakes:
    """A bucket of which any download is done in the background."""
    monkeypatch.setattr(snapshot_reader, "BACKGROUND_BYTES", 1)
    return new_fakes(chromadb_cache_dir=tmp_path / "cache", pending_deltas=3)


@pytest.fixture
def reader() -> Iterator[FreshReader]:
    reader = FreshReader()
    yield reader
    reader.close()


def read(fakes: Fakes, reader: FreshReader) -> tuple[str | None, list[str]]:
    """Return the snapshot of a fresh read, and the ids."""
    with reader.reading(fakes.services, "docs", refresh=True) as collection:
        found = collection.get(Filters(), limit=None, offset=None, include=[])["ids"]
        assert collection.count() == len(found)
        return collection.snapshot_id, sorted(found)


class Downloads:
    """Downloads that wait until `over` is set. `begun` is set when one waits."""

    def __init__(self, fakes: Fakes) -> None:
        self.begun, self.over = Event(), Event()
        self.error: Exception | None = None
        fakes.objects.before = self._hold

    def _hold(self, call: str, key: str) -> None:
        if call == "download" and key.endswith("chroma.sqlite3"):
            self.begun.set()
            assert self.over.wait(SECONDS)
            if self.error is not None:
                raise self.error


def read_until(fakes: Fakes, reader: FreshReader, snapshot_id: str | None) -> list[str]:
    """Read until the snapshot is open, and return the ids."""
    deadline = time.monotonic() + SECONDS
    while (found := read(fakes, reader))[0] != snapshot_id:
        assert time.monotonic() < deadline
    return found[1]


def test_while_the_next_snapshot_is_downloaded_the_open_one_answers_with_all_that_was_merged(
    fakes: Fakes, reader: FreshReader
) -> None:
    old = compact(fakes, a_delta({"a": [1, 0], "b": [1, 0], "c": [1, 0]}, at=NOW)).snapshot_id
    assert read(fakes, reader) == (old, ["a", "b", "c"])
    a_delta({"b": [2, 0], "d": [4, 0]}, deletes={"c"}, at=NOW + 1).put_into(fakes.objects)
    assert read(fakes, reader) == (old, ["a", "b", "d"])
    new = compact(fakes).snapshot_id
    downloads = Downloads(fakes)

    assert read(fakes, reader) == (old, ["a", "b", "d"])
    assert downloads.begun.wait(SECONDS)
    a_delta({"e": [5, 0]}, deletes={"d"}, at=NOW + 2).put_into(fakes.objects)
    assert read(fakes, reader) == (old, ["a", "b", "e"])

    downloads.over.set()
    assert read_until(fakes, reader, new) == ["a", "b", "e"]


def test_a_read_waits_if_a_delta_was_merged_that_it_has_never_read(fakes: Fakes, reader: FreshReader) -> None:
    compact(fakes, a_delta({"a": [1, 0]}, at=NOW))
    read(fakes, reader)
    new = compact(fakes, a_delta({"b": [1, 0]}, at=NOW + 1)).snapshot_id

    assert read(fakes, reader) == (new, ["a", "b"])


def test_several_passes_and_a_drop_may_be_merged_meanwhile(fakes: Fakes, reader: FreshReader) -> None:
    old = compact(fakes, a_delta({"a": [1, 0]}, at=NOW), a_delta({"b": [1, 0]}, at=NOW + 5)).snapshot_id
    read(fakes, reader)
    downloads = Downloads(fakes)
    for delta in (a_drop(at=NOW + 2), a_delta({"c": [1, 0]}, at=NOW + 3)):
        delta.put_into(fakes.objects)
        before = read(fakes, reader)
        newest = Pass(fakes, f"{delta.key}").up_to_upload()
        published = newest.upload()
        assert read(fakes, reader) == before  # before its clean-up
        newest.clean_up(published)
        assert read(fakes, reader) == before

    assert before == (old, ["b", "c"])
    downloads.over.set()
    assert read_until(fakes, reader, published.snapshot_id) == ["b", "c"]


def test_a_read_waits_if_more_was_merged_than_the_bounds_of_a_fresh_read(fakes: Fakes, reader: FreshReader) -> None:
    compact(fakes, a_delta({"a": [1, 0]}, at=NOW))
    read(fakes, reader)
    for number in range(3):
        a_delta({f"b{number}": [1, 0]}, at=NOW + number).put_into(fakes.objects)
        read(fakes, reader)
    new = compact(fakes).snapshot_id
    a_delta({"c": [1, 0]}, at=NOW + 9).put_into(fakes.objects)

    assert read(fakes, reader) == (new, ["a", "b0", "b1", "b2", "c"])


def test_a_read_waits_if_other_content_was_written_under_the_name_of_a_merged_delta(
    fakes: Fakes, reader: FreshReader
) -> None:
    compact(fakes, a_delta({"a": [1, 0]}, at=NOW))
    read(fakes, reader)
    name = a_uuid7(NOW + 1)
    a_delta({"b": [1, 0]}, name=name).put_into(fakes.objects)
    read(fakes, reader)
    new = compact(fakes).snapshot_id
    a_delta({"x": [1, 0]}, name=name).put_into(fakes.objects)

    assert read(fakes, reader) == (new, ["a", "b"])


def test_a_read_waits_if_the_list_of_what_was_merged_is_gone(fakes: Fakes, reader: FreshReader) -> None:
    compact(fakes, a_delta({"a": [1, 0]}, at=NOW))
    read(fakes, reader)
    a_delta({"b": [1, 0]}, at=NOW + 1).put_into(fakes.objects)
    read(fakes, reader)
    new = compact(fakes).snapshot_id
    assert new is not None
    fakes.objects.objects.pop(merged_deltas_key(new))

    assert read(fakes, reader) == (new, ["a", "b"])


def test_after_a_failed_download_in_the_background_the_next_read_waits_and_reports_it(
    fakes: Fakes, reader: FreshReader
) -> None:
    old = compact(fakes, a_delta({"a": [1, 0]}, at=NOW)).snapshot_id
    read(fakes, reader)
    a_delta({"b": [1, 0]}, at=NOW + 1).put_into(fakes.objects)
    read(fakes, reader)
    compact(fakes)
    downloads = Downloads(fakes)
    downloads.error = TransientStorageError("S3 is busy")
    assert read(fakes, reader) == (old, ["a", "b"])
    downloads.over.set()

    with pytest.raises(TransientStorageError):
        read_until(fakes, reader, "never")
