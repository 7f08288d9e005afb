from __future__ import annotations

from collections.abc import Callable
from typing import cast

import boto3
import pytest

from chromadb_compaction.aws.account import Account, IdentityProbe, Probe
from chromadb_compaction.cli.views import checks
from chromadb_compaction.cli.views.checks import (
    check_deployed,
    check_identity,
    check_permissions,
    check_settings,
    check_snapshot,
    check_versions,
    found,
)
from chromadb_compaction.layout import pointer_key
from tests.fakes.services import new_fakes

GOOD = {"CHROMADB_BUCKET": "bucket", "DYNAMODB_TABLE": "table"}


def test_good_settings_are_named() -> None:
    [finding] = check_settings(GOOD)

    assert (finding.verdict, finding.found) == ("ok", "2 set: CHROMADB_BUCKET, DYNAMODB_TABLE")


def test_every_wrong_and_misspelt_variable_is_reported() -> None:
    findings = list(
        check_settings({**GOOD, "COMPACTION_BATCHSIZE": "7", "LOCK_TIMEOUT_MINUTES": "x", "MAX_PASSES": "0"})
    )

    assert {finding.verdict for finding in findings} == {"fail"}
    reported = " ".join(finding.found for finding in findings)
    for words in ("did you mean COMPACTION_BATCH_SIZE?", "LOCK_TIMEOUT_MINUTES", "MAX_PASSES"):
        assert words in reported


def test_without_a_bucket_the_fix_is_the_line_that_sets_all_variables() -> None:
    [finding] = check_settings({})

    assert finding.verdict == "fail"
    assert 'eval "$(chromadb-compaction local env)"' in str(finding.fix)


def test_the_installed_versions_are_reported() -> None:
    findings = {finding.about: finding for finding in check_versions()}

    assert findings["boto3"].found == boto3.__version__
    assert findings["chromadb"].verdict == "ok"


def test_a_chromadb_other_than_the_pinned_one_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "requires", lambda _package: ["boto3>=1", 'chromadb==99.0.1; extra == "chroma"'])

    [finding] = [finding for finding in check_versions() if finding.about == "chromadb"]

    assert (finding.verdict, finding.fix) == ("warn", "pip install chromadb==99.0.1")


@pytest.mark.parametrize(
    ("endpoint", "fix"),
    [("http://127.0.0.1:9", "chromadb-compaction local up"), ("https://sts.example.com", "check AWS_ENDPOINT_URL")],
)
def test_an_unreachable_endpoint_is_fixed_by_the_stack_or_by_the_network(endpoint: str, fix: str) -> None:
    [finding] = check_identity(IdentityProbe("unreachable", endpoint, "refused"), now=0)

    assert (finding.about, finding.verdict, finding.found) == ("endpoint", "fail", "refused")
    assert fix in str(finding.fix)


@pytest.mark.parametrize("outcome", ["no credentials", "invalid credentials"])
def test_bad_credentials_are_reported_apart_from_the_endpoint(outcome: str) -> None:
    probe = IdentityProbe(outcome, "https://sts", "ExpiredToken: sign in")  # type: ignore[arg-type] # parametrized

    endpoint, credentials = check_identity(probe, now=0)

    assert (endpoint.verdict, credentials.verdict) == ("ok", "fail")
    assert "AWS_PROFILE" in str(credentials.fix)


@pytest.mark.parametrize(("skew", "verdict"), [(59, "ok"), (-61, "warn"), (301, "fail")])
def test_a_clock_that_is_off_is_a_warning_and_five_minutes_are_a_failure(skew: float, verdict: str) -> None:
    *_, clock = check_identity(IdentityProbe("ok", "https://sts", "arn", server_time=1000 + skew), now=1000)

    assert (clock.about, clock.verdict, clock.fix is None) == ("clock", verdict, verdict == "ok")


@pytest.mark.parametrize(
    ("probe", "verdict", "fix"),
    [
        (Probe("ok"), "ok", None),
        (Probe("limited", "versioning is off"), "warn", None),
        (Probe("denied", "HeadBucket is denied"), "fail", "grant it"),
        (Probe("unreachable", "no route"), "fail", "check the endpoint"),
        (Probe("failed", "404: no message"), "fail", "deploy it"),
    ],
)
def test_a_denied_call_is_fixed_by_a_grant_and_a_missing_resource_by_a_deployment(
    probe: Probe, verdict: str, fix: str | None
) -> None:
    finding = found("bucket", "the-bucket", probe)

    assert finding.verdict == verdict
    assert finding.found.startswith("the-bucket")
    assert probe.text in finding.found
    assert finding.fix is None if fix is None else str(finding.fix).startswith(fix)


def test_an_unreadable_snapshot_is_a_failure_and_no_snapshot_is_not() -> None:
    fakes = new_fakes()

    before = check_snapshot(fakes.services)
    fakes.objects.put(pointer_key(), b"no pointer")
    after = check_snapshot(fakes.services)

    assert (before.verdict, after.verdict) == ("ok", "fail")
    assert after.fix == "chromadb-compaction snapshots verify"


def deployed(**changes: str) -> dict[str, str]:
    return {"CHROMADB_BUCKET": "bucket", "DYNAMODB_TABLE": "table", "DELTA_PREFIX": "delta/", **changes}


@pytest.mark.parametrize(
    "variable", ["CHROMADB_BUCKET", "DELTA_PREFIX", "SNAPSHOT_PREFIX", "DYNAMODB_TABLE", "LOCK_ID"]
)
def test_a_setting_that_differs_from_the_functions_is_named_with_both_values(variable: str) -> None:
    settings = new_fakes(dynamodb_table="table").settings

    (finding,) = check_deployed(deployed(**{variable: "other/"}), settings, "compactor-dev")

    assert finding.verdict == "fail"
    assert finding.found.startswith(f"{variable} is ")
    assert "other/ in compactor-dev" in finding.found


def test_settings_as_deployed_give_no_finding() -> None:
    settings = new_fakes(dynamodb_table="table").settings

    assert list(check_deployed(deployed(), settings, "compactor-dev")) == []


def test_a_setting_that_is_not_set_here_is_not_compared() -> None:
    settings = new_fakes().settings

    assert list(check_deployed(deployed(), settings, "compactor-dev")) == []


def test_versioning_that_is_suspended_is_a_warning_with_the_command_that_enables_it() -> None:
    class Suspended:
        def __getattr__(self, _probe: str) -> Callable[..., Probe]:
            return lambda *_: Probe("limited", "versioning is Suspended: overwritten objects are lost")

    bucket, *_ = check_permissions(cast("Account", Suspended()), new_fakes().settings)

    assert (bucket.about, bucket.verdict) == ("bucket", "warn")
    assert str(bucket.fix).endswith("--bucket bucket --versioning-configuration Status=Enabled")
