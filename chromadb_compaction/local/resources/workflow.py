"""The state machine, the rules that start it, and the rule that reacts to its end."""

from __future__ import annotations

import hashlib
from typing import Any

from chromadb_compaction.local.resources.clients import Created, Creator, Inputs, Target, unless_exists


def state_machine(target: Target, inputs: Inputs) -> Created:
    """aws.sfn.StateMachine."""
    client, name = target.client("stepfunctions"), inputs["name"]
    arn = target.arn("states", f"stateMachine:{name}")
    new = unless_exists(
        client.create_state_machine,
        "StateMachineAlreadyExists",
        name=name,
        definition=inputs["definition"],
        roleArn=inputs["roleArn"],
        type=inputs.get("type") or "STANDARD",
        publish=bool(inputs.get("publish")),
    )
    if not new:
        client.update_state_machine(
            stateMachineArn=arn,
            definition=inputs["definition"],
            roleArn=inputs["roleArn"],
            publish=bool(inputs.get("publish")),
        )
    return Created(arn, {**inputs, "arn": arn})


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
