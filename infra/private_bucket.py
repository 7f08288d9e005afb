"""The kind of bucket that the whole stack uses: versioned, encrypted, not public, TLS only."""

from __future__ import annotations

import json
from typing import Any

import pulumi
from pulumi_aws import s3

from infra.config import CompactionConfig
from infra.data_protection import keep_data
from infra.iam_policies import Statement

TIERING_CLASS = "INTELLIGENT_TIERING"


class PrivateBucket(pulumi.ComponentResource):
    """One bucket and its parts, named `{logical}-versioning` and so on.

    Pulumi refuses to delete any of them, and empties the bucket only if `protectData` is false.

    Args:
        logical: The bucket's name in Pulumi.
        name: The bucket's name in AWS.
        config: The settings, for the protection of data.
        kms_key_arn: The key that encrypts the objects. None means S3's own key.
        region: The bucket's region. None means the stack's region.
        statements: Additional statements of the bucket policy.
        opts: Pulumi's options for the component.
    """

    def __init__(
        self,
        logical: str,
        name: str,
        config: CompactionConfig,
        *,
        kms_key_arn: str | None = None,
        region: str | None = None,
        statements: list[Statement] | None = None,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("chromadb:storage:PrivateBucket", logical, opts=opts)
        self._logical, self._region, self._config = logical, region, config
        child = keep_data(config, self)
        self.bucket = s3.Bucket(logical, bucket=name, region=region, force_destroy=not config.protect_data, opts=child)
        self.versioning = s3.BucketVersioning(
            f"{logical}-versioning",
            bucket=self.bucket.bucket,
            versioning_configuration=s3.BucketVersioningVersioningConfigurationArgs(status="Enabled"),
            region=region,
            opts=child,
        )
        self._encrypt(kms_key_arn, child)
        self._make_private(statements or [], child)
        self.register_outputs({"bucket": self.bucket.bucket})

    def set_lifecycle(self, rules: list[s3.BucketLifecycleConfigurationRuleArgs]) -> None:
        """Set the lifecycle rules."""
        s3.BucketLifecycleConfiguration(
            f"{self._logical}-lifecycle",
            bucket=self.bucket.bucket,
            rules=rules,
            region=self._region,
            # Rules for noncurrent versions need a versioned bucket.
            opts=keep_data(self._config, self, depends_on=[self.versioning]),
        )

    def _encrypt(self, kms_key_arn: str | None, child: pulumi.ResourceOptions) -> None:
        default = s3.BucketServerSideEncryptionConfigurationRuleApplyServerSideEncryptionByDefaultArgs(
            sse_algorithm="aws:kms" if kms_key_arn else "AES256", kms_master_key_id=kms_key_arn
        )
        rule = s3.BucketServerSideEncryptionConfigurationRuleArgs(
            apply_server_side_encryption_by_default=default,
            # One data key serves many objects. Without it every GET and PUT pays for a call to KMS.
            bucket_key_enabled=True if kms_key_arn else None,
        )
        s3.BucketServerSideEncryptionConfiguration(
            f"{self._logical}-encryption",
            bucket=self.bucket.bucket,
            rules=[rule],
            region=self._region,
            opts=child,
        )

    def _make_private(self, statements: list[Statement], child: pulumi.ResourceOptions) -> None:
        block = s3.BucketPublicAccessBlock(
            f"{self._logical}-public-access",
            bucket=self.bucket.bucket,
            block_public_acls=True,
            block_public_policy=True,
            ignore_public_acls=True,
            restrict_public_buckets=True,
            region=self._region,
            opts=child,
        )
        s3.BucketOwnershipControls(
            f"{self._logical}-ownership",
            bucket=self.bucket.bucket,
            rule=s3.BucketOwnershipControlsRuleArgs(object_ownership="BucketOwnerEnforced"),
            region=self._region,
            opts=child,
        )
        self.policy = s3.BucketPolicy(
            f"{self._logical}-policy",
            bucket=self.bucket.bucket,
            policy=self.bucket.arn.apply(lambda arn: json.dumps(tls_only(arn, statements))),
            region=self._region,
            # S3 refuses concurrent changes of the two.
            opts=keep_data(self._config, self, depends_on=[block]),
        )


def lifecycle_rule(
    name: str, prefix: str, *, versions: int, expire: int | None = None, tier: int | None = None
) -> s3.BucketLifecycleConfigurationRuleArgs:
    """Return a rule for a prefix. `expire` and `tier` count days of objects, `versions` days of noncurrent versions."""
    transition = s3.BucketLifecycleConfigurationRuleTransitionArgs
    return s3.BucketLifecycleConfigurationRuleArgs(
        id=name,
        status="Enabled",
        filter=s3.BucketLifecycleConfigurationRuleFilterArgs(prefix=prefix),
        expiration=s3.BucketLifecycleConfigurationRuleExpirationArgs(days=expire) if expire else None,
        transitions=[transition(days=tier, storage_class=TIERING_CLASS)] if tier else None,
        noncurrent_version_expiration=s3.BucketLifecycleConfigurationRuleNoncurrentVersionExpirationArgs(
            noncurrent_days=versions
        ),
    )


def tls_only(bucket_arn: str, statements: list[Statement]) -> dict[str, Any]:
    """Return the bucket policy: requests without TLS are denied, and `statements` apply."""
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
            },
            *statements,
        ],
    }
