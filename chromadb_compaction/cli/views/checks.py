"""The checks of `doctor`. They change nothing and print nothing: each yields findings."""

from __future__ import annotations

import platform
import re
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, requires, version
from typing import Literal, NamedTuple

from chromadb_compaction.aws.account import Account, IdentityProbe, Probe
from chromadb_compaction.cli.common.clients import SET_ALL
from chromadb_compaction.errors import (
    CompactionError,
    NewerFormatError,
    NoSnapshotError,
    ObjectMissingError,
    SnapshotCorruptError,
)
from chromadb_compaction.ports import Services
from chromadb_compaction.settings import Settings, settings_problems, settings_set
from chromadb_compaction.snapshots.missing_pointer import missing_pointer
from chromadb_compaction.snapshots.pointer import read_manifest, read_pointer

Verdict = Literal["ok", "warn", "fail"]


DEPLOY = "deploy it, or correct the variable: pulumi up; pulumi stack output --shell"
GRANT = "grant it to the identity above, or use an identity that has it"
MAX_SKEW_WITHOUT_WARNING, MAX_SKEW = 60, 300
"""Seconds between this machine's clock and AWS's. AWS rejects signatures that are five minutes off."""

SHARED = ("CHROMADB_BUCKET", "DELTA_PREFIX", "SNAPSHOT_PREFIX", "DYNAMODB_TABLE", "LOCK_ID", "DELTA_QUEUE_URL")
"""Settings that must be the same for the commands and the functions, or each works on other objects."""

_FIXES = {"denied": GRANT, "unreachable": "check the endpoint and the network", "failed": DEPLOY}


class Finding(NamedTuple):
    """One line of the report. `fix` says what to do. It is None if nothing is wrong."""

    about: str
    verdict: Verdict
    found: str
    fix: str | None = None


def check_versions() -> Iterator[Finding]:
    """Check the versions of the installed packages."""
    yield Finding("python", "ok", platform.python_version())
    pinned = _pinned_chromadb()
    for package in ("chromadb-compaction", "boto3", "chromadb"):
        try:
            installed = version(package)
        except PackageNotFoundError:
            missing = "not installed; needed only to open snapshots on this machine"
            yield Finding(package, "ok" if package == "chromadb" else "warn", missing)
            continue
        if package == "chromadb" and pinned not in (None, installed):
            fix = f"pip install chromadb=={pinned}"
            yield Finding(package, "warn", f"{installed}; the functions write with {pinned}", fix)
        else:
            yield Finding(package, "ok", installed)


def _pinned_chromadb() -> str | None:
    """Return the version of ChromaDB that this package's `chroma` extra pins: the functions write with it."""
    try:
        requirements = requires("chromadb-compaction") or []
    except PackageNotFoundError:
        return None
    pins = (re.match(r"chromadb==([\w.]+)", requirement) for requirement in requirements)
    return next((pin[1] for pin in pins if pin), None)


def check_settings(environment: Mapping[str, str]) -> Iterator[Finding]:
    """Check the environment variables: set, valid and spelt correctly."""
    problems = settings_problems(environment)
    has_bucket = bool(environment.get("CHROMADB_BUCKET"))
    if not has_bucket:
        yield Finding("settings", "fail", "CHROMADB_BUCKET is not set", SET_ALL)
        problems = [each for each in problems if "CHROMADB_BUCKET" not in each]
    for problem in problems:
        yield Finding("settings", "fail", problem, "correct it, or unset it")
    if has_bucket and not problems:
        names = settings_set(environment)
        yield Finding("settings", "ok", f"{len(names)} set: {', '.join(names)}")


def check_identity(identity: IdentityProbe, now: float) -> Iterator[Finding]:
    """Check the endpoint, the credentials and this machine's clock at `now`."""
    if identity.outcome == "no region":
        yield Finding("endpoint", "fail", "no region is set", "set AWS_REGION, for example to us-east-1")
        return
    if identity.outcome == "unreachable":
        yield Finding("endpoint", "fail", identity.text, _fix_endpoint(identity.endpoint))
        return
    yield Finding("endpoint", "ok", identity.endpoint)
    if identity.outcome == "no credentials":
        yield Finding("credentials", "fail", "there are none", "aws configure sso, or set AWS_PROFILE")
    elif identity.outcome == "invalid credentials":
        fix = "aws sso login, or set AWS_PROFILE to a profile that is valid"
        yield Finding("credentials", "fail", identity.text, fix)
    else:
        yield Finding("credentials", "ok", identity.text)
        if identity.server_time is not None:
            yield _check_clock(abs(identity.server_time - now))


