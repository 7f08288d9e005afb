"""The vector bucket with its lifecycle rules, and the replica of its snapshots in another region."""

from __future__ import annotations

import pulumi
from pulumi_aws import s3

from chromadb_compaction.layout import (
    COMPACTED_PREFIX,
    DELTA_PREFIX,
    QUARANTINE_PREFIX,
    SNAPSHOT_PREFIX,
    WORK_PREFIX,
)
from infra.config import CompactionConfig
from infra.iam_people import objects_for_accounts
from infra.iam_policies import trust
from infra.iam_roles import ServiceRole
from infra.iam_service_policies import ReplicaKeys, replicate
from infra.names import REPLICATED, StackNames
from infra.private_bucket import TIERING_CLASS, PrivateBucket, lifecycle_rule

WORK_DAYS = 3
# Intelligent-Tiering moves objects that nobody reads to cheaper storage. Most snapshots are pruned within a week; the
# older files are shared by many snapshots or kept by a long retention. Objects under 128 KB do not move.
TIERING_DAYS = 7


class VectorBucket(pulumi.ComponentResource):
    """The bucket for deltas, work and snapshots."""

    def __init__(
        self, names: StackNames, config: CompactionConfig, *, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("chromadb:storage:VectorBucket", "chromadb-vectors", opts=opts)
        self.private = PrivateBucket(
            "chromadb-vectors-bucket",
            names.bucket,
            config,
            kms_key_arn=config.kms_key_arn,
            statements=objects_for_accounts(names, config),
            opts=pulumi.ResourceOptions(parent=self),
        )
        self.bucket = self.private.bucket
        self.private.set_lifecycle(lifecycle_rules(config))
        self.register_outputs({"bucket": self.bucket.bucket})


class SnapshotReplica(pulumi.ComponentResource):
    """A copy of snapshot/ and delta/ in another region, including deletions. It lags by minutes.

    S3 copies objects in any order: a pointer may arrive before the files that it names. It never copies what was
    written before replication was set up: https://docs.aws.amazon.com/AmazonS3/latest/userguide/replication-how-setup.html.
    `chromadb-compaction replica copy` does that once.
    """

    def __init__(
        self,
        names: StackNames,
        config: CompactionConfig,
        *,
        region: str,
        source: PrivateBucket,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("chromadb:storage:SnapshotReplica", "chromadb-replica", opts=opts)
        replica = PrivateBucket(
            "chromadb-replica-bucket",
            names.replica_bucket,
            config,
            kms_key_arn=config.replica_kms_key_arn,
            region=region,
            opts=pulumi.ResourceOptions(parent=self),
        )
        replica.set_lifecycle(
            [
                lifecycle_rule("snapshot-versions", SNAPSHOT_PREFIX, versions=config.snapshot_version_days),
                lifecycle_rule("delta-versions", DELTA_PREFIX, versions=config.version_retention_days),
                _leftovers(),
            ]
        )
        keys = _keys(names, config, region)
        role = ServiceRole(
            f"{names.state_machine}-copy",
            logical="chromadb-replica-role",
            # AWS documents no condition that S3 fulfils when it assumes a role for replication.
            # https://docs.aws.amazon.com/AmazonS3/latest/userguide/setting-repl-config-perm-overview.html
            trusted=trust("s3.amazonaws.com"),
            config=config,
            statements=pulumi.Output.all(source.bucket.arn, replica.bucket.arn).apply(
                lambda arns: replicate(arns[0], arns[1], keys)
            ),
            opts=pulumi.ResourceOptions(parent=self),
        )
        s3.BucketReplicationConfig(
            "chromadb-replica-rule",
            bucket=source.bucket.bucket,
            role=role.arn,
            rules=[
                replication_rule(rule, prefix, priority, replica.bucket.arn, config)
                for priority, (rule, prefix) in enumerate(REPLICATED.items())
            ],
            opts=pulumi.ResourceOptions(parent=self, depends_on=[source.versioning, replica.versioning, role.policy]),
        )
        self.register_outputs({"bucket": replica.bucket.bucket})


def replication_rule(
    name: str, prefix: str, priority: int, replica_arn: pulumi.Input[str], config: CompactionConfig
) -> s3.BucketReplicationConfigRuleArgs:
    """Return the rule that copies the objects under a prefix and their deletions, and counts failures."""
    key, replica_key = config.kms_key_arn, config.replica_kms_key_arn
    encrypted = s3.BucketReplicationConfigRuleSourceSelectionCriteriaSseKmsEncryptedObjectsArgs(status="Enabled")
    reencryption = s3.BucketReplicationConfigRuleDestinationEncryptionConfigurationArgs
    return s3.BucketReplicationConfigRuleArgs(
        id=name,
        status="Enabled",
        priority=priority,
        filter=s3.BucketReplicationConfigRuleFilterArgs(prefix=prefix),
        delete_marker_replication=s3.BucketReplicationConfigRuleDeleteMarkerReplicationArgs(status="Enabled"),
        source_selection_criteria=s3.BucketReplicationConfigRuleSourceSelectionCriteriaArgs(
            sse_kms_encrypted_objects=encrypted
        )
        if key
        else None,
        destination=s3.BucketReplicationConfigRuleDestinationArgs(
            bucket=replica_arn,
            storage_class=TIERING_CLASS,
            metrics=s3.BucketReplicationConfigRuleDestinationMetricsArgs(status="Enabled"),
            encryption_configuration=reencryption(replica_kms_key_id=replica_key) if replica_key else None,
        ),
    )


def _keys(names: StackNames, config: CompactionConfig, region: str) -> ReplicaKeys | None:
    if config.kms_key_arn is None or config.replica_kms_key_arn is None:
        return None
    return ReplicaKeys(
        (config.kms_key_arn, *config.former_kms_key_arns),
        names.s3_endpoint(names.region),
        config.replica_kms_key_arn,
        names.s3_endpoint(region),
    )


def lifecycle_rules(config: CompactionConfig) -> list[s3.BucketLifecycleConfigurationRuleArgs]:
    """Return the lifecycle rules. No rule expires a current object of delta/, quarantine/ or snapshot/.

    Deleted objects of delta/ and quarantine/ can be restored for `version_retention_days`. Longer would slow down every
    listing of delta/, which reads all delete markers, and compacted/ holds the merged deltas anyway. The versions of
    snapshot/ are whole indexes, the largest objects. Pruning keeps snapshots for `snapshot_retention`; after that their
    versions remain for `snapshot_version_days`. An older version of snapshot/CURRENT names files that are deleted.
    """
    return [
        lifecycle_rule("compacted", COMPACTED_PREFIX, expire=config.compacted_retention_days, versions=1),
        lifecycle_rule("work", WORK_PREFIX, expire=WORK_DAYS, versions=1),
        lifecycle_rule("delta-versions", DELTA_PREFIX, versions=config.version_retention_days),
        lifecycle_rule("quarantine-versions", QUARANTINE_PREFIX, versions=config.version_retention_days),
        lifecycle_rule("snapshot-versions", SNAPSHOT_PREFIX, versions=config.snapshot_version_days, tier=TIERING_DAYS),
        _leftovers(),
    ]


def _leftovers() -> s3.BucketLifecycleConfigurationRuleArgs:
    return s3.BucketLifecycleConfigurationRuleArgs(
        id="leftovers",
        status="Enabled",
        filter=s3.BucketLifecycleConfigurationRuleFilterArgs(prefix=""),
        # This removes delete markers without versions, never an object with content.
        expiration=s3.BucketLifecycleConfigurationRuleExpirationArgs(expired_object_delete_marker=True),
        # A function runs for 15 minutes at most, and so does its upload.
        abort_incomplete_multipart_upload=s3.BucketLifecycleConfigurationRuleAbortIncompleteMultipartUploadArgs(
            days_after_initiation=1
        ),
    )
