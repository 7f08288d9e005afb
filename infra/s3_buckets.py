"""The bucket: versioned, encrypted, private, reached over TLS only, and tidied by rules that can lose no data."""

from __future__ import annotations

import json
from typing import Any

import pulumi
from pulumi_aws import s3

from infra.config import CompactionConfig
from infra.names import COMPACTED_PREFIX, DELTA_PREFIX, QUARANTINE_PREFIX, SNAPSHOT_PREFIX, WORK_PREFIX

WORK_DAYS = 3


class VectorBucket(pulumi.ComponentResource):
    """One bucket holds everything: deltas, work, snapshots.

    It is never emptied by Pulumi: `pulumi destroy` fails while anything is stored in it.
    """

    def __init__(self, name: str, config: CompactionConfig, *, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("chromadb:storage:VectorBucket", name, opts=opts)
        child = pulumi.ResourceOptions(parent=self)
        self.bucket = s3.Bucket("vectors", bucket=name, opts=child)
        versioning = s3.BucketVersioning(
            "vectors-versioning",
            bucket=self.bucket.bucket,
            versioning_configuration=s3.BucketVersioningVersioningConfigurationArgs(status="Enabled"),
            opts=child,
        )
        self._encrypt(child)
        self._make_private(child)
        s3.BucketLifecycleConfiguration(
            "vectors-lifecycle",
            bucket=self.bucket.bucket,
            rules=lifecycle_rules(config),
            # Rules about noncurrent versions want a versioned bucket.
            opts=pulumi.ResourceOptions(parent=self, depends_on=[versioning]),
        )
        self.register_outputs({"bucket": self.bucket.bucket})

    def _encrypt(self, child: pulumi.ResourceOptions) -> None:
        default = s3.BucketServerSideEncryptionConfigurationRuleApplyServerSideEncryptionByDefaultArgs(
            sse_algorithm="AES256"
        )
        s3.BucketServerSideEncryptionConfiguration(
            "vectors-encryption",
            bucket=self.bucket.bucket,
            rules=[s3.BucketServerSideEncryptionConfigurationRuleArgs(apply_server_side_encryption_by_default=default)],
            opts=child,
        )

    def _make_private(self, child: pulumi.ResourceOptions) -> None:
        block = s3.BucketPublicAccessBlock(
            "vectors-public-access",
            bucket=self.bucket.bucket,
            block_public_acls=True,
            block_public_policy=True,
            ignore_public_acls=True,
            restrict_public_buckets=True,
            opts=child,
        )
        s3.BucketOwnershipControls(
            "vectors-ownership",
            bucket=self.bucket.bucket,
            rule=s3.BucketOwnershipControlsRuleArgs(object_ownership="BucketOwnerEnforced"),
            opts=child,
        )
        s3.BucketPolicy(
            "vectors-policy",
            bucket=self.bucket.bucket,
            policy=self.bucket.arn.apply(lambda arn: json.dumps(tls_only(arn))),
            # S3 refuses to change both at once.
            opts=pulumi.ResourceOptions(parent=self, depends_on=[block]),
        )


def tls_only(bucket_arn: str) -> dict[str, Any]:
    """Return the bucket policy that refuses every request that is not encrypted on its way."""
    return {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Sid": "RefusePlainHttp",
                "Effect": "Deny",
                "Principal": "*",
                "Action": "s3:*",
                "Resource": [bucket_arn, f"{bucket_arn}/*"],
                "Condition": {"Bool": {"aws:SecureTransport": "false"}},
            }
        ],
    }


def lifecycle_rules(config: CompactionConfig) -> list[s3.BucketLifecycleConfigurationRuleArgs]:
    """Return the rules. None expires a current object of delta/, quarantine/ or snapshot/: only our code removes those.

    What our code or a person deletes there stays behind a delete marker and can be brought back for
    `version_retention_days`. Not for longer: a listing of delta/ walks over every marker, and compacted/ holds
    the merged deltas anyway. Versions of snapshot/ are whole indexes, the largest things here; pruning keeps
    them current for `snapshot_retention_days` first, so `snapshot_version_days` more is a rollback's reach by
    versioning alone: an older version of snapshot/CURRENT would name files that are gone.
    """
    return [
        _rule("compacted", COMPACTED_PREFIX, expire=config.compacted_retention_days, versions=1),
        _rule("work", WORK_PREFIX, expire=WORK_DAYS, versions=1),
        _rule("delta-versions", DELTA_PREFIX, versions=config.version_retention_days),
        _rule("quarantine-versions", QUARANTINE_PREFIX, versions=config.version_retention_days),
        _rule("snapshot-versions", SNAPSHOT_PREFIX, versions=config.snapshot_version_days),
        s3.BucketLifecycleConfigurationRuleArgs(
            id="leftovers",
            status="Enabled",
            filter=s3.BucketLifecycleConfigurationRuleFilterArgs(prefix=""),
            # A delete marker goes once no version is left behind it; an object with content never does.
            expiration=s3.BucketLifecycleConfigurationRuleExpirationArgs(expired_object_delete_marker=True),
            # No upload outlives its function's 15 minutes.
            abort_incomplete_multipart_upload=s3.BucketLifecycleConfigurationRuleAbortIncompleteMultipartUploadArgs(
                days_after_initiation=1
            ),
        ),
    ]


def _rule(
    name: str, prefix: str, *, versions: int, expire: int | None = None
) -> s3.BucketLifecycleConfigurationRuleArgs:
    return s3.BucketLifecycleConfigurationRuleArgs(
        id=name,
        status="Enabled",
        filter=s3.BucketLifecycleConfigurationRuleFilterArgs(prefix=prefix),
        expiration=s3.BucketLifecycleConfigurationRuleExpirationArgs(days=expire) if expire else None,
        noncurrent_version_expiration=s3.BucketLifecycleConfigurationRuleNoncurrentVersionExpirationArgs(
            noncurrent_days=versions
        ),
    )
