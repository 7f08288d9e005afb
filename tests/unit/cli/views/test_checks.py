from __future__ import annotations

from collections.abc import Callable
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from chromadb_compaction.cli.views import checks
from chromadb_compaction.cli.views.checks import (
    CheckClients,
    check_identity,
    check_settings,
    check_snapshot,
    check_versions,
    tried,
)
from chromadb_compaction.layout import pointer_key
from tests.fakes.services import new_fakes

GOOD = {"CHROMADB_BUCKET": "bucket", "DYNAMODB_TABLE": "table"}


def failing(error: Exception) -> Callable[[str], None]:
    def call(_name: str) -> None:
        raise error

    return call


def test_good_settings_are_named() -> None:
    [finding] = check_settings(GOOD)

    assert (finding.verdict, finding.found) == ("ok", "2 set: CHROMADB_BUCKET, DYNAMODB_TABLE")


def test_every_wrong_and_misspelt_variable_is_told_at_once() -> None:
    findings = list(
        check_settings({**GOOD, "COMPACTION_BATCHSIZE": "7", "LOCK_TIMEOUT_MINUTES": "x", "MAX_PASSES": "0"})
    )

    assert {finding.verdict for finding in findings} == {"fail"}
    told = " ".join(finding.found for finding in findings)
    for words in ("did you mean COMPACTION_BATCH_SIZE?", "LOCK_TIMEOUT_MINUTES", "MAX_PASSES"):
        assert words in told


def test_without_a_bucket_the_mend_is_the_line_that_sets_them_all() -> None:
    [finding] = check_settings({})

    assert finding.verdict == "fail"
    assert 'eval "$(chromadb-compaction local env)"' in str(finding.mend)


def test_the_versions_are_those_installed() -> None:
    findings = {finding.about: finding for finding in check_versions()}

    assert findings["boto3"].found == boto3.__version__
    assert findings["chromadb"].verdict == "ok"


def test_a_chromadb_other_than_the_pinned_one_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "requires", lambda _package: ["boto3>=1", 'chromadb==99.0.1; extra == "chroma"'])

    [finding] = [finding for finding in check_versions() if finding.about == "chromadb"]

    assert (finding.verdict, finding.mend) == ("warn", "pip install chromadb==99.0.1")


def test_an_endpoint_that_does_not_answer_is_told_from_bad_credentials() -> None:
    session: Any = boto3.Session(aws_access_key_id="test", aws_secret_access_key="test", region_name="us-east-1")
    quick = Config(connect_timeout=1, retries={"total_max_attempts": 1})

    class Unreachable(boto3.Session):
        def client(self, name: str, **options: object) -> Any:  # type: ignore[override] # one signature per service
            return session.client(name, endpoint_url="http://127.0.0.1:9", **options)

    [finding] = check_identity(CheckClients(Unreachable(), quick), now=0)

    assert (finding.about, finding.verdict) == ("endpoint", "fail")
    assert "chromadb-compaction local up" in str(finding.mend)


@pytest.mark.parametrize(
    ("code", "mend"),
    [("AccessDenied", "grant it"), ("403", "grant it"), ("404", "deploy it"), ("NoSuchBucket", "deploy")],
)
def test_a_refusal_is_mended_by_a_grant_and_an_absence_by_a_deployment(code: str, mend: str) -> None:
    error = ClientError({"Error": {"Code": code, "Message": "no"}}, "HeadBucket")

    finding = tried("bucket", "the-bucket", failing(error))

    assert finding.verdict == "fail"
    assert "the-bucket" in finding.found
    assert str(finding.mend).startswith(mend)


def test_what_answers_with_a_complaint_is_a_warning() -> None:
    assert tried("bucket", "b", lambda _: "versioning is off").verdict == "warn"
    assert tried("bucket", "b", lambda _: None).verdict == "ok"


def test_a_snapshot_that_cannot_be_read_is_a_failure_and_none_at_all_is_not() -> None:
    fakes = new_fakes()

    before = check_snapshot(fakes.services)
    fakes.objects.put(pointer_key(), b"no pointer")
    after = check_snapshot(fakes.services)

    assert (before.verdict, after.verdict) == ("ok", "fail")
    assert after.mend == "chromadb-compaction snapshots verify"
