"""The state machine, the rules that start it, and the rule that reacts to its end."""

from __future__ import annotations

import hashlib
from typing import Any

from chromadb_compaction.local.errors import LocalStackError
from chromadb_compaction.local.resources.clients import Created, Creator, Inputs, Target, unless_exists


def state_machine(target: Target, inputs: Inputs) -> Created:
    """aws.sfn.StateMachine. An engine beside the server need not know versions, so none are published there."""
    client, name = target.client("stepfunctions"), inputs["name"]
    arn = target.arn("states", f"stateMachine:{name}")
    other = target.aws.state_machine_endpoint
    published = {"publish": bool(inputs.get("publish"))} if other is None else {}
    new = unless_exists(
        client.create_state_machine,
        "StateMachineAlreadyExists",
        name=name,
        definition=inputs["definition"],
        roleArn=inputs["roleArn"],
        type=inputs.get("type") or "STANDARD",
        **published,
    )
    if not new:
        client.update_state_machine(
            stateMachineArn=arn, definition=inputs["definition"], roleArn=inputs["roleArn"], **published
        )
    if other and not _exists(client, arn):
        raise LocalStackError(
            f"the Step Functions engine at {other} made {name} in another account or region",
            next_step=f"start it with AWS_ACCOUNT_ID={target.aws.account} and AWS_DEFAULT_REGION={target.aws.region}",
        )
    return Created(arn, {**inputs, "arn": arn})


def _exists(client: Any, state_machine: str) -> bool:  # noqa: ANN401 - clients are made by name
    try:
        client.describe_state_machine(stateMachineArn=state_machine)
    except (client.exceptions.StateMachineDoesNotExist, client.exceptions.InvalidArn):
        return False
    return True


def event_rule(target: Target, inputs: Inputs) -> Created:
    """aws.cloudwatch.EventRule."""
    name = inputs["name"]
    optional = {
        "ScheduleExpression": inputs.get("scheduleExpression"),
        "EventPattern": inputs.get("eventPattern"),
        "Description": inputs.get("description"),
    }
    answer = target.client("events").put_rule(
        Name=name,
        State=inputs.get("state") or "ENABLED",
        **{key: value for key, value in optional.items() if value},
    )
    return Created(name, {**inputs, "arn": answer["RuleArn"]})


def event_target(target: Target, inputs: Inputs) -> Created:
    """aws.cloudwatch.EventTarget."""
    identity = inputs.get("targetId") or hashlib.sha256(inputs["arn"].encode()).hexdigest()[:16]
    target.client("events").put_targets(Rule=inputs["rule"], Targets=[{"Id": identity, **_event_target(inputs)}])
    return Created(f"{inputs['rule']}-{identity}", {**inputs, "targetId": identity})


def _event_target(inputs: Inputs) -> dict[str, Any]:
    shape: dict[str, Any] = {"Arn": inputs["arn"]}
    if inputs.get("roleArn"):
        shape["RoleArn"] = inputs["roleArn"]
    if inputs.get("input"):
        shape["Input"] = inputs["input"]
    if letters := inputs.get("deadLetterConfig"):
        shape["DeadLetterConfig"] = {"Arn": letters["arn"]}
    if policy := inputs.get("retryPolicy"):
        shape["RetryPolicy"] = {
            "MaximumEventAgeInSeconds": policy["maximumEventAgeInSeconds"],
            "MaximumRetryAttempts": policy["maximumRetryAttempts"],
        }
    if transformer := inputs.get("inputTransformer"):
        shape["InputTransformer"] = {
            "InputPathsMap": transformer.get("inputPaths") or {},
            "InputTemplate": transformer["inputTemplate"],
        }
    return shape


CREATORS: dict[str, Creator] = {
    "aws:sfn/stateMachine:StateMachine": state_machine,
    "aws:cloudwatch/eventRule:EventRule": event_rule,
    "aws:cloudwatch/eventTarget:EventTarget": event_target,
}
