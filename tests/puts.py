"""Run `put` with 40 records over in-memory fakes, and kill it at a chosen point."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from chromadb_compaction import layout
from chromadb_compaction.cli.sources import files
from chromadb_compaction.cli.sources.files import RecordFiles
from chromadb_compaction.cli.sources.records import RecordSource
from chromadb_compaction.cli.sources.transfer import PutOptions, Transfer
from chromadb_compaction.cli.sources.transfers import check_all, written_deltas_reported
from chromadb_compaction.client import writer
from chromadb_compaction.deltas.formats import read_delta
from tests.fakes.services import Fakes, new_fakes

RECORDS: list[dict[str, Any]] = [{"id": f"id-{n:02}", "embedding": [n, 1], "metadata": {"n": n}} for n in range(40)]
ALL = [record["id"] for record in RECORDS]
DELTAS = 14
"""The deltas that 40 records of 36 bytes fill, with the sizes below."""


class KilledError(BaseException):
    """A simulated SIGKILL: no code catches it."""


def fakes_with_small_deltas(monkeypatch: pytest.MonkeyPatch) -> Fakes:
    """Return fakes, and let `put` read chunks of 7 records and write deltas of 5."""
    monkeypatch.setattr(writer, "TARGET_BYTES", 200)
    monkeypatch.setattr(writer, "MOST_BYTES", 250)
    monkeypatch.setattr(files, "CHUNK", 7)
    return new_fakes()


def holding(path: Path, records: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def put(fakes: Fakes, source: Path, **options: Any) -> Transfer:
    return put_source(fakes, RecordFiles([source], "docs"), source.parent / "journals", **options)


def put_source(fakes: Fakes, source: RecordSource, journals: Path, **options: Any) -> Transfer:
    with closing(Transfer(source, fakes.services, PutOptions(journals, **options))) as running:
        check_all([running])
        with written_deltas_reported([running]):
            for _ in running.run():
                pass
        running.discard_journal()
    return running


def stop(fakes: Fakes, source: Path, *, stored: int) -> None:
    stop_source(fakes, RecordFiles([source], "docs"), source.parent / "journals", stored=stored)


def stop_source(fakes: Fakes, source: RecordSource, journals: Path, *, stored: int) -> None:
    """Start a put and kill it when it has stored `stored` deltas, before it records the last one."""

    def kill(call: str, _key: str) -> None:
        if call == "put" and len(fakes.objects.keys()) == stored:
            raise KilledError

    fakes.objects.after = kill
    with pytest.raises(KilledError):
        put_source(fakes, source, journals)
    fakes.objects.after = lambda _call, _key: None


def rows_of(fakes: Fakes) -> list[str]:
    """Return the row ids of all stored deltas, under any prefix, in the order of their versions."""
    return [row for _, rows in sorted(deltas_of(fakes).items()) for row in rows]


def deltas_of(fakes: Fakes) -> dict[str, list[str]]:
    def read(key: str) -> list[Any]:
        pending = layout.delta_key("docs", Path(key).stem)
        return read_delta(pending, fakes.objects.objects[key].body, now=4e9, max_bytes=10**6).table["id"].to_pylist()

    return {Path(key).stem: read(key) for key in fakes.objects.objects}


def journals(source: Path) -> Iterator[Path]:
    return (source.parent / "journals").glob("*")
