"""The functions, their roles and their log groups."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from chromadb_compaction.local.bootstrap import RUNTIME
from chromadb_compaction.local.resources.clients import Created, Creator, Inputs, Target, unless_exists
from chromadb_compaction.local.resources.policies import for_ministack, trust_for_ministack

POLICY_NAME_DIGITS = 8


def role(target: Target, inputs: Inputs) -> Created:
    """aws.iam.Role, with its inline policies."""
    iam, name = target.client("iam"), inputs["name"]
    path = inputs.get("path") or "/"
    trusted = trust_for_ministack(inputs["assumeRolePolicy"])
    new = unless_exists(
        iam.create_role,
        "EntityAlreadyExists",
        RoleName=name,
        Path=path,
        AssumeRolePolicyDocument=trusted,
    )
    if not new:
        iam.update_assume_role_policy(RoleName=name, PolicyDocument=trusted)
    for policy in inputs.get("inlinePolicies") or []:
        iam.put_role_policy(RoleName=name, PolicyName=policy["name"], PolicyDocument=for_ministack(policy["policy"]))
    arn = f"arn:aws:iam::{target.aws.account}:role{path}{name}"
    return Created(name, {**inputs, "arn": arn, "uniqueId": name})


def role_policy(target: Target, inputs: Inputs) -> Created:
    """aws.iam.RolePolicy."""
    text = for_ministack(inputs["policy"])
    name = inputs.get("name") or f"policy-{hashlib.sha256(text.encode()).hexdigest()[:POLICY_NAME_DIGITS]}"
    target.client("iam").put_role_policy(RoleName=inputs["role"], PolicyName=name, PolicyDocument=text)
    return Created(f"{inputs['role']}:{name}", {**inputs, "name": name})


def role_policy_attachment(target: Target, inputs: Inputs) -> Created:
    """aws.iam.RolePolicyAttachment."""
    target.client("iam").attach_role_policy(RoleName=inputs["role"], PolicyArn=inputs["policyArn"])
    return Created(f"{inputs['role']}-{inputs['policyArn']}", inputs)


def managed_policy(target: Target, inputs: Inputs) -> Created:
    """aws.iam.Policy. A changed document becomes the default version, and the others are deleted."""
    iam, text = target.client("iam"), for_ministack(inputs["policy"])
    arn = f"arn:aws:iam::{target.aws.account}:policy/{inputs['name']}"
    if not unless_exists(iam.create_policy, "EntityAlreadyExists", PolicyName=inputs["name"], PolicyDocument=text):
        for version in iam.list_policy_versions(PolicyArn=arn)["Versions"]:
            if not version["IsDefaultVersion"]:
                iam.delete_policy_version(PolicyArn=arn, VersionId=version["VersionId"])
        iam.create_policy_version(PolicyArn=arn, PolicyDocument=text, SetAsDefault=True)
    return Created(arn, {**inputs, "arn": arn})


def log_group(target: Target, inputs: Inputs) -> Created:
    """aws.cloudwatch.LogGroup."""
    logs, name = target.client("logs"), inputs["name"]
    unless_exists(logs.create_log_group, "ResourceAlreadyExistsException", logGroupName=name)
    if days := inputs.get("retentionInDays"):
        logs.put_retention_policy(logGroupName=name, retentionInDays=days)
    return Created(name, {**inputs, "arn": target.arn("logs", f"log-group:{name}")})


def function(target: Target, inputs: Inputs) -> Created:
    """aws.lambda.Function. The handler of a zip and the command of an image both become the bootstrap's handler."""
    client, name = target.client("lambda"), inputs["name"]
    settings = _configuration(target, inputs)
    package = target.functions.package
    new = unless_exists(
        client.create_function,
        "ResourceConflictException",
        FunctionName=name,
        Runtime=RUNTIME,
        Code={"ZipFile": package},
        **settings,
    )
    if not new:
        client.update_function_code(FunctionName=name, ZipFile=package)
        client.update_function_configuration(FunctionName=name, **settings)
    reserved = inputs.get("reservedConcurrentExecutions")
    if reserved is not None and reserved >= 0:
        client.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=reserved)
    arn = target.arn("lambda", f"function:{name}")
    version = _publish(client, name) if inputs.get("publish") and target.functions.publishes else "$LATEST"
    return Created(name, {**inputs, "arn": arn, "version": version, "qualifiedArn": f"{arn}:{version}"})


