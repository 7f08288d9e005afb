from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer

from chromadb_compaction.cli.commands.snapshots import pull
from chromadb_compaction.cli.common import clients
from chromadb_compaction.errors import InvalidRequestError
from tests.builders import NOW, a_delta
from tests.fakes.services import Fakes
from tests.passes import compact


@pytest.fixture(autouse=True)
def _services(fakes: Fakes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clients, "services", lambda: fakes.services)
    compact(fakes, a_delta({"a": [1, 0]}, at=NOW))
    compact(fakes, a_delta({"x": [1, 0]}, collection="others", at=NOW + 1))


def test_a_refresh_says_how_much_was_fetched_and_what_was_removed(
    fakes: Fakes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pull(tmp_path / "copy")
    compact(fakes, a_delta({"b": [0, 1]}, at=NOW + 2))
    capsys.readouterr()

    pull(tmp_path / "copy")

    first, *lines = [line for line in capsys.readouterr().out.splitlines() if not line.startswith("{")]
    assert first.endswith("of them fetched now:")
    assert [line.split(",")[0] for line in lines] == ["  docs: 2 records", "  others: 1 record"]


def test_a_follower_prints_a_document_a_line_and_exits_with_130(
    fakes: Fakes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def sleep(_seconds: float) -> None:
        if published:
            raise KeyboardInterrupt
        published.append(compact(fakes, a_delta({"b": [0, 1]}, at=NOW + 2)).snapshot_id)

    published: list[str | None] = []
    monkeypatch.setattr("chromadb_compaction.operations.pulling.follow.time.sleep", sleep)
    capsys.readouterr()

    with pytest.raises(typer.Exit) as end:
        pull(tmp_path / "copy", following=True, as_json=True)

    printed = capsys.readouterr()
    pulled = [json.loads(line) for line in printed.out.splitlines() if '"fetched"' in line]
    assert end.value.exit_code == 130
    assert [each["snapshot_id"] == published[0] for each in pulled] == [False, True]
    assert "snapshots pull" in printed.err


def test_a_named_snapshot_cannot_be_followed(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequestError, match="--follow copies the published snapshot"):
        pull(tmp_path / "copy", snapshot="1", following=True)
