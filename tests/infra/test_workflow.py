"""The state machine calls the functions, starts on schedule, and its lock is always released."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from chromadb_compaction.settings import MERGES_AT_ONCE
from infra.state_machine import DEFINITION, PLACEHOLDERS, render
from tests.infra.declared import VERSION, declared

MACHINE = "arn:aws:states:eu-west-1:123456789012:stateMachine:chromadb-compaction-dev"


def machine() -> dict[str, Any]:
    return declared().one("StateMachine", "chromadb-compaction-dev")


def target(rule: str) -> dict[str, Any]:
    name = f"chromadb-compaction-dev-{rule}"
    (found,) = (t.inputs for t in declared().of_type("EventTarget") if t.inputs["rule"] == name)
    return found


def test_the_workflow_is_of_type_standard_and_logs_its_errors() -> None:
    assert machine()["type"] == "STANDARD"
    assert machine()["loggingConfiguration"] == {
        "level": "ERROR",
        "includeExecutionData": True,
        "logDestination": "arn:aws:logs:eu-west-1:123456789012:log-group:"
        "/aws/vendedlogs/states/chromadb-compaction-dev:*",
    }


def test_every_placeholder_is_replaced_by_the_published_version_of_its_function() -> None:
    called = set(re.findall(r"arn:aws:lambda:[^\"]+", machine()["definition"]))
    assert called == {
        f"arn:aws:lambda:eu-west-1:123456789012:function:chromadb-{task}-dev:{VERSION}"
        for task in PLACEHOLDERS.values()
    }


def test_every_definition_is_published_as_a_version() -> None:
    assert machine()["publish"] is True


def test_the_definition_differs_from_the_file_only_in_its_placeholders_and_its_concurrency() -> None:
    kept = {name: f"${{{name}}}" for name in PLACEHOLDERS}
    text = DEFINITION.read_text(encoding="utf-8")
    assert render(text, kept, merges_at_once=MERGES_AT_ONCE) == text
    assert render(text, kept, merges_at_once=3) == text.replace('"MaxConcurrency": 10', '"MaxConcurrency": 3')
    assert "${" not in machine()["definition"]
    assert json.loads(machine()["definition"])["StartAt"] == "AcquireLock"


def test_a_placeholder_that_names_no_function_is_refused() -> None:
    with pytest.raises(KeyError, match="NoSuchFunctionArn"):
        render('"${NoSuchFunctionArn}"', {}, merges_at_once=1)


def test_the_compactor_knows_the_state_machine_before_it_exists() -> None:
    assert declared().outputs["STATE_MACHINE_ARN"] == MACHINE


def test_the_schedule_starts_the_workflow() -> None:
    rule = declared().one("EventRule", "chromadb-compaction-dev-schedule")
    assert (rule["scheduleExpression"], rule["state"]) == ("rate(15 minutes)", "ENABLED")
    assert (target("schedule")["rule"], target("schedule")["arn"]) == (rule["name"], MACHINE)


def test_a_late_start_is_dropped_before_the_next_one_is_due() -> None:
    assert target("schedule")["retryPolicy"]["maximumEventAgeInSeconds"] < 15 * 60


def test_the_schedule_can_be_configured() -> None:
    rule = declared(compactionSchedule="cron(0 3 * * ? *)").one("EventRule", "chromadb-compaction-dev-schedule")
    assert rule["scheduleExpression"] == "cron(0 3 * * ? *)"


def test_when_compaction_is_switched_off_the_schedule_is_disabled() -> None:
    rule = declared(enableCompaction="false").one("EventRule", "chromadb-compaction-dev-schedule")
    assert rule["state"] == "DISABLED"


def test_the_release_rule_matches_executions_that_did_not_succeed() -> None:
    pattern = json.loads(declared().one("EventRule", "chromadb-compaction-dev-unfinished")["eventPattern"])
    assert pattern == {
        "source": ["aws.states"],
        "detail-type": ["Step Functions Execution Status Change"],
        "detail": {"status": ["FAILED", "TIMED_OUT", "ABORTED"], "stateMachineArn": [MACHINE]},
    }


def test_the_release_rule_is_enabled_even_when_the_schedule_is_not() -> None:
    rule = declared(enableCompaction="false").one("EventRule", "chromadb-compaction-dev-unfinished")
    assert rule.get("state", "ENABLED") == "ENABLED"


def test_the_release_gets_the_arn_of_the_execution() -> None:
    release = target("unfinished")
    assert release["arn"].endswith(":function:chromadb-release-lock-dev:live")
    assert release["inputTransformer"] == {
        "inputPaths": {"execution": "$.detail.executionArn"},
        "inputTemplate": '{"execution": <execution>}',
    }


def test_only_the_release_rule_may_call_the_function() -> None:
    assert declared().one("Permission") == {
        "statementId": "unfinished-executions",
        "action": "lambda:InvokeFunction",
        "function": "chromadb-release-lock-dev",
        "qualifier": "live",
        "principal": "events.amazonaws.com",
        "sourceArn": "arn:aws:events:eu-west-1:123456789012:rule/chromadb-compaction-dev-unfinished",
    }


def test_a_successful_execution_lets_the_query_function_open_its_snapshot_only_if_that_is_configured() -> None:
    off, on = declared(), declared(queryPrefetchCollections="docs,*")
    rule = on.one("EventRule", "chromadb-compaction-dev-prefetch")
    (called,) = (each.inputs for each in on.of_type("EventTarget") if each.inputs["targetId"] == "prefetch")
    allowed = {each.inputs["statementId"]: each.inputs for each in on.of_type("Permission")}["prefetch"]

    assert json.loads(rule["eventPattern"])["detail"] == {"status": ["SUCCEEDED"], "stateMachineArn": [MACHINE]}
    assert (called["input"], called["arn"]) == (
        '{"action": "prefetch"}',
        "arn:aws:lambda:eu-west-1:123456789012:function:chromadb-query-dev:live",
    )
    assert (allowed["function"], allowed["sourceArn"]) == (
        "chromadb-query-dev",
        f"arn:aws:events:eu-west-1:123456789012:rule/{rule['name']}",
    )
    assert [each for each in off.of_type("EventTarget") if each.inputs["targetId"] == "prefetch"] == []
