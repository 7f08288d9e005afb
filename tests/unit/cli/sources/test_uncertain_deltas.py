"""A put that was stopped while a delta was on its way to the bucket: no name ever gets two contents."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from chromadb_compaction import layout
from chromadb_compaction.cli.sources import resumable_writer
from chromadb_compaction.errors import ConfigurationError, InvalidRequestError
from tests.fakes.services import Fakes
from tests.puts import ALL, DELTAS, RECORDS, KilledError, deltas_of, holding, journals, put, rows_of, stop

FIXED = [{**record, "document": "fixed"} for record in RECORDS]


def stop_before(fakes: Fakes, source: Path, *, number: int) -> None:
    """Kill a put when it has announced delta `number`, and not written it."""

    def kill(call: str, _key: str) -> None:
        if call == "put" and len(fakes.objects.keys()) == number:
            raise KilledError

    fakes.objects.before = kill
    with pytest.raises(KilledError):
        put(fakes, source)
    fakes.objects.before = lambda _call, _key: None


def deny_reads(fakes: Fakes, monkeypatch: pytest.MonkeyPatch) -> None:
    def deny(_key: str) -> None:
        raise ConfigurationError("access denied")

    monkeypatch.setattr(fakes.objects, "head", deny)
    monkeypatch.setattr(fakes.objects, "get", deny)


@pytest.mark.parametrize("moved", [lambda key: key, layout.compacted_key, layout.quarantine_key])
@pytest.mark.parametrize("stored", [1, 3])
def test_a_source_that_changed_after_a_write_that_was_not_recorded_is_an_error(
    fakes: Fakes, source: Path, stored: int, moved: Callable[[str], str]
) -> None:
    stop(fakes, source, stored=stored)
    newest = max(fakes.objects.objects)
    fakes.objects.objects[moved(newest)] = fakes.objects.objects.pop(newest)
    before = dict(fakes.objects.objects)
    holding(source, FIXED)

    with pytest.raises(InvalidRequestError, match=r"has changed since this put was stopped.*--restart"):
        put(fakes, source)

    assert fakes.objects.objects == before


def test_a_source_that_changed_before_a_write_that_never_arrived_is_an_error(fakes: Fakes, source: Path) -> None:
    stop_before(fakes, source, number=3)
    before = dict(fakes.objects.objects)
    holding(source, [*RECORDS[:9], *FIXED[9:]])

    with pytest.raises(InvalidRequestError, match=r"records have changed since this put was stopped.*--restart"):
        put(fakes, source)

    assert fakes.objects.objects == before


def test_the_same_source_continues_after_a_write_that_never_arrived(fakes: Fakes, source: Path) -> None:
    stop_before(fakes, source, number=3)

    resumed = put(fakes, source)

    assert rows_of(fakes) == ALL
    assert (resumed.deltas_before, len(fakes.objects.objects)) == (3, DELTAS)


def test_a_changed_source_begins_again_if_its_first_write_never_arrived(fakes: Fakes, source: Path) -> None:
    stop_before(fakes, source, number=0)
    holding(source, FIXED[:30])

    put(fakes, source)

    assert rows_of(fakes) == ALL[:30]


def test_a_delta_that_another_program_wrote_under_the_name_is_an_error(fakes: Fakes, source: Path) -> None:
    stop_before(fakes, source, number=2)
    (journal,) = journals(source)
    fakes.objects.put(json.loads(journal.read_bytes().splitlines()[-1])["key"], b"other content")

    with pytest.raises(InvalidRequestError, match="it is unknown which records delta/docs/"):
        put(fakes, source)


@pytest.mark.parametrize("stored", [1, 3])
def test_without_the_right_to_read_a_changed_source_is_an_error(
    fakes: Fakes, source: Path, monkeypatch: pytest.MonkeyPatch, stored: int
) -> None:
    stop(fakes, source, stored=stored)
    before = dict(fakes.objects.objects)
    holding(source, [*RECORDS[: 3 * (stored - 1)], *FIXED[3 * (stored - 1) :]])
    deny_reads(fakes, monkeypatch)

    with pytest.raises(InvalidRequestError, match=r"records have changed since this put was stopped"):
        put(fakes, source)

    assert fakes.objects.objects == before


def test_records_that_are_encoded_differently_are_only_written_if_the_first_write_never_arrived(
    fakes: Fakes, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An embedding function may return other embeddings each time."""
    stop_before(fakes, source, number=3)
    monkeypatch.setattr(resumable_writer, "sha256", lambda body: hashlib.sha256(b"other" + body))
    with monkeypatch.context() as write_only:
        deny_reads(fakes, write_only)
        with pytest.raises(InvalidRequestError, match=r"records have changed"):
            put(fakes, source)

    put(fakes, source)

    assert rows_of(fakes) == ALL


def as_format_1(source: Path) -> None:
    """Rewrite the journal as versions without intents wrote it."""
    (journal,) = journals(source)
    header, *lines = (json.loads(line) for line in journal.read_bytes().splitlines())
    kept = [{**header, "format": 1}, *(line for line in lines if "sha256" not in line)]
    journal.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")


def test_a_journal_without_intents_is_continued(fakes: Fakes, source: Path) -> None:
    stop_before(fakes, source, number=3)
    as_format_1(source)

    resumed = put(fakes, source)

    assert rows_of(fakes) == ALL
    assert (resumed.deltas_before, len(fakes.objects.objects)) == (3, DELTAS)


@pytest.mark.parametrize("stored", [1, 3])
def test_a_journal_without_intents_is_not_continued_if_its_next_delta_is_in_the_bucket(
    fakes: Fakes, source: Path, stored: int
) -> None:
    stop(fakes, source, stored=stored)
    as_format_1(source)
    before = dict(fakes.objects.objects)

    with pytest.raises(InvalidRequestError, match=r"by an older version or by another program.*--restart"):
        put(fakes, source)

    assert fakes.objects.objects == before


def test_a_damaged_journal_is_an_error_until_a_restart(fakes: Fakes, source: Path) -> None:
    stop(fakes, source, stored=3)
    (journal,) = journals(source)
    first, *others = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join([first, b"{}\n", *others]))

    with pytest.raises(InvalidRequestError, match=r"is damaged.*--restart"):
        put(fakes, source)
    put(fakes, source, restart=True)

    assert len(deltas_of(fakes)) == 3 + DELTAS
