"""Rules that every declared resource must keep. Each returns the names of the resources that break it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from tests.infra.declared import ACCOUNT, Declared, Resource

Rule = Callable[[Declared], list[str]]

# A rule of S3's lifecycle, or the copying, can be declared again without loss. The rest holds data or guards it.
GUARDS_NO_DATA = {"BucketReplicationConfig"}
# AWS documents no condition that these fulfil when they assume a role: infra/s3_buckets.py names the page.
UNCONDITIONED = {"s3.amazonaws.com"}
POLICIES = {"BucketPolicy": "policy", "QueuePolicy": "policy", "TopicPolicy": "policy", "RepositoryPolicy": "policy"}


def data_is_protected_and_retained(stack: Declared) -> list[str]:
    """Pulumi refuses to delete a bucket, a part of one, or a table, and does not delete one that it forgets."""
    return [
        resource.name
        for resource in stack.resources
        if resource.type.startswith(("aws:s3/", "aws:dynamodb/")) and kind(resource) not in GUARDS_NO_DATA
        if not (resource.protected and resource.retained)
    ]


def tables_refuse_deletion(stack: Declared) -> list[str]:
    """A table refuses to be deleted, also outside Pulumi."""
    return [table.name for table in stack.of_type("Table") if not table.inputs.get("deletionProtectionEnabled")]


def buckets_are_never_emptied(stack: Declared) -> list[str]:
    """Pulumi deletes no object."""
    return [bucket.name for bucket in stack.of_type("Bucket") if bucket.inputs.get("forceDestroy")]


def buckets_have_every_guard(stack: Declared) -> list[str]:
    """A bucket is versioned, encrypted, not public, without ACLs, refuses plain HTTP, and aborts old uploads."""
    kinds = (
        "BucketVersioning",
        "BucketServerSideEncryptionConfiguration",
        "BucketPublicAccessBlock",
        "BucketOwnershipControls",
        "BucketPolicy",
        "BucketLifecycleConfiguration",
    )
    guarded = {each: {part.inputs["bucket"] for part in stack.of_type(each)} for each in kinds}
    return [
        bucket.name
        for bucket in stack.of_type("Bucket")
        if any(bucket.inputs["bucket"] not in buckets for buckets in guarded.values())
    ]


def alarms_say_what_missing_data_means(stack: Declared) -> list[str]:
    """An alarm does not end in INSUFFICIENT_DATA, which notifies nobody."""
    answers = ("breaching", "notBreaching")
    return [a.name for a in stack.of_type("MetricAlarm") if a.inputs.get("treatMissingData") not in answers]


def alarms_reach_somebody(stack: Declared) -> list[str]:
    """An alarm notifies a topic, or a rule reacts to it."""
    patterns = "".join(rule.inputs.get("eventPattern", "") for rule in stack.of_type("EventRule"))
    return [
        alarm.name
        for alarm in stack.of_type("MetricAlarm")
        if not alarm.inputs.get("alarmActions") and f":alarm:{alarm.inputs['name']}" not in patterns
    ]


def roles_are_assumed_for_this_account_only(stack: Declared) -> list[str]:
    """A service that can say for which account it assumes a role must say this one."""
    return [
        role.name
        for role in stack.of_type("Role")
        for statement in json.loads(role.inputs["assumeRolePolicy"])["Statement"]
        if statement["Principal"]["Service"] not in UNCONDITIONED
        if statement.get("Condition", {}).get("StringEquals", {}).get("aws:SourceAccount") != ACCOUNT
    ]


def services_act_for_this_account_only(stack: Declared) -> list[str]:
    """A policy of a resource that lets a service in says for which resources of which account."""
    return [
        name for name, statement in _granted(stack) if _is_service(statement) and ACCOUNT not in _condition(statement)
    ]


def nobody_is_let_in_by_default(stack: Declared) -> list[str]:
    """No policy of a resource allows anything to everybody."""
    return [name for name, statement in _granted(stack) if statement["Principal"] in ("*", {"AWS": "*"})]


def permissions_name_their_source(stack: Declared) -> list[str]:
    """A service may call a function only for one source."""
    return [
        permission.name
        for permission in stack.of_type("Permission")
        if permission.inputs["principal"].endswith(".amazonaws.com") and not permission.inputs.get("sourceArn")
    ]


def logs_are_limited(stack: Declared) -> list[str]:
    """Every log group has a retention."""
    return [group.name for group in stack.of_type("LogGroup") if not group.inputs.get("retentionInDays")]


def functions_log_into_a_group_of_the_stack(stack: Declared) -> list[str]:
    """A function does not make a log group of its own, which would keep everything for ever."""
    groups = {group.inputs["name"] for group in stack.of_type("LogGroup")}
    return [f.name for f in stack.of_type("Function") if f"/aws/lambda/{f.inputs['name']}" not in groups]


def events_are_kept_when_given_up(stack: Declared) -> list[str]:
    """A rule's target, and a function that is called asynchronously, stops trying and keeps the event."""
    targets = [
        target.name
        for target in stack.of_type("EventTarget")
        if not target.inputs.get("deadLetterConfig") or not target.inputs.get("retryPolicy")
    ]
    calls = [
        call.name
        for call in stack.of_type("FunctionEventInvokeConfig")
        if not call.inputs.get("maximumEventAgeInSeconds") or not call.inputs.get("destinationConfig")
    ]
    return [*targets, *calls]


def queues_are_encrypted(stack: Declared) -> list[str]:
    """Messages are encrypted where they are stored."""
    return [queue.name for queue in stack.of_type("Queue") if not queue.inputs.get("sqsManagedSseEnabled")]


def everything_is_tagged(stack: Declared) -> list[str]:
    """A resource that AWS charges for has the stack's tag."""
    charged = ("Bucket", "Table", "Queue", "Function", "StateMachine", "LogGroup", "MetricAlarm", "Repository", "Topic")
    tagged = [resource for each in charged for resource in stack.of_type(each)]
    return [resource.name for resource in tagged if "chromadb-stack" not in resource.inputs.get("tags", {})]


RULES: tuple[Rule, ...] = (
    data_is_protected_and_retained,
    tables_refuse_deletion,
    buckets_are_never_emptied,
    buckets_have_every_guard,
    alarms_say_what_missing_data_means,
    alarms_reach_somebody,
    roles_are_assumed_for_this_account_only,
    services_act_for_this_account_only,
    nobody_is_let_in_by_default,
    permissions_name_their_source,
    logs_are_limited,
    functions_log_into_a_group_of_the_stack,
    events_are_kept_when_given_up,
    queues_are_encrypted,
    everything_is_tagged,
)


def kind(resource: Resource) -> str:
    """Return the last part of a resource's type, e.g. `Queue`."""
    return resource.type.rpartition(":")[2]


def _granted(stack: Declared) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for each, field in POLICIES.items():
        for resource in stack.of_type(each):
            for statement in json.loads(resource.inputs[field])["Statement"]:
                if statement["Effect"] == "Allow":
                    yield resource.name, statement


def _is_service(statement: Mapping[str, Any]) -> bool:
    return isinstance(statement["Principal"], dict) and "Service" in statement["Principal"]


def _condition(statement: Mapping[str, Any]) -> str:
    return json.dumps(statement.get("Condition", {}))
