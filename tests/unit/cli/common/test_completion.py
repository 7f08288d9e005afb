from __future__ import annotations

import io
import time
from typing import Any

import pytest

from chromadb_compaction.aws import names
from chromadb_compaction.cli.common import completion
from chromadb_compaction.cli.common.completion import complete_collection, complete_snapshot
from chromadb_compaction.settings import Settings
from tests.fakes.published import a_snapshot_id, publish
from tests.fakes.services import Fakes


@pytest.fixture
def _settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHROMADB_BUCKET", "bucket")


class Listed:
    """An S3 client over the fake bucket that groups keys by folder."""

    def __init__(self, fakes: Fakes) -> None:
        self._objects = fakes.objects.objects

    def get_object(self, **asked: Any) -> dict[str, object]:
        return {"Body": io.BytesIO(self._objects[asked["Key"]].body)}

    def list_objects_v2(self, **asked: Any) -> dict[str, object]:
        prefix, end = asked["Prefix"], asked["Delimiter"]
        folders = {
            prefix + key.removeprefix(prefix).partition(end)[0] + end for key in self._objects if key.count(end) > 1
        }
        return {"CommonPrefixes": [{"Prefix": each} for each in sorted(folders) if each.startswith(prefix)]}


def test_the_names_are_those_of_the_bucket(fakes: Fakes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names, "_client", lambda: Listed(fakes))
    publish(fakes, 1, [])
    publish(fakes, 2, [])

    assert names.collection_names(fakes.settings) == ["docs"]
    assert names.snapshot_ids(fakes.settings) == [a_snapshot_id(2), a_snapshot_id(1)]


@pytest.mark.usefixtures("_settings")
def test_names_that_begin_with_what_was_typed_are_offered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names, "collection_names", lambda _settings: ["docs", "dogs", "cats"])
    monkeypatch.setattr(names, "snapshot_ids", lambda _settings: [a_snapshot_id(1), a_snapshot_id(2)])

    assert complete_collection("do") == ["docs", "dogs"]
    assert complete_snapshot("") == [a_snapshot_id(1), a_snapshot_id(2), "latest"]


@pytest.mark.usefixtures("_settings")
def test_an_error_is_silent(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def fail(_settings: Settings) -> list[str]:
        raise OSError("no network")

    monkeypatch.setattr(names, "collection_names", fail)

    assert complete_collection("") == []
    monkeypatch.delenv("CHROMADB_BUCKET")
    assert complete_snapshot("") == []
    assert capsys.readouterr() == ("", "")


@pytest.mark.usefixtures("_settings")
def test_a_slow_answer_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def sleep(_settings: Settings) -> list[str]:
        time.sleep(5)
        return ["docs"]

    monkeypatch.setattr(names, "collection_names", sleep)
    monkeypatch.setattr(completion, "DEADLINE_SECONDS", 0.05)
    began = time.monotonic()

    assert complete_collection("") == []
    assert time.monotonic() - began < 4
