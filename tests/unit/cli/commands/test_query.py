"""Questions in words, when the query function cannot run the collection's embedding function."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from chromadb.utils import embedding_functions

from chromadb_compaction.aws import functions
from chromadb_compaction.chroma import embedding
from chromadb_compaction.chroma.embedding import embed
from chromadb_compaction.cli.commands.query import query
from chromadb_compaction.cli.common import clients
from chromadb_compaction.errors import EmbeddingFunctionError, InvalidRequestError
from chromadb_compaction.pending.reader import FreshReader
from chromadb_compaction.snapshots.reader import SnapshotReader
from chromadb_compaction.steps.query import answer
from chromadb_compaction.steps.query_messages import QueryRequest
from tests.builders import a_delta
from tests.fakes.services import Fakes
from tests.passes import compact

MISSING = EmbeddingFunctionError("the embedding function 'axis' cannot be loaded: no module axis")


class Axis:
    """An embedding function onto one axis. It stands for one whose package the image lacks."""

    def __init__(self, axis: int = 0, api_base: str | None = None) -> None:
        self._axis, self._api_base = axis, api_base

    @staticmethod
    def build_from_config(config: dict[str, Any]) -> Axis:
        return Axis(**config)

    def __call__(self, texts: list[str]) -> list[list[int]]:
        return [[0, 1] if self._axis else [1, 0] for _ in texts]

    embed_query = __call__


class QueryFunction:
    """The deployed query function, without the package of `axis`."""

    def __init__(self, fakes: Fakes, reader: SnapshotReader) -> None:
        self._fakes, self._reader = fakes, reader
        self.asked: list[Mapping[str, Any]] = []

    def invoke(self, _function: str, request: Mapping[str, Any]) -> dict[str, Any]:
        self.asked.append(request)
        if "query_texts" in request:
            raise MISSING
        fields = {name: value for name, value in request.items() if name != "action"}
        reader = FreshReader(self._reader)
        return answer(QueryRequest(**fields), self._fakes.services, reader=reader).model_dump(mode="json")


@pytest.fixture
def function(fakes: Fakes, reader: SnapshotReader, monkeypatch: pytest.MonkeyPatch) -> QueryFunction:
    made = QueryFunction(fakes, reader)
    monkeypatch.setattr(functions, "invoke", made.invoke)
    monkeypatch.setattr(clients, "services", lambda: fakes.services)
    settings = fakes.settings.model_copy(update={"chromadb_query_function": "query"})
    monkeypatch.setattr(clients, "settings", lambda: settings)
    monkeypatch.setitem(embedding_functions.known_embedding_functions, "axis", Axis)
    embedding._load.cache_clear()
    return made


def publish(fakes: Fakes, config: Mapping[str, object] | None = None) -> None:
    stated = {"embedding_function": {"type": "known", "name": "axis", "config": config or {}}}
    header = {"format": 2, "collection": {"configuration": stated}}
    compact(fakes, a_delta({"x": [1, 0], "y": [0, 1]}, header=header))


def test_the_text_is_embedded_here_and_the_reason_is_said(
    fakes: Fakes, function: QueryFunction, capsys: pytest.CaptureFixture[str]
) -> None:
    publish(fakes, {"axis": 1})

    query("upwards", collection="docs", results=1, embedding_function="axis")

    printed = capsys.readouterr()
    assert "y" in printed.out.splitlines()[1]
    assert [each["query_embeddings"] for each in function.asked] == [[[0.0, 1.0]]]


def test_a_function_that_the_image_lacks_runs_here(
    fakes: Fakes, function: QueryFunction, capsys: pytest.CaptureFixture[str]
) -> None:
    publish(fakes)

    query("sideways", collection="docs", results=1)

    printed = capsys.readouterr()
    assert "x" in printed.out.splitlines()[1]
    assert "cannot be loaded: no module axis" in printed.err
    assert "was embedded here" in printed.err
    assert len(function.asked) == 2


@pytest.mark.usefixtures("function")
def test_a_function_that_this_machine_lacks_too_is_an_error_with_the_remedies(
    fakes: Fakes, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(fakes)
    monkeypatch.delitem(embedding_functions.known_embedding_functions, "axis")

    with pytest.raises(
        EmbeddingFunctionError, match=r"no module axis.*nor can this machine.*--embedding-function NAME"
    ):
        query("sideways", collection="docs", results=1)


@pytest.mark.usefixtures("function")
def test_a_parameter_that_is_not_harmless_needs_the_name_of_the_function(fakes: Fakes) -> None:
    publish(fakes, {"api_base": "https://models.example"})

    with pytest.raises(EmbeddingFunctionError, match="api_base"):
        query("sideways", collection="docs", results=1)
    query("sideways", collection="docs", results=1, embedding_function="axis")


@pytest.mark.usefixtures("function")
def test_parameters_of_another_function_are_not_used(fakes: Fakes) -> None:
    publish(fakes, {"axis": 1})

    with pytest.raises(InvalidRequestError, match="256 dimensions"):
        query("sideways", collection="docs", results=1, embedding_function="wordllama")


def test_a_function_without_a_text_is_a_usage_error(function: QueryFunction) -> None:
    with pytest.raises(InvalidRequestError, match="--embedding-function embeds a TEXT"):
        query(collection="docs", embedding_function="axis")
    assert function.asked == []


@pytest.mark.usefixtures("function")
def test_a_model_that_cannot_be_stored_is_an_error_of_the_function(monkeypatch: pytest.MonkeyPatch) -> None:
    def read_only(*_: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(Axis, "__call__", read_only)

    with pytest.raises(EmbeddingFunctionError, match="Read-only file system"):
        embed(["text"], "axis", {"axis": 0}, trusted=True)
