"""Messages as this version sends them are the contract of the next: an execution may be in flight while it is deployed.

recorded/messages.json is never edited. A later version that adds a field gives it a default, and records it here in a
file of its own. A version that can no longer read these messages must say so in CHANGELOG.md.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from chromadb_compaction import messages
from chromadb_compaction.messages import BATCH_MANIFEST, Message, WorkflowMessage
from chromadb_compaction.rows.batch_run import RunPart
from chromadb_compaction.rows.shapes import CollectionChange
from chromadb_compaction.steps.produce import ProduceRequest
from chromadb_compaction.steps.query_messages import QueryRequest

FILES = [
    json.loads((Path(__file__).parent / "recorded" / name).read_text(encoding="utf-8"))
    for name in ("messages.json", "folds.json")
]
RECORDED: dict[str, dict[str, Any]] = {
    kind: {name: message for file in FILES for name, message in file.get(kind, {}).items()}
    for kind in ("requests", "results", "stored")
}
REQUESTS = sorted(RECORDED["requests"])
RESULTS = sorted(RECORDED["results"])


def model(name: str) -> type[WorkflowMessage]:
    found: type[WorkflowMessage] = getattr(messages, name)
    return found


def with_unknown_fields(value: Any) -> Any:
    """Return the message with one more field in every object, as a version with other fields would send it."""
    if isinstance(value, dict):
        return {**{name: with_unknown_fields(part) for name, part in value.items()}, "of_another_version": 1}
    return [with_unknown_fields(part) for part in value] if isinstance(value, list) else value


@pytest.mark.parametrize("name", REQUESTS)
def test_a_request_of_the_recorded_version_is_understood(name: str) -> None:
    recorded = RECORDED["requests"][name]

    assert _kept(model(name).model_validate(recorded).model_dump(mode="json", by_alias=True), recorded) == recorded


@pytest.mark.parametrize("name", RESULTS)
def test_a_result_still_has_every_field_that_a_running_workflow_selects(name: str) -> None:
    recorded = RECORDED["results"][name]

    assert _kept(model(name).model_validate(recorded).model_dump(mode="json", by_alias=True), recorded) == recorded


@pytest.mark.parametrize("name", [name for name in REQUESTS if name != "AcquireLockRequest"])
def test_a_field_that_this_version_does_not_know_is_ignored(name: str) -> None:
    recorded = RECORDED["requests"][name]
    nested = {key: with_unknown_fields(part) if key != "seconds" else part for key, part in recorded.items()}

    assert model(name).model_validate({**nested, "of_another_version": 1}) == model(name).model_validate(recorded)


@pytest.mark.parametrize("name", REQUESTS)
def test_a_request_without_a_field_that_it_needs_is_refused_by_name(name: str) -> None:
    recorded = dict(RECORDED["requests"][name])
    del recorded["execution"]

    with pytest.raises(ValidationError, match="execution"):
        model(name).model_validate(recorded)


def test_a_batch_manifest_of_the_recorded_version_is_understood() -> None:
    recorded = RECORDED["stored"]["BATCH_MANIFEST"]

    assert BATCH_MANIFEST.dump_python(BATCH_MANIFEST.validate_python(recorded), mode="json") == recorded


@pytest.mark.parametrize("strict", [QueryRequest, ProduceRequest, RunPart, CollectionChange])
def test_what_a_user_sends_or_a_run_says_has_no_unknown_field(strict: type[Message]) -> None:
    with pytest.raises(ValidationError, match=r"of_another_version\n.*not permitted"):
        strict.model_validate({"of_another_version": 1})


def test_every_message_of_the_workflow_is_recorded() -> None:
    workflow = {
        name
        for name, each in vars(messages).items()
        if isinstance(each, type) and issubclass(each, WorkflowMessage) and each is not WorkflowMessage
    }

    assert workflow - {"BaseRef", "BatchRef", "CollectionShape", "CollectionCounts", "FoldItem"} == {
        *REQUESTS,
        *RESULTS,
    }


def _kept(now: Any, recorded: Any) -> Any:
    """Return the part of a value that the recorded one has too: a later version may add fields."""
    if isinstance(recorded, dict):
        return {name: _kept(now[name], part) for name, part in recorded.items()}
    if isinstance(recorded, list):
        return [_kept(one, other) for one, other in zip(now, recorded, strict=True)]
    return now
