"""Step Functions calls, with responses from botocore's stubber."""

from __future__ import annotations

from collections.abc import Iterator

import boto3
import pytest
from botocore.stub import Stubber
from mypy_boto3_stepfunctions import SFNClient

from chromadb_compaction.aws import workflow
from chromadb_compaction.errors import ConfigurationError

STATE_MACHINE = "arn:aws:states:eu-west-1:000000000000:stateMachine:chromadb-compaction-dev"
EXECUTION = "arn:aws:states:eu-west-1:000000000000:execution:chromadb-compaction-dev:first"


@pytest.fixture
def client() -> SFNClient:
    return boto3.client(
        "stepfunctions", region_name="eu-west-1", aws_access_key_id="test", aws_secret_access_key="test"
    )


@pytest.fixture
def stubber(client: SFNClient) -> Iterator[Stubber]:
    with Stubber(client) as stubber:
        yield stubber
        stubber.assert_no_pending_responses()


def test_the_error_for_a_missing_state_machine_names_its_setting(client: SFNClient, stubber: Stubber) -> None:
    stubber.add_client_error("start_execution", "StateMachineDoesNotExist")

    with pytest.raises(ConfigurationError, match=f"starting {STATE_MACHINE}") as caught:
        workflow.start(STATE_MACHINE, client)

    assert "STATE_MACHINE_ARN" in str(caught.value.next_step)


@pytest.mark.parametrize("code", ["ExecutionDoesNotExist", "InvalidArn"])
def test_the_description_of_a_missing_execution_is_none(client: SFNClient, stubber: Stubber, code: str) -> None:
    stubber.add_client_error("describe_execution", code)

    assert workflow.describe(client, EXECUTION) is None


def test_the_history_has_the_events_of_every_page(client: SFNClient, stubber: Stubber) -> None:
    events = [{"timestamp": 0, "type": "PassStateEntered", "id": number} for number in (1, 2)]
    stubber.add_response("get_execution_history", {"events": events[:1], "nextToken": "more"})
    stubber.add_response("get_execution_history", {"events": events[1:]})

    assert [event["id"] for event in workflow.history(client, EXECUTION)] == [1, 2]
