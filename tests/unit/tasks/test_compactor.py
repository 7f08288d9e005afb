"""The compactor's handler: two tasks of the workflow, and the empty event that starts an execution."""

from __future__ import annotations

from pathlib import Path

import pytest

from chromadb_compaction.aws import workflow
from chromadb_compaction.errors import ConfigurationError, InvalidRequestError
from tasks import compactor, handling
from tests.builders import a_delta
from tests.fakes.services import EXECUTION, Fakes, new_fakes
from tests.passes import Pass

STATE_MACHINE = "arn:aws:states:eu-west-1:000000000000:stateMachine:chromadb-compaction-dev"


def use_fakes(fakes: Fakes, monkeypatch: pytest.MonkeyPatch) -> Fakes:
    monkeypatch.setattr(handling, "services", lambda: fakes.services)
    return fakes


def test_each_state_runs_its_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fakes = use_fakes(new_fakes(chromadb_cache_dir=tmp_path), monkeypatch)
    a_delta({"a": [1, 0]}).put_into(fakes.objects)
    one = Pass(fakes)
    listing = one.find().model_dump(mode="json")
    common = {"execution": EXECUTION, "pass": 1, "base": listing["base"]}

    downloaded = compactor.handler({"task": "DownloadSnapshot", **common, "batches": listing["batches"]}, None)
    runs = [run.model_dump(mode="json") for run in one.merge()]
    uploaded = compactor.handler({"task": "UploadSnapshot", **common, "runs": runs}, None)

    assert downloaded["collections"][0]["dimension"] == 2
    assert uploaded["published"] is True


def test_an_empty_event_starts_an_execution(monkeypatch: pytest.MonkeyPatch) -> None:
    use_fakes(new_fakes(state_machine_arn=STATE_MACHINE), monkeypatch)
    started: list[str] = []

    def start(state_machine: str) -> str:
        started.append(state_machine)
        return EXECUTION

    monkeypatch.setattr(workflow, "start", start)

    assert compactor.handler({}, None) == {"executionArn": EXECUTION}
    assert started == [STATE_MACHINE]


def test_a_missing_state_machine_is_reported_by_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    use_fakes(new_fakes(), monkeypatch)

    with pytest.raises(ConfigurationError, match="STATE_MACHINE_ARN"):
        compactor.handler({}, None)


@pytest.mark.parametrize("event", [{"task": "Upload"}, {"execution": EXECUTION}, {"task": "UploadSnapshot"}, ["a"]])
def test_an_event_without_a_valid_task_is_refused(event: object, monkeypatch: pytest.MonkeyPatch) -> None:
    fakes = use_fakes(new_fakes(), monkeypatch)

    with pytest.raises(InvalidRequestError):
        compactor.handler(event, None)
    assert fakes.calls == 0