def check_permissions(account: Account, settings: Settings) -> Iterator[Finding]:
    """Probe each resource that the commands use."""
    bucket, table, machine = settings.chromadb_bucket, settings.dynamodb_table, settings.state_machine_arn
    bucket_finding = found("bucket", bucket, account.probe_bucket(bucket, settings.delta_prefix))
    versioning = f"aws s3api put-bucket-versioning --bucket {bucket} --versioning-configuration Status=Enabled"
    yield bucket_finding._replace(fix=versioning) if bucket_finding.verdict == "warn" else bucket_finding
    if table is None:
        yield _not_set("lock table", "DYNAMODB_TABLE")
    else:
        yield found("lock table", table, account.probe_table(table, settings.lock_id))
    probes = (
        ("queue", "DELTA_QUEUE_URL", settings.delta_queue_url, account.probe_queue),
        ("dead letters", "DELTA_DLQ_URL", settings.delta_dlq_url, account.probe_queue),
        ("state machine", "STATE_MACHINE_ARN", machine, account.probe_state_machine),
        ("compactor", "CHROMADB_COMPACTOR_FUNCTION", settings.chromadb_compactor_function, account.probe_function),
        ("query function", "CHROMADB_QUERY_FUNCTION", settings.chromadb_query_function, account.probe_function),
        ("producer", "CHROMADB_PRODUCER_FUNCTION", settings.chromadb_producer_function, account.probe_function),
        ("logs", "CHROMADB_COMPACTOR_FUNCTION", settings.chromadb_compactor_function, account.probe_logs),
    )
    for about, variable, name, probe in probes:
        yield _not_set(about, variable) if name is None else found(about, name, probe(name))


def check_deployed(deployed: Mapping[str, str], settings: Settings, function: str) -> Iterator[Finding]:
    """Compare the settings that this machine and the functions must share with a function's environment."""
    for variable in SHARED:
        field = variable.lower()
        here, there = getattr(settings, field), deployed.get(variable) or Settings.model_fields[field].get_default()
        if here is not None and str(here) != str(there):
            text = f"{variable} is {here} here, but {there or 'not set'} in {function}: commands see other objects"
            yield Finding("settings", "fail", text, "set it as the functions have it: pulumi stack output --shell")


def check_snapshot(services: Services) -> Finding:
    """Check that this version can read the published snapshot's pointer and manifest."""
    try:
        published = read_pointer(services)
        if published is None:
            error = missing_pointer(services)
            if isinstance(error, NoSnapshotError):
                return Finding("snapshot", "ok", "nothing is published yet")
            return Finding("snapshot", "fail", error.message, error.next_step)
        manifest = read_manifest(services, published.pointer)
    except (SnapshotCorruptError, ObjectMissingError) as error:
        return Finding("snapshot", "fail", str(error), "chromadb-compaction snapshots verify")
    except NewerFormatError as error:
        return Finding("snapshot", "fail", error.message, error.next_step)
    except CompactionError as error:
        return Finding("snapshot", "fail", str(error), GRANT)
    formats = f"pointer format {published.pointer.format}, manifest format {manifest.format}"
    return Finding("snapshot", "ok", f"{manifest.snapshot_id}: {formats}")


def found(about: str, name: str, probe: Probe) -> Finding:
    """Return the finding for the probe of one resource."""
    if probe.outcome == "ok":
        return Finding(about, "ok", name)
    verdict: Verdict = "warn" if probe.outcome == "limited" else "fail"
    return Finding(about, verdict, f"{name}: {probe.text}", _FIXES.get(probe.outcome))


def _not_set(about: str, variable: str) -> Finding:
    return Finding(about, "warn", f"{variable} is not set", f"set {variable} if a command needs it")


def _check_clock(skew: float) -> Finding:
    difference = f"{skew:.0f} s from AWS's clock"
    if skew <= MAX_SKEW_WITHOUT_WARNING:
        return Finding("clock", "ok", difference)
    return Finding(
        "clock",
        "fail" if skew > MAX_SKEW else "warn",
        difference,
        "correct this machine's clock: deltas are named by it",
    )


def _fix_endpoint(endpoint: str) -> str:
    if "127.0.0.1" in endpoint or "localhost" in endpoint:
        return 'start the local stack: chromadb-compaction local up --detach; eval "$(chromadb-compaction local env)"'
    return "check AWS_ENDPOINT_URL, AWS_REGION, the network and the proxy"
