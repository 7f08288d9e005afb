"""Settings are read and checked, and an error names the wrong setting."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from pulumi.runtime import set_all_config

from infra.config import CompactionConfig, ConfigurationRefused, SnapshotRetention, load_config, parse_config
from infra.program import declare
from tests.infra.declared import BASE_IMAGE, EXISTING_TABLE, IMAGE, VPC, Declared, Recorder, declared, run_with

KEY = "arn:aws:kms:eu-west-1:123456789012:key/0a0b0c0d-1111-2222-3333-444455556666"


@pytest.fixture(autouse=True)
def _clear_configuration() -> Iterator[None]:
    yield
    set_all_config({})


def config(**values: object) -> CompactionConfig:
    return parse_config({"imageUri": IMAGE, **values})


def test_compaction_runs_every_fifteen_minutes_by_default() -> None:
    assert (config().compaction_schedule, config().enable_compaction) == ("rate(15 minutes)", True)


def test_settings_are_read_from_the_chromadb_namespace() -> None:
    set_all_config({"chromadb:imageUri": IMAGE, "chromadb:lockTimeoutMinutes": "30", "aws:region": "eu-west-1"})
    assert load_config().lock_timeout_minutes == 30


def test_settings_are_read_from_the_environment_that_pulumi_sets(monkeypatch: pytest.MonkeyPatch) -> None:
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
        ("versionRetentionDays", "0"),
        ("snapshotVersionDays", "0"),
        ("logRetentionDays", "31"),
        ("embeddingFunction", ""),
        ("backlogStart", "-1"),
        ("backlogStartMinutes", "5761"),
        ("kmsKeyArn", "alias/mine"),
        ("replicaRegion", "Frankfurt"),
        ("replicaKmsKeyArn", "mrk-1"),
        ("alarmTopicArn", "ops@example.com"),
        ("alarmEmail", "ops"),
        ("monthlyBudget", "0"),
        ("tags", "team"),
        ("rolePath", "data"),
        ("permissionsBoundaryArn", "boundary"),
        ("protectData", "maybe"),
        ("vpcId", "my-vpc"),
        ("vpcEndpoints", "some"),
        ("auditTrail", "maybe"),
        ("snapshotRetention", "10"),
        ("memory", "3008"),
        ("timeout", "fast"),
        ("ephemeralStorage", "[]"),
        ("reserveConcurrency", "2"),
        ("mapConcurrency", "0"),
        ("mapConcurrency", "41"),
        ("imageUri", "chromadb-compaction:1"),
        ("imageUri", IMAGE.partition("@")[0]),
        ("imageUri", f"{IMAGE.partition('@')[0]}:tag"),
        ("baseImage", "public.ecr.aws/lambda/python:3.12"),
        ("architecture", "amd64"),
    ],
)
def test_a_wrong_value_is_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(ConfigurationRefused, match=rf"^chromadb:{name} = '"):
        config(**{name: value})


@pytest.mark.parametrize(
    ("name", "value", "named"),
    [
        ("snapshotRetention", '{"count": 0}', "snapshotRetention.count = 0"),
        ("snapshotRetention", '{"days": 0}', "snapshotRetention.days = 0"),
        ("snapshotRetention", '{"weeks": 1}', "snapshotRetention.weeks = 1"),
        ("tags", '{"team": "a|b"}', "tags.team = 'a|b'"),
        ("tags", '{"aws:team": "a"}', "tags.aws:team = 'aws:team'"),
        ("memory", '{"compactor": 127}', "memory.compactor = 127"),
        ("memory", '{"compactor": 10241}', "memory.compactor = 10241"),
        ("memory", '{"compacter": 3008}', "memory.compacter = 'compacter'"),
        ("timeout", '{"merge-batch": 901}', "timeout.merge-batch = 901"),
        ("timeout", '{"merge-batch": 0}', "timeout.merge-batch = 0"),
        ("ephemeralStorage", '{"query": 511}', "ephemeralStorage.query = 511"),
        ("ephemeralStorage", '{"query": 10241}', "ephemeralStorage.query = 10241"),
        ("formerKmsKeyArns", "alias/mine", "formerKmsKeyArns.0 = 'alias/mine'"),
        ("subnetIds", "subnet-0000000a,elsewhere", "subnetIds.1 = 'elsewhere'"),
        ("writerAccounts", "111122223333,1234", "writerAccounts.1 = '1234'"),
        ("readerAccounts", "everybody", "readerAccounts.0 = 'everybody'"),
    ],
)
def test_a_wrong_part_of_a_value_is_refused_by_its_path(name: str, value: str, named: str) -> None:
    with pytest.raises(ConfigurationRefused, match=rf"^chromadb:{re.escape(named)}: "):
        config(**{name: value})


@pytest.mark.parametrize(
    ("values", "missing"),
    [
        ({"vpcId": VPC}, "subnetIds is not set"),
        ({"subnetIds": "subnet-0000000a"}, "vpcId is not set"),
        ({"kmsKeyArn": KEY, "replicaRegion": "eu-central-1"}, "replicaKmsKeyArn is not set"),
        ({"kmsKeyArn": KEY, "replicaKmsKeyArn": KEY}, "replicaKmsKeyArn needs both"),
        ({"partitionSplitRecords": "100000"}, "partitionTargetRecords = 125000 exceeds partitionSplitRecords = 100000"),
        ({"mapConcurrency": "9", "maxBatchesPerPass": "8"}, "mapConcurrency = 9 exceeds maxBatchesPerPass = 8"),
    ],
)
def test_an_incomplete_pair_of_settings_is_refused_by_the_missing_name(values: dict[str, str], missing: str) -> None:
    with pytest.raises(ConfigurationRefused, match=f"^chromadb:{missing}"):
        config(**values)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("replicaRegion", {"replicaRegion": "eu-west-1"}),
        ("kmsKeyArn", {"kmsKeyArn": KEY.replace("eu-west-1", "eu-central-1")}),
        ("formerKmsKeyArns", {"formerKmsKeyArns": KEY.replace("eu-west-1", "eu-central-1")}),
        ("alarmTopicArn", {"alarmTopicArn": "arn:aws:sns:us-east-1:123456789012:ops"}),
        ("replicaKmsKeyArn", {"kmsKeyArn": KEY, "replicaRegion": "eu-central-1", "replicaKmsKeyArn": KEY}),
        ("subnetIds", {"vpcId": VPC, "subnetIds": "subnet-0000000c"}),
        ("subnetIds", {"vpcId": VPC, "subnetIds": "subnet-0000000a,subnet-0000000d"}),
        ("existingTable", {"existingTable": "other-keys"}),
        ("memory.query", {"memory": '{"query": 1}'}),
        ("snapshotRetention.count", {"snapshotRetention": '{"count": "many"}'}),
    ],
)
def test_a_wrong_setting_is_refused_before_any_resource_is_declared(name: str, values: dict[str, str]) -> None:
    recorder = Recorder({"hashKey": "id"} if name == "existingTable" else EXISTING_TABLE)
    with pytest.raises(ConfigurationRefused, match=rf"^chromadb:{re.escape(name)} = "):
        run_with(recorder, declare, **values)
    assert recorder.resources == []


def test_sizes_can_be_set_per_function() -> None:
    assert config(memory='{"compactor": 5120, "query": "2048"}').memory == {"compactor": 5120, "query": 2048}


def test_a_partly_set_retention_keeps_the_other_default() -> None:
    assert config(snapshotRetention='{"count": 3}').snapshot_retention == SnapshotRetention(count=3, days=1)


@pytest.mark.parametrize("written", ["subnet-0000000a, subnet-0000000b", '["subnet-0000000a", "subnet-0000000b"]'])
def test_subnets_are_a_json_list_or_separated_by_commas(written: str) -> None:
    assert config(vpcId=VPC, subnetIds=written).subnet_ids == ("subnet-0000000a", "subnet-0000000b")


def test_an_error_shows_correct_values() -> None:
    with pytest.raises(ConfigurationRefused) as refused:
        config(compactionSchedule="hourly")
    assert str(refused.value) == (
        "chromadb:compactionSchedule = 'hourly': Should be an EventBridge schedule:"
        " rate(15 minutes), rate(1 hour) or cron(0 3 * * ? *)"
    )


def test_a_misspelt_setting_is_refused_with_the_correct_name() -> None:
    with pytest.raises(ConfigurationRefused, match=r"chromadb:compactionShedule .* mean chromadb:compactionSchedule\?"):
        config(compactionShedule="rate(1 hour)")


def test_an_unknown_setting_is_refused() -> None:
    with pytest.raises(ConfigurationRefused, match=r"^chromadb:zzz is not a setting$"):
        config(zzz="1")


def test_without_an_image_the_error_says_how_to_get_one() -> None:
    with pytest.raises(ConfigurationRefused, match=r"chromadb:baseImage is not set; .*infra/README\.md"):
        parse_config({})


@pytest.mark.parametrize("name", ["imageUri", "baseImage"])
def test_an_image_with_a_tag_is_refused_with_the_form_that_is_needed(name: str) -> None:
    with pytest.raises(ConfigurationRefused, match=r"by its digest: <repository>@sha256:<64 hexadecimal digits>"):
        parse_config({name: f"{IMAGE.partition('@')[0]}:1"})


def test_an_image_that_is_given_and_built_is_refused() -> None:
    with pytest.raises(ConfigurationRefused, match="chromadb:imageUri and chromadb:baseImage are both set"):
        config(baseImage=BASE_IMAGE)


def test_an_image_in_another_region_is_refused_before_anything_is_made() -> None:
    with pytest.raises(ConfigurationRefused, match=r"chromadb:imageUri = .*: Should be in eu-west-1"):
        declared(imageUri=IMAGE.replace("eu-west-1", "eu-central-1"))


@pytest.mark.parametrize("stack", ["Dev", "a_b", "feature.x", "-dev", "dev-", "x" * 34])
def test_a_stack_name_that_cannot_be_part_of_a_bucket_name_is_refused(stack: str) -> None:
    with pytest.raises(ConfigurationRefused, match="stack name"):
        declared(stack)


def test_a_renamed_stack_keeps_the_names_of_its_resources_if_the_name_is_set() -> None:
    def names(stack: Declared) -> list[str]:
        return sorted(str(r.inputs.get("bucket") or r.inputs.get("name")) for r in stack.resources)

    assert names(declared("production", name="dev")) == names(declared("dev"))


def test_a_name_that_cannot_be_part_of_a_bucket_name_is_refused_like_a_stacks() -> None:
    with pytest.raises(ConfigurationRefused, match="'Dev' cannot be part of a bucket's name"):
        declared("dev", name="Dev")


def test_the_longest_stack_name_fits_every_resource_name() -> None:
    everything = declared("x" * 33, replicaRegion="eu-central-1", auditTrail="true")
    named = [r for r in everything.resources if not r.type.endswith(("MetricAlarm", "LogGroup"))]
    names = [str(r.inputs.get("bucket") or r.inputs.get("name", "")) for r in named]
    assert max(len(name) for name in names) <= 64
    assert max(len(bucket.inputs["bucket"]) for bucket in everything.of_type("Bucket")) <= 63