def _publish(client: Any, name: str) -> str:  # noqa: ANN401 - boto3's types accept literal service names only
    """Publish a version and return it. Delete all but the previous one, which a running execution may call.

    The server keeps a worker for each version.
    """
    published: str = client.publish_version(FunctionName=name)["Version"]
    versions = [each["Version"] for each in client.list_versions_by_function(FunctionName=name)["Versions"]]
    for version in versions[1:-2]:  # the first is $LATEST, and the others are in order
        client.delete_function(FunctionName=name, Qualifier=version)
    return published


def alias(target: Target, inputs: Inputs) -> Created:
    """aws.lambda.Alias."""
    client, function, name = target.client("lambda"), inputs["functionName"], inputs["name"]
    settings = {"FunctionName": function, "Name": name, "FunctionVersion": inputs["functionVersion"]}
    if not unless_exists(client.create_alias, "ResourceConflictException", **settings):
        client.update_alias(**settings)
    arn = target.arn("lambda", f"function:{function}:{name}")
    return Created(arn, {**inputs, "arn": arn, "invokeArn": arn})


def _configuration(target: Target, inputs: Inputs) -> dict[str, Any]:
    image = inputs.get("imageConfig") or {}
    variables = (inputs.get("environment") or {}).get("variables") or {}
    storage = (inputs.get("ephemeralStorage") or {}).get("size", 512)
    return {
        "Role": inputs["role"],
        "Handler": image["commands"][0] if image.get("commands") else inputs["handler"],
        "Timeout": inputs.get("timeout") or 3,
        "MemorySize": inputs.get("memorySize") or 128,
        "EphemeralStorage": {"Size": storage},
        "Environment": {"Variables": {**variables, **target.functions.environment}},
    }


def permission(target: Target, inputs: Inputs) -> Created:
    """aws.lambda.Permission."""
    client = target.client("lambda")
    statement = inputs.get("statementId") or hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()
    optional = {
        "SourceArn": inputs.get("sourceArn"),
        "SourceAccount": inputs.get("sourceAccount"),
        "Qualifier": inputs.get("qualifier"),
    }
    unless_exists(
        client.add_permission,
        "ResourceConflictException",
        FunctionName=inputs["function"],
        StatementId=statement,
        Action=inputs["action"],
        Principal=inputs["principal"],
        **{name: value for name, value in optional.items() if value},
    )
    return Created(statement, {**inputs, "statementId": statement})


def event_invoke_config(target: Target, inputs: Inputs) -> Created:
    """aws.lambda.FunctionEventInvokeConfig."""
    optional = {
        "MaximumRetryAttempts": inputs.get("maximumRetryAttempts"),
        "MaximumEventAgeInSeconds": inputs.get("maximumEventAgeInSeconds"),
    }
    failed = ((inputs.get("destinationConfig") or {}).get("onFailure") or {}).get("destination")
    if failed:
        optional["DestinationConfig"] = {"OnFailure": {"Destination": failed}}
    if qualifier := inputs.get("qualifier"):
        optional["Qualifier"] = qualifier
    target.client("lambda").put_function_event_invoke_config(
        FunctionName=inputs["functionName"],
        **{name: value for name, value in optional.items() if value is not None},
    )
    return Created(inputs["functionName"], inputs)


CREATORS: dict[str, Creator] = {
    "aws:iam/role:Role": role,
    "aws:iam/rolePolicy:RolePolicy": role_policy,
    "aws:iam/policy:Policy": managed_policy,
    "aws:iam/rolePolicyAttachment:RolePolicyAttachment": role_policy_attachment,
    "aws:cloudwatch/logGroup:LogGroup": log_group,
    "aws:lambda/function:Function": function,
    "aws:lambda/alias:Alias": alias,
    "aws:lambda/permission:Permission": permission,
    "aws:lambda/functionEventInvokeConfig:FunctionEventInvokeConfig": event_invoke_config,
}
