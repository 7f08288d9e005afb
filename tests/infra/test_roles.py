"""Every role has exactly the rights that its task needs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Any

import pytest

from tests.infra.declared import TASKS, declared

BUCKET = "arn:aws:s3:::chromadb-vectors-dev-123456789012"
# X-Ray does not support resources.
TRACING = {"Effect": "Allow", "Action": ["xray:PutTraceSegments", "xray:PutTelemetryRecords"], "Resource": ["*"]}
QUEUE = "arn:aws:sqs:eu-west-1:123456789012:chromadb-delta-queue-dev"
UNDELIVERED = "arn:aws:sqs:eu-west-1:123456789012:chromadb-undelivered-dev"
RULE = "arn:aws:events:eu-west-1:123456789012:rule/chromadb-compaction-dev"
MACHINE = "arn:aws:states:eu-west-1:123456789012:stateMachine:chromadb-compaction-dev"

ARCHIVING = {
    "dynamodb:UpdateItem": ["the lock"],
    "s3:ListBucket": ["delta/*", "compacted/*", "quarantine/*", "snapshot/*"],
    "s3:GetObject": ["delta/*", "compacted/*", "quarantine/*", "snapshot/*"],
    "s3:GetObjectTagging": ["delta/*", "compacted/*"],
    "s3:DeleteObject": ["delta/*"],
    "s3:PutObject": ["delta/*", "compacted/*", "quarantine/*", "snapshot/*/cleaned.json"],
    "s3:PutObjectTagging": ["delta/*", "compacted/*", "quarantine/*"],
    "sqs:ReceiveMessage": [QUEUE],
    "sqs:DeleteMessage": [QUEUE],
    "sqs:GetQueueAttributes": [QUEUE],
    "sqs:SendMessage": [f"{QUEUE}-dlq"],
}
ALLOWED: dict[str, dict[str, list[str]]] = {
    "acquire-lock": {"dynamodb:PutItem": ["the lock"]},
    "release-lock": {
        "dynamodb:DeleteItem": ["the lock"],
        "dynamodb:GetItem": ["the lock"],
        "sqs:SendMessage": [UNDELIVERED],
    },
    "list-deltas": {
        **ARCHIVING,
        "s3:ListBucket": [*ARCHIVING["s3:ListBucket"], "work/attempts/*"],
        "s3:PutObject": [*ARCHIVING["s3:PutObject"], "work/*"],
        "s3:GetObject": [*ARCHIVING["s3:GetObject"], "work/attempts/running/*"],
        "s3:DeleteObject": [*ARCHIVING["s3:DeleteObject"], "work/attempts/running/*"],
    },
    "merge-batch": {
        "dynamodb:UpdateItem": ["the lock"],
        "s3:ListBucket": ["delta/*", "compacted/*"],
        "s3:GetObject": ["delta/*", "compacted/*", "work/*"],
        "s3:GetObjectTagging": ["delta/*"],
        "s3:PutObject": ["work/*", "quarantine/*"],
        "s3:AbortMultipartUpload": ["work/*"],
        "s3:DeleteObject": ["work/attempts/running/*"],
        "s3:PutObjectTagging": ["quarantine/*"],
    },
    "compactor": {
        "dynamodb:UpdateItem": ["the lock"],
        "s3:ListBucket": ["delta/*", "compacted/*", "snapshot/*"],
        "s3:GetObject": ["delta/*", "compacted/*", "work/*", "snapshot/*"],
        "s3:PutObject": ["work/*", "snapshot/*"],
        "s3:AbortMultipartUpload": ["snapshot/*"],
        "s3:DeleteObject": ["work/attempts/running/*"],
        "states:StartExecution": [MACHINE],
        "sqs:SendMessage": [UNDELIVERED],
    },
    "fold-partitions": {
        "dynamodb:UpdateItem": ["the lock"],
        "s3:ListBucket": ["snapshot/*"],
        "s3:GetObject": ["work/*", "snapshot/*"],
        "s3:PutObject": ["work/*", "snapshot/*/*"],
        "s3:AbortMultipartUpload": ["snapshot/*/*"],
        "s3:DeleteObject": ["work/attempts/running/*"],
    },
    "clean-up": {
        **ARCHIVING,
        "s3:GetObject": [*ARCHIVING["s3:GetObject"], "work/*"],
        "s3:PutObject": [*ARCHIVING["s3:PutObject"], "snapshot/*/pruning-*.json", "snapshot/kept.json"],
        "s3:DeleteObject": ["delta/*", "snapshot/*/*"],
    },
    "producer": {"s3:PutObject": ["delta/*"], "sqs:SendMessage": [QUEUE, UNDELIVERED]},
    "query": {
        "s3:ListBucket": ["snapshot/*", "delta/*"],
        "s3:GetObject": ["snapshot/*", "delta/*"],
    },
}


def statements(task: str) -> list[dict[str, Any]]:
    return declared().statements(f"chromadb-{task}-dev")


def grants(task: str) -> dict[str, list[str]]:
    """Return action -> targets, spelt as in ALLOWED, without the log and the traces."""
    found: dict[str, list[str]] = {}
    for statement in statements(task):
        for action in statement["Action"]:
            if not action.startswith(("logs:", "xray:")):
                found.setdefault(action, []).extend(_targets(statement))
    return found


def _targets(statement: dict[str, Any]) -> Iterator[str]:
    condition = statement.get("Condition", {})
    if leading := condition.get("ForAllValues:StringEquals"):
        assert leading == {"dynamodb:LeadingKeys": ["LOCK#chroma-main-snapshot"]}
        assert statement["Resource"] == ["arn:aws:dynamodb:eu-west-1:123456789012:table/portfolio-dev"]
        yield "the lock"
    elif prefixes := condition.get("StringLikeIfExists", condition.get("StringLike")):
        assert statement["Resource"] == [BUCKET]
        yield from prefixes["s3:prefix"]
    else:
        yield from (resource.removeprefix(f"{BUCKET}/") for resource in statement["Resource"])


def may(task: str, action: str, key: str) -> bool:
    return any(fnmatchcase(key, target) for target in grants(task).get(action, []))


@pytest.mark.parametrize("task", TASKS)
def test_a_function_has_exactly_the_rights_of_its_task(task: str) -> None:
    assert grants(task) == ALLOWED[task]


def test_the_query_cannot_list_the_bucket_by_leaving_out_the_prefix() -> None:
    (listing,) = (s for s in statements("query") if "s3:ListBucket" in s["Action"])

    assert listing["Condition"] == {"StringLike": {"s3:prefix": ["snapshot/*", "delta/*"]}}


@pytest.mark.parametrize("task", TASKS)
def test_a_function_writes_its_own_log_and_no_other(task: str) -> None:
    (log,) = (s for s in statements(task) if any(action.startswith("logs:") for action in s["Action"]))
    assert log["Action"] == ["logs:CreateLogStream", "logs:PutLogEvents"]
    assert log["Resource"] == [f"arn:aws:logs:eu-west-1:123456789012:log-group:/aws/lambda/chromadb-{task}-dev:*"]


@pytest.mark.parametrize("task", TASKS)
def test_only_tracing_uses_wildcards_for_everything(task: str) -> None:
    wildcards = [s for s in statements(task) if "*" in s["Resource"] or any("*" in action for action in s["Action"])]
    assert wildcards == [TRACING]


def test_no_function_may_delete_versions_so_deleted_objects_can_be_restored() -> None:
    assert not [task for task in TASKS if "s3:DeleteObjectVersion" in grants(task)]


def test_only_the_compactor_may_publish() -> None:
    assert [task for task in TASKS if may(task, "s3:PutObject", "snapshot/CURRENT")] == ["compactor"]


def test_no_function_may_delete_the_pointer() -> None:
    assert not [task for task in TASKS if may(task, "s3:DeleteObject", "snapshot/CURRENT")]


def test_only_the_tasks_that_clean_up_may_delete_a_pending_delta() -> None:
    assert [t for t in TASKS if may(t, "s3:DeleteObject", "delta/docs/x.parquet")] == ["list-deltas", "clean-up"]


def test_no_function_may_delete_a_quarantined_delta() -> None:
    assert not [task for task in TASKS if may(task, "s3:DeleteObject", "quarantine/docs/x.parquet")]


def test_no_function_may_change_the_visibility_of_a_message() -> None:
    assert not [task for task in TASKS if "sqs:ChangeMessageVisibility" in grants(task)]


@pytest.mark.parametrize(
    "key", ["compacted/docs/x.parquet", "quarantine/docs/x.parquet", "work/an-execution/1/collections.json"]
)
def test_a_query_reads_only_published_snapshots_and_pending_deltas(key: str) -> None:
    assert not may("query", "s3:GetObject", key)


def test_every_function_has_its_own_role() -> None:
    roles = [f.inputs["role"] for f in declared().of_type("Function")]
    assert len(set(roles)) == len(TASKS)


@pytest.mark.parametrize(
    ("role", "service", "source"),
    [
        ("chromadb-query-dev", "lambda", None),
        ("chromadb-compaction-dev", "states", MACHINE),
        ("chromadb-compaction-dev-schedule", "events", f"{RULE}-schedule"),
        ("chromadb-compaction-dev-early", "events", f"{RULE}-early"),
    ],
)
def test_only_one_service_may_assume_a_role_and_only_for_this_account(
    role: str, service: str, source: str | None
) -> None:
    (trust,) = json.loads(declared().one("Role", role)["assumeRolePolicy"])["Statement"]
    assert (trust["Effect"], trust["Principal"]) == ("Allow", {"Service": f"{service}.amazonaws.com"})
    assert trust["Condition"] == {
        "StringEquals": {"aws:SourceAccount": "123456789012"},
        **({"ArnLike": {"aws:SourceArn": source}} if source else {}),
    }


def test_roles_have_the_path_and_the_boundary_that_an_organisation_requires() -> None:
    boundary = "arn:aws:iam::123456789012:policy/boundary"
    stack = declared(permissionsBoundaryArn=boundary, rolePath="/data/", replicaRegion="eu-central-1")
    roles = [r.inputs for r in stack.of_type("Role")]
    assert {(role["path"], role["permissionsBoundary"]) for role in roles} == {("/data/", boundary)}
    assert not [r for r in declared().of_type("Role") if "permissionsBoundary" in r.inputs]


def test_the_state_machine_may_call_every_version_of_only_its_own_functions() -> None:
    (invoke, *_) = declared().statements("chromadb-compaction-dev")
    called = {"acquire-lock", "list-deltas", "merge-batch", "compactor", "fold-partitions", "clean-up", "release-lock"}
    assert invoke["Action"] == ["lambda:InvokeFunction"]
    functions = "arn:aws:lambda:eu-west-1:123456789012:function"
    assert set(invoke["Resource"]) == {f"{functions}:chromadb-{task}-dev:*" for task in called}


def test_the_state_machines_other_rights_are_for_its_log_and_its_traces() -> None:
    (_, delivery, tracing) = declared().statements("chromadb-compaction-dev")
    assert [tracing["Action"], tracing["Resource"]] == [
        [*TRACING["Action"], "xray:GetSamplingRules", "xray:GetSamplingTargets"],
        ["*"],
    ]
    assert sorted(delivery["Action"]) == [
        "logs:CreateLogDelivery",
        "logs:DeleteLogDelivery",
        "logs:DescribeLogGroups",
        "logs:DescribeResourcePolicies",
        "logs:GetLogDelivery",
        "logs:ListLogDeliveries",
        "logs:PutResourcePolicy",
        "logs:UpdateLogDelivery",
    ]


@pytest.mark.parametrize("rule", ["schedule", "early"])
def test_a_rule_may_start_only_this_workflow(rule: str) -> None:
    assert declared().statements(f"chromadb-compaction-dev-{rule}") == [
        {"Effect": "Allow", "Action": ["states:StartExecution"], "Resource": [MACHINE]}
    ]
