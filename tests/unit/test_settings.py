"""Settings come from the given environment, and an error names the variable."""

import pytest
from pydantic import ValidationError

from chromadb_compaction.errors import ConfigurationError
from chromadb_compaction.settings import Settings, load_settings, required

BUCKET = {"CHROMADB_BUCKET": "chromadb-vectors-dev-000000000000"}


def test_only_the_bucket_has_to_be_set() -> None:
    settings = load_settings(BUCKET)

    assert settings.chromadb_bucket == BUCKET["CHROMADB_BUCKET"]
    assert settings.lock_id == "chroma-main-snapshot"
    assert settings.compaction_batch_size == 100
    assert settings.lease_seconds == 900


def test_every_setting_is_read_under_its_upper_case_name() -> None:
    values = {
        "DELTA_PREFIX": "inbox/",
        "SNAPSHOT_PREFIX": "published/",
        "DELTA_QUEUE_URL": "https://sqs/queue",
        "DYNAMODB_TABLE": "portfolio-dev",
        "LOCK_TIMEOUT_MINUTES": "20",
        "SNAPSHOT_RETENTION_DAYS": "0.5",
    }

    settings = load_settings(BUCKET | values)

    assert settings.model_dump(include={name.lower() for name in values}) == {
        "delta_prefix": "inbox/",
        "snapshot_prefix": "published/",
        "delta_queue_url": "https://sqs/queue",
        "dynamodb_table": "portfolio-dev",
        "lock_timeout_minutes": 20,
        "snapshot_retention_days": 0.5,
    }


def test_without_an_argument_the_process_environment_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHROMADB_BUCKET", "from-the-process")

    assert load_settings().chromadb_bucket == "from-the-process"


def test_with_an_argument_the_process_environment_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHROMADB_BUCKET", "from-the-process")
    monkeypatch.setenv("DYNAMODB_TABLE", "from-the-process")

    assert load_settings(BUCKET).dynamodb_table is None
    with pytest.raises(ConfigurationError, match="CHROMADB_BUCKET: Field required"):
        load_settings({})


def test_the_model_itself_never_reads_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHROMADB_BUCKET", "from-the-process")

    with pytest.raises(ValidationError):
        Settings.model_validate({})


def test_an_empty_variable_counts_as_not_set() -> None:
    assert load_settings(BUCKET | {"DELTA_QUEUE_URL": "", "LOCK_ID": ""}) == load_settings(BUCKET)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("COMPACTION_BATCH_SIZE", "many"),
        ("COMPACTION_BATCH_SIZE", "0"),
        ("LOCK_TIMEOUT_MINUTES", "-1"),
        ("DELTA_PREFIX", "delta"),
        ("DELTA_PREFIX", "a/b/"),
        ("SNAPSHOT_RETENTION_DAYS", "nan"),
    ],
)
def test_a_wrong_value_is_reported_with_its_variable(name: str, value: str) -> None:
    with pytest.raises(ConfigurationError, match=f"the environment variable {name}: "):
        load_settings(BUCKET | {name: value})


@pytest.mark.parametrize(
    ("misspelt", "meant"),
    [
        ("CHROMADB_BUKET", "CHROMADB_BUCKET"),
        ("COMPACTION_BATCHSIZE", "COMPACTION_BATCH_SIZE"),
        ("LOCK_TIMEOUT_MINUTE", "LOCK_TIMEOUT_MINUTES"),
        ("DELTA_QUEUE_URI", "DELTA_QUEUE_URL"),
    ],
)
def test_a_misspelt_variable_is_refused_with_the_right_spelling(misspelt: str, meant: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{misspelt} is not a setting; did you mean {meant}"):
        load_settings(BUCKET | {misspelt: "1"})


@pytest.mark.parametrize("name", ["PATH", "LOCK_FILE", "MAX_MEMORY", "AWS_ENDPOINT_URL", "CHROMADB_TELEMETRY"])
def test_foreign_variables_are_ignored(name: str) -> None:
    assert load_settings(BUCKET | {name: "1"}) == load_settings(BUCKET)


@pytest.mark.parametrize(
    "prefixes",
    [
        {"DELTA_PREFIX": "compacted/"},
        {"DELTA_PREFIX": "quarantine/"},
        {"SNAPSHOT_PREFIX": "work/"},
        {"DELTA_PREFIX": "snapshot/"},
        {"DELTA_PREFIX": "both/", "SNAPSHOT_PREFIX": "both/"},
    ],
)
def test_no_prefix_may_be_used_twice(prefixes: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError, match="must differ"):
        load_settings(BUCKET | prefixes)


def test_a_required_setting_that_is_missing_is_named() -> None:
    with pytest.raises(ConfigurationError, match="DELTA_QUEUE_URL is not set"):
        required(load_settings(BUCKET).delta_queue_url, "DELTA_QUEUE_URL")


def test_a_required_setting_that_is_set_is_returned() -> None:
    assert required("value", "NAME") == "value"


@pytest.mark.parametrize("name", ["COMPACTION_MIN_ROWS", "COMPACTION_MIN_BYTES"])
def test_a_minimum_without_a_greatest_age_is_refused_because_a_delta_could_wait_for_ever(name: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{name} is set, and COMPACTION_MAX_AGE_MINUTES is not"):
        load_settings(BUCKET | {name: "100"})

    allowed = [BUCKET | values for values in ({"COMPACTION_MAX_AGE_MINUTES": "60"}, {name: "0"})]
    assert [load_settings(each).compaction_max_age_minutes for each in allowed] == [60, 0]


def test_the_parts_of_a_divided_directory_are_not_divided_again() -> None:
    with pytest.raises(ConfigurationError, match="the parts would be divided again"):
        load_settings({**BUCKET, "PARTITION_SPLIT_RECORDS": "1000"})
