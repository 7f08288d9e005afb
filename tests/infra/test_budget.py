"""Every resource has the stack's tag, and a budget counts what has it."""

from __future__ import annotations

import json
from typing import Any

from infra.tags import STACK_TAG
from tests.infra.declared import Declared, declared

TOPIC = "arn:aws:sns:eu-west-1:123456789012:ops"


def tags(stack: Declared, kind: str) -> list[dict[str, str]]:
    return [resource.inputs["tags"] for resource in stack.of_type(kind)]


def budget(**config: str) -> dict[str, Any]:
    return declared(monthlyBudget="40", **config).one("Budget")


def test_every_kind_of_resource_that_costs_money_has_the_tag_of_its_stack() -> None:
    for kind in ("Bucket", "Table", "Queue", "Function", "StateMachine", "LogGroup", "MetricAlarm"):
        assert {each[STACK_TAG] for each in tags(declared(), kind)} == {"dev"}, kind


def test_a_renamed_stack_keeps_its_tag() -> None:
    assert tags(declared("production", name="dev"), "Bucket") == [{STACK_TAG: "dev"}]


def test_an_organisations_tags_are_added_and_cannot_hide_the_stacks_own() -> None:
    stack = declared(tags=json.dumps({"team": "search", STACK_TAG: "other"}))
    assert tags(stack, "Table") == [{"team": "search", STACK_TAG: "dev"}]


def test_no_resource_that_takes_no_tags_gets_any() -> None:
    assert not [
        r
        for kind in ("BucketPolicy", "RolePolicy", "EventTarget")
        for r in declared().of_type(kind)
        if "tags" in r.inputs
    ]


def test_by_default_there_is_no_budget() -> None:
    assert not list(declared().of_type("Budget"))


def test_a_budget_counts_the_costs_of_its_own_stack() -> None:
    found = budget(name="other")
    assert (found["budgetType"], found["timeUnit"], found["limitAmount"], found["limitUnit"]) == (
        "COST",
        "MONTHLY",
        "40.00",
        "USD",
    )
    assert found["costFilters"] == [{"name": "TagKeyValue", "values": ["user:chromadb-stack$other"]}]


def test_the_alarms_topic_is_notified_before_the_budget_is_spent_and_when_the_forecast_exceeds_it() -> None:
    found = budget(alarmTopicArn=TOPIC)["notifications"]
    assert [(each["notificationType"], each["threshold"]) for each in found] == [("ACTUAL", 80), ("FORECASTED", 100)]
    assert [each["subscriberSnsTopicArns"] for each in found] == [[TOPIC], [TOPIC]]


def test_the_own_topic_accepts_the_accounts_budgets_only_if_there_is_one() -> None:
    def notifiers(**config: str) -> dict[str, Any]:
        statements = json.loads(declared(**config).one("TopicPolicy")["policy"])["Statement"]
        return {each["Principal"]["Service"]: each["Condition"] for each in statements}

    assert notifiers(monthlyBudget="40")["budgets.amazonaws.com"] == {
        "ArnLike": {"aws:SourceArn": "arn:aws:budgets::123456789012:*"},
        "StringEquals": {"aws:SourceAccount": "123456789012"},
    }
    assert notifiers().keys() == {"cloudwatch.amazonaws.com"}
