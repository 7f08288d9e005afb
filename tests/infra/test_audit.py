"""The audit trail records every access to the bucket's objects, if it is switched on."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from tests.infra.declared import Declared, declared

TRAIL = "arn:aws:cloudtrail:eu-west-1:123456789012:trail/chromadb-audit-dev"
LOG_BUCKET = "chromadb-audit-dev-123456789012"


@cache
def audited() -> Declared:
    return declared(auditTrail="true")


def part(kind: str) -> dict[str, Any]:
    (found,) = (r.inputs for r in audited().of_type(kind) if r.inputs["bucket"] == LOG_BUCKET)
    return found


def test_there_is_no_trail_by_default() -> None:
    assert not list(declared().of_type("Trail"))


def test_the_trail_records_reads_and_writes_of_the_buckets_objects_and_nothing_else() -> None:
    (selector,) = audited().one("Trail")["advancedEventSelectors"]
    assert selector["fieldSelectors"] == [
        {"field": "eventCategory", "equals": ["Data"]},
        {"field": "resources.type", "equals": ["AWS::S3::Object"]},
        {"field": "resources.ARN", "startsWiths": ["arn:aws:s3:::chromadb-vectors-dev-123456789012/"]},
    ]


def test_later_changes_of_the_log_can_be_detected() -> None:
    assert audited().one("Trail")["enableLogFileValidation"] is True


def test_the_log_is_not_in_the_bucket_that_the_trail_records() -> None:
    assert audited().one("Trail")["s3BucketName"] == LOG_BUCKET


def test_only_this_trail_may_write_the_log_and_plain_http_is_denied() -> None:
    deny, check, write = json.loads(part("BucketPolicy")["policy"])["Statement"]
    assert (deny["Effect"], deny["Principal"]) == ("Deny", "*")
    assert [(s["Action"], s["Condition"]["StringEquals"]["aws:SourceArn"]) for s in (check, write)] == [
        (["s3:GetBucketAcl"], TRAIL),
        (["s3:PutObject"], TRAIL),
    ]


def test_the_log_is_kept_for_a_year() -> None:
    (rule,) = part("BucketLifecycleConfiguration")["rules"]
    assert rule["expiration"] == {"days": 365}
