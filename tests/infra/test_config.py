"""Every setting has a default that the functions share, and a wrong value is refused by name."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pulumi.runtime import set_all_config

from infra.config import CompactionConfig, ConfigurationRefused, load_config, parse_config
from tests.infra.declared import IMAGE, declared


@pytest.fixture(autouse=True)
def _leave_no_configuration() -> Iterator[None]:
    yield
    set_all_config({})


def config(**values: object) -> CompactionConfig:
    return parse_config({"imageUri": IMAGE, **values})


def test_compaction_runs_every_fifteen_minutes_unless_told_otherwise() -> None:
    assert (config().compaction_schedule, config().enable_compaction) == ("rate(15 minutes)", True)


def test_settings_are_read_from_the_namespace_of_the_stack() -> None:
    set_all_config({"chromadb:imageUri": IMAGE, "chromadb:lockTimeoutMinutes": "30", "aws:region": "eu-west-1"})
    assert load_config().lock_timeout_minutes == 30


def test_settings_are_read_from_the_environment_in_which_pulumi_runs_a_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PULUMI_CONFIG", f'{{"chromadb:imageUri": "{IMAGE}", "chromadb:maxPasses": "3"}}')
    assert load_config().max_passes == 3


@pytest.mark.parametrize(
    "schedule", ["rate(1 minute)", "rate(2 minutes)", "rate(10 hours)", "rate(1 day)", "cron(0 3 * * ? *)"]
)
def test_every_kind_of_schedule_is_accepted(schedule: str) -> None:
    assert config(compactionSchedule=schedule).compaction_schedule == schedule


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("compactionSchedule", "15 minutes"),
        ("compactionSchedule", "rate(1 minutes)"),
        ("compactionSchedule", "rate(0 minutes)"),
        ("compactionSchedule", "rate(2 minute)"),
        ("compactionSchedule", "cron(0 3 * * ?)"),
        ("enableCompaction", "sometimes"),
        ("existingTable", "a table"),
        ("lockId", ""),
        ("lockTimeoutMinutes", "soon"),
        ("lockTimeoutMinutes", "0"),
        ("lockTimeoutMinutes", "1441"),
        ("compactionBatchSize", "1001"),
        ("maxBatchesPerPass", "0"),
        ("maxPassBytes", "0"),
        ("maxPasses", "26"),
        ("maxDeltaBytes", "0"),
        ("compactedRetentionDays", "0"),
        ("compactedRetentionDays", "1.5"),
        ("snapshotRetentionCount", "0"),
        ("snapshotRetentionDays", "0"),
        ("versionRetentionDays", "0"),
        ("snapshotVersionDays", "0"),
        ("logRetentionDays", "31"),
        ("embeddingFunction", ""),
        ("compactorMemoryMb", "10241"),
        ("compactorStorageMb", "511"),
        ("queryMemoryMb", "0"),
        ("queryStorageMb", "10241"),
        ("reserveConcurrency", "2"),
        ("imageUri", "chromadb-compaction:1"),
        ("imageUri", f"{IMAGE.rpartition(':')[0]}"),
    ],
)
def test_a_wrong_value_is_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(ConfigurationRefused, match=rf"^chromadb:{name} = '"):
        config(**{name: value})


def test_a_refusal_shows_what_would_be_right() -> None:
    with pytest.raises(ConfigurationRefused) as refused:
        config(compactionSchedule="hourly")
    assert str(refused.value) == (
        "chromadb:compactionSchedule = 'hourly': Should be an EventBridge schedule:"
        " rate(15 minutes), rate(1 hour) or cron(0 3 * * ? *)"
    )


def test_a_misspelt_setting_is_refused_with_the_name_that_was_meant() -> None:
    with pytest.raises(ConfigurationRefused, match=r"chromadb:compactionShedule .* mean chromadb:compactionSchedule\?"):
        config(compactionShedule="rate(1 hour)")


def test_a_setting_unlike_any_other_is_refused() -> None:
    with pytest.raises(ConfigurationRefused, match=r"^chromadb:zzz is not a setting$"):
        config(zzz="1")


def test_without_an_image_it_says_how_to_get_one() -> None:
    with pytest.raises(ConfigurationRefused, match=r"chromadb:imageUri is not set; .*infra/README\.md"):
        parse_config({})


@pytest.mark.parametrize("stack", ["Dev", "a_b", "feature.x", "-dev", "dev-", "x" * 34])
def test_a_stack_whose_name_cannot_name_a_bucket_is_refused(stack: str) -> None:
    with pytest.raises(ConfigurationRefused, match="stack name"):
        declared(stack)


def test_the_longest_stack_name_still_names_everything() -> None:
    names = [str(r.inputs.get("bucket") or r.inputs.get("name", "")) for r in declared("x" * 33).resources]
    assert max(len(name) for name in names if "/" not in name) <= 64
