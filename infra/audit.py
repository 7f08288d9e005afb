"""A trail of the bucket's data events: reads, writes and deletes of objects."""

from __future__ import annotations

import pulumi
from pulumi_aws import cloudtrail, s3

from infra.config import CompactionConfig
from infra.iam_service_policies import receive_audit_logs
from infra.names import StackNames
from infra.private_bucket import PrivateBucket, lifecycle_rule

LOG_DAYS = 365


class AuditTrail(pulumi.ComponentResource):
    """The trail and its log bucket. In the vector bucket the trail would record its own writes."""

    def __init__(
        self,
        names: StackNames,
        config: CompactionConfig,
        *,
        bucket: s3.Bucket,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("chromadb:audit:AuditTrail", "chromadb-audit", opts=opts)
        log = PrivateBucket(
            "chromadb-audit-bucket",
            names.audit_bucket,
            config,
            statements=receive_audit_logs(names.bucket_arn(names.audit_bucket), names.trail_arn, names.account),
            opts=pulumi.ResourceOptions(parent=self),
        )
        log.set_lifecycle([lifecycle_rule("logs", "", expire=LOG_DAYS, versions=1)])
        cloudtrail.Trail(
            "chromadb-audit-trail",
            name=names.trail,
            s3_bucket_name=log.bucket.bucket,
            # Digests of the log files show later changes.
            enable_log_file_validation=True,
            include_global_service_events=False,
            advanced_event_selectors=[
                cloudtrail.TrailAdvancedEventSelectorArgs(
                    name="objects of the vector bucket", field_selectors=bucket.arn.apply(_objects_of)
                )
            ],
            opts=pulumi.ResourceOptions(parent=self, depends_on=[log.policy]),
        )
        self.register_outputs({"bucket": log.bucket.bucket})


def _objects_of(bucket_arn: str) -> list[cloudtrail.TrailAdvancedEventSelectorFieldSelectorArgs]:
    selector = cloudtrail.TrailAdvancedEventSelectorFieldSelectorArgs
    return [
        selector(field="eventCategory", equals=["Data"]),
        selector(field="resources.type", equals=["AWS::S3::Object"]),
        selector(field="resources.ARN", starts_withs=[f"{bucket_arn}/"]),
    ]
