"""Every access to the bucket's objects is on record, if that is asked for."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from tests.infra.declared import Declared, declared

TRAIL = "arn:aws:cloudtrail:eu-west-1:123456789012:trail/chromadb-audit-dev"
LOG = "chromadb-audit-dev-123456789012"


@cache
def audited() -> Declared:
    return declared(auditTrail="true")


def part(kind: str) -> dict[str, Any]:
    (found,) = (r.inputs for r in audited().of_type(kind) if r.inputs["bucket"] == LOG)
    return found


def test_nothing_is_recorded_unless_asked_for() -> None:
    assert not list(declared().of_type("Trail"))


def test_reads_and_writes_of_the_buckets_objects_are_recorded_and_nothing_else() -> None:
    (selector,) = audited().one("Trail")["advancedEventSelectors"]
    assert selector["fieldSelectors"] == [
        {"field": "eventCategory", "equals": ["Data"]},
        {"field": "resources.type", "equals": ["AWS::S3::Object"]},
        {"field": "resources.ARN", "startsWiths": ["arn:aws:s3:::chromadb-vectors-dev-123456789012/"]},
    ]


def test_a_record_that_was_changed_afterwards_shows_it() -> None:
    assert audited().one("Trail")["enableLogFileValidation"] is True


def test_the_record_does_not_stand_in_the_bucket_that_it_is_about() -> None:
    assert audited().one("Trail")["s3BucketName"] == LOG


def test_this_trail_alone_may_write_the_record_and_plain_http_is_refused() -> None:
    refusal, check, write = json.loads(part("BucketPolicy")["policy"])["Statement"]
    assert (refusal["Effect"], refusal["Principal"]) == ("Deny", "*")
    assert [(s["Action"], s["Condition"]["StringEquals"]["aws:SourceArn"]) for s in (check, write)] == [
        (["s3:GetBucketAcl"], TRAIL),
        (["s3:PutObject"], TRAIL),
    ]


def test_the_record_is_kept_for_a_year() -> None:
    (rule,) = part("BucketLifecycleConfiguration")["rules"]
    assert rule["expiration"] == {"days": 365}
