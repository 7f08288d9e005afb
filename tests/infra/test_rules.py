"""All declared resources keep the rules, with every option on and off, and each rule finds a planted violation."""

from __future__ import annotations

import ast
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import infra
from tests.infra import rules
from tests.infra.declared import BASE_IMAGE, VPC, Declared, Resource, declared
from tests.infra.rules import RULES, Rule

KEY = "arn:aws:kms:eu-west-1:123456789012:key/0a0b0c0d-1111-2222-3333-444455556666"
Edit = Callable[[Resource], Resource]


@pytest.fixture(autouse=True)
def _docker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infra.packages._check_docker", lambda: None)


@cache
def everything() -> Declared:
    return declared(
        vpcId=VPC,
        subnetIds="subnet-0000000a,subnet-0000000b",
        kmsKeyArn=KEY,
        replicaRegion="eu-central-1",
        replicaKmsKeyArn=KEY.replace("eu-west-1", "eu-central-1"),
        auditTrail="true",
        baseImage=BASE_IMAGE,
        monthlyBudget="40",
        alarmEmail="ops@example.com",
        writerAccounts="210987654321",
        readerAccounts="210987654321",
        queryPrefetchCollections="*",
    )


@pytest.mark.parametrize("stack", [declared, everything], ids=["every option off", "every option on"])
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_every_resource_keeps_the_rule(rule: Rule, stack: Callable[[], Declared]) -> None:
    assert rule(stack()) == []


def changed(**inputs: Any) -> Edit:
    """Return an edit that replaces inputs; None removes one."""
    return lambda resource: resource._replace(
        inputs={name: value for name, value in {**resource.inputs, **inputs}.items() if value is not None}
    )


def policy(field: str, **statement: Any) -> Edit:
    """Return an edit that changes every statement of a policy; None removes a part."""

    def edit(resource: Resource) -> Resource:
        document = json.loads(resource.inputs[field])
        merged = [{**each, **statement} for each in document["Statement"]]
        document["Statement"] = [{part: value for part, value in each.items() if value is not None} for each in merged]
        return changed(**{field: json.dumps(document)})(resource)

    return edit


VIOLATIONS: list[tuple[Rule, str, Edit]] = [
    (rules.data_is_protected_and_retained, "chromadb-vectors-bucket", lambda r: r._replace(protected=False)),
    (rules.data_is_protected_and_retained, "chromadb-audit-bucket-policy", lambda r: r._replace(retained=False)),
    (rules.data_is_protected_and_retained, "chromadb-lock-table", lambda r: r._replace(protected=False)),
    (rules.tables_refuse_deletion, "chromadb-lock-table", changed(deletionProtectionEnabled=False)),
    (rules.buckets_are_never_emptied, "chromadb-replica-bucket", changed(forceDestroy=True)),
    (rules.buckets_have_every_guard, "chromadb-audit-bucket-public-access", changed(bucket="another")),
    (rules.alarms_say_what_missing_data_means, "chromadb-stalled-alarm", changed(treatMissingData="missing")),
    (rules.alarms_say_what_missing_data_means, "chromadb-backlog-alarm", changed(treatMissingData=None)),
    (rules.alarms_reach_somebody, "chromadb-throttled-alarm", changed(alarmActions=[])),
    (
        rules.roles_are_assumed_for_this_account_only,
        "chromadb-query-lambda-role",
        policy("assumeRolePolicy", Condition=None),
    ),
    (rules.services_act_for_this_account_only, "chromadb-alarm-topic-policy", policy("policy", Condition=None)),
    (rules.services_act_for_this_account_only, "chromadb-audit-bucket-policy", policy("policy", Condition=None)),
    (rules.nobody_is_let_in_by_default, "chromadb-delta-queue-policy", policy("policy", Principal="*")),
    (rules.permissions_name_their_source, "chromadb-compaction-unfinished-permission", changed(sourceArn=None)),
    (rules.logs_are_limited, "chromadb-query-lambda-logs", changed(retentionInDays=None)),
    (rules.functions_log_into_a_group_of_the_stack, "chromadb-query-lambda-logs", changed(name="/aws/lambda/other")),
    (rules.permissions_name_their_source, "chromadb-prefetch-permission", changed(sourceArn=None)),
    (rules.events_are_kept_when_given_up, "chromadb-prefetch-target", changed(retryPolicy=None)),
    (rules.events_are_kept_when_given_up, "chromadb-early-start-target", changed(deadLetterConfig=None)),
    (rules.events_are_kept_when_given_up, "chromadb-compaction-unfinished-target", changed(retryPolicy=None)),
    (rules.events_are_kept_when_given_up, "chromadb-producer-calls", changed(maximumEventAgeInSeconds=None)),
    (rules.queues_are_encrypted, "chromadb-delta-queue-dlq", changed(sqsManagedSseEnabled=None)),
    (rules.everything_is_tagged, "chromadb-lock-table", changed(tags={})),
]


@pytest.mark.parametrize(("rule", "name", "edit"), VIOLATIONS, ids=[f"{r.__name__}-{n}" for r, n, _ in VIOLATIONS])
def test_a_rule_finds_a_violation(rule: Rule, name: str, edit: Edit) -> None:
    stack = everything()
    # A component may have the name of a resource in it.
    (chosen,) = (r for r in stack.resources if r.name == name and r.type.startswith("aws:"))
    broken = [edit(resource) if resource is chosen else resource for resource in stack.resources]
    assert rule(stack._replace(resources=broken)) != []


def test_every_rule_has_a_planted_violation() -> None:
    assert {rule for rule, _, _ in VIOLATIONS} == set(RULES)


def arn_literals(source: str) -> list[str]:
    """Return the string constants that contain the ARN of one partition."""
    constants = [node.value for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Constant)]
    return [text for text in constants if isinstance(text, str) and "arn:aws:" in text]


def test_no_arn_of_one_partition_is_written_in_the_program() -> None:
    sources = {file.name: file.read_text(encoding="utf-8") for file in Path(infra.__path__[0]).glob("*.py")}
    assert {name: found for name, text in sources.items() if (found := arn_literals(text))} == {}


@pytest.mark.parametrize("source", ['"arn:aws:s3:::b"', 'f"arn:aws:iam::{account}:root"'])
def test_an_arn_of_one_partition_is_found(source: str) -> None:
    assert arn_literals(source) != []
