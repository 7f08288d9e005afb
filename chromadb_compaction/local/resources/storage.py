"""The bucket, the lock table and the queues."""

from __future__ import annotations

import json
from typing import Any

from chromadb_compaction.local.resources.clients import Created, Creator, Inputs, Target, aws_shape, unless_exists


def bucket(target: Target, inputs: Inputs) -> Created:
    """aws.s3.Bucket."""
    name, region = inputs["bucket"], inputs.get("region") or target.aws.region
    # S3 accepts no location constraint for us-east-1, which is the server's own region.
    location = {} if region == target.aws.region else {"CreateBucketConfiguration": {"LocationConstraint": region}}
    known = ("BucketAlreadyOwnedByYou", "BucketAlreadyExists")
    unless_exists(target.client("s3").create_bucket, *known, Bucket=name, **location)
    return Created(name, {**inputs, "arn": f"arn:aws:s3:::{name}", "region": region})


def bucket_versioning(target: Target, inputs: Inputs) -> Created:
    """aws.s3.BucketVersioning."""
    target.client("s3").put_bucket_versioning(
        Bucket=inputs["bucket"], VersioningConfiguration=aws_shape(inputs["versioningConfiguration"])
    )
    return Created(inputs["bucket"], inputs)


def bucket_encryption(target: Target, inputs: Inputs) -> Created:
    """aws.s3.BucketServerSideEncryptionConfiguration."""
    rules = [_encryption(rule) for rule in inputs["rules"]]
    target.client("s3").put_bucket_encryption(
        Bucket=inputs["bucket"], ServerSideEncryptionConfiguration={"Rules": rules}
    )
    return Created(inputs["bucket"], inputs)


def _encryption(rule: dict[str, Any]) -> dict[str, Any]:
    default = rule["applyServerSideEncryptionByDefault"]
    key = {"KMSMasterKeyID": default["kmsMasterKeyId"]} if default.get("kmsMasterKeyId") else {}
    return {
        "ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": default["sseAlgorithm"], **key},
        "BucketKeyEnabled": bool(rule.get("bucketKeyEnabled")),
    }


def bucket_replication(target: Target, inputs: Inputs) -> Created:
    """aws.s3.BucketReplicationConfig."""
    target.client("s3").put_bucket_replication(
        Bucket=inputs["bucket"],
        ReplicationConfiguration={"Role": inputs["role"], "Rules": aws_shape(inputs["rules"])},
    )
    return Created(inputs["bucket"], inputs)


def bucket_lifecycle(target: Target, inputs: Inputs) -> Created:
    """aws.s3.BucketLifecycleConfiguration."""
    target.client("s3").put_bucket_lifecycle_configuration(
        Bucket=inputs["bucket"], LifecycleConfiguration={"Rules": aws_shape(inputs["rules"])}
    )
    return Created(inputs["bucket"], inputs)


def public_access_block(target: Target, inputs: Inputs) -> Created:
    """aws.s3.BucketPublicAccessBlock."""
    names = ("blockPublicAcls", "blockPublicPolicy", "ignorePublicAcls", "restrictPublicBuckets")
    target.client("s3").put_public_access_block(
        Bucket=inputs["bucket"],
        PublicAccessBlockConfiguration=aws_shape({name: inputs.get(name, False) for name in names}),
    )
    return Created(inputs["bucket"], inputs)


def ownership_controls(target: Target, inputs: Inputs) -> Created:
    """aws.s3.BucketOwnershipControls."""
    target.client("s3").put_bucket_ownership_controls(
        Bucket=inputs["bucket"], OwnershipControls={"Rules": [aws_shape(inputs["rule"])]}
    )
    return Created(inputs["bucket"], inputs)


def bucket_policy(target: Target, inputs: Inputs) -> Created:
    """aws.s3.BucketPolicy, without the statements that refuse plain HTTP: the server speaks nothing else."""
    policy = json.loads(inputs["policy"])
    policy["Statement"] = [statement for statement in policy["Statement"] if not refuses_plain_http(statement)]
    if policy["Statement"]:
        target.client("s3").put_bucket_policy(Bucket=inputs["bucket"], Policy=json.dumps(policy))
    return Created(inputs["bucket"], inputs)


def refuses_plain_http(statement: dict[str, Any]) -> bool:
    """Return whether a policy statement applies only to requests without TLS."""
    return statement.get("Condition") == {"Bool": {"aws:SecureTransport": "false"}}


def table(target: Target, inputs: Inputs) -> Created:
    """aws.dynamodb.Table."""
    dynamodb, name = target.client("dynamodb"), inputs["name"]
    keys = [(inputs["hashKey"], "HASH"), *([(inputs["rangeKey"], "RANGE")] if inputs.get("rangeKey") else [])]
    protected = bool(inputs.get("deletionProtectionEnabled"))
    new = unless_exists(
        dynamodb.create_table,
        "ResourceInUseException",
        TableName=name,
        DeletionProtectionEnabled=protected,
        BillingMode=inputs["billingMode"],
        KeySchema=[{"AttributeName": key, "KeyType": kind} for key, kind in keys],
        AttributeDefinitions=[{"AttributeName": a["name"], "AttributeType": a["type"]} for a in inputs["attributes"]],
    )
    if not new:
        dynamodb.update_table(TableName=name, DeletionProtectionEnabled=protected)
    if ttl := inputs.get("ttl"):
        unless_exists(
            dynamodb.update_time_to_live,
            "ValidationException",
            TableName=name,
            TimeToLiveSpecification=aws_shape(ttl),
        )
    return Created(name, {**inputs, "arn": target.arn("dynamodb", f"table/{name}")})


def queue(target: Target, inputs: Inputs) -> Created:
    """aws.sqs.Queue."""
    sqs = target.client("sqs")
    attributes = {
        "MessageRetentionPeriod": inputs.get("messageRetentionSeconds"),
        "VisibilityTimeout": inputs.get("visibilityTimeoutSeconds"),
        "RedrivePolicy": inputs.get("redrivePolicy"),
    }
    url = sqs.create_queue(QueueName=inputs["name"])["QueueUrl"]
    given = {name: str(value) for name, value in attributes.items() if value is not None}
    if given:
        sqs.set_queue_attributes(QueueUrl=url, Attributes=given)
    return Created(url, {**inputs, "url": url, "arn": target.arn("sqs", inputs["name"])})


def queue_policy(target: Target, inputs: Inputs) -> Created:
    """aws.sqs.QueuePolicy."""
    target.client("sqs").set_queue_attributes(QueueUrl=inputs["queueUrl"], Attributes={"Policy": inputs["policy"]})
    return Created(inputs["queueUrl"], inputs)


CREATORS: dict[str, Creator] = {
    "aws:s3/bucket:Bucket": bucket,
    "aws:s3/bucketVersioning:BucketVersioning": bucket_versioning,
    "aws:s3/bucketServerSideEncryptionConfiguration:BucketServerSideEncryptionConfiguration": bucket_encryption,
    "aws:s3/bucketLifecycleConfiguration:BucketLifecycleConfiguration": bucket_lifecycle,
    "aws:s3/bucketReplicationConfig:BucketReplicationConfig": bucket_replication,
    "aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock": public_access_block,
    "aws:s3/bucketOwnershipControls:BucketOwnershipControls": ownership_controls,
    "aws:s3/bucketPolicy:BucketPolicy": bucket_policy,
    "aws:dynamodb/table:Table": table,
    "aws:sqs/queue:Queue": queue,
    "aws:sqs/queuePolicy:QueuePolicy": queue_policy,
}
