"""The program deploys with every option on, and the resources have the settings that the local server can show."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from chromadb_compaction.local import server
from chromadb_compaction.local.deployment import Deployment, deploy_stack
from chromadb_compaction.local.home import StackHome
from chromadb_compaction.local.resources.clients import AwsClients
from tests.e2e.model import Delta, Row
from tests.stack import Stack

pytestmark = pytest.mark.e2e

TOPIC = f"arn:aws:sns:us-east-1:{server.ACCOUNT}:ops"


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Yield a stack in a VPC with a key, a replica, a trail and a topic. It is deployed twice, as for an update."""
    home = StackHome(tmp_path_factory.mktemp("everything"))
    running = server.start(home, end_with_parent=True)
    aws = AwsClients(running.endpoint, running.secret)
    try:
        deployment = Deployment("all", {"enableCompaction": "false", **options(aws)})
        deploy_stack(home, deployment, aws)
        yield Stack(deploy_stack(home, deployment, aws), home)
    finally:
        server.stop(home)


def options(aws: AwsClients) -> dict[str, str]:
    ec2 = aws.client("ec2")
    vpc = ec2.create_vpc(CidrBlock="10.1.0.0/16")["Vpc"]["VpcId"]
    subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.1.0.0/24")["Subnet"]["SubnetId"]
    key = aws.client("kms").create_key()["KeyMetadata"]["Arn"]
    return {
        "vpcId": vpc,
        "subnetIds": subnet,
        "kmsKeyArn": key,
        "formerKmsKeyArns": aws.client("kms").create_key()["KeyMetadata"]["Arn"],
        "replicaRegion": "eu-central-1",
        "replicaKmsKeyArn": key.replace("us-east-1", "eu-central-1"),
        "auditTrail": "true",
        "alarmTopicArn": aws.client("sns").create_topic(Name="ops")["TopicArn"],
        "alarmEmail": "ops@example.com",
        "backlogStartMinutes": "30",
        "monthlyBudget": "40",
        "tags": json.dumps({"team": "search"}),
        "permissionsBoundaryArn": "arn:aws:iam::aws:policy/PowerUserAccess",
        "memory": json.dumps({"compactor": 4096}),
    }


def client(stack: Stack, service: str) -> Any:
    return stack.deployed.client(service)


def test_a_compaction_succeeds_with_the_roles_that_all_options_need(everything: Stack) -> None:
    delta = Delta("docs", (Row("a", (1.0, 0.0)),))
    everything.put_objects({delta.key: delta.body()})
    assert everything.compact().output["snapshot"]["published"] is True


def test_a_second_deployment_creates_no_duplicates(everything: Stack) -> None:
    ec2 = client(everything, "ec2")
    endpoints = [endpoint["ServiceName"] for endpoint in ec2.describe_vpc_endpoints()["VpcEndpoints"]]
    groups = [group["GroupName"] for group in ec2.describe_security_groups()["SecurityGroups"]]
    assert len(endpoints) == len(set(endpoints)) == 4
    assert sorted(name for name in groups if name != "default") == [
        "chromadb-compaction-all-endpoints",
        "chromadb-compaction-all-functions",
    ]


def test_the_alarms_notify_the_topic(everything: Stack) -> None:
    alarms = client(everything, "cloudwatch").describe_alarms()["MetricAlarms"]
    actions_by_alarm = {
        alarm["AlarmName"].removeprefix("chromadb-compaction-all-"): alarm["AlarmActions"] for alarm in alarms
    }
    assert actions_by_alarm.pop("backlog") == []
    assert {"dead-letters", "undelivered", "throttled"} <= actions_by_alarm.keys()
    assert all(actions == [TOPIC] for actions in actions_by_alarm.values())


def test_the_address_is_subscribed_once(everything: Stack) -> None:
    found = client(everything, "sns").list_subscriptions_by_topic(TopicArn=TOPIC)["Subscriptions"]
    assert [(each["Protocol"], each["Endpoint"]) for each in found] == [("email", "ops@example.com")]


def test_only_the_backlog_alarm_starts_an_execution_early(everything: Stack) -> None:
    pattern = client(everything, "events").describe_rule(Name="chromadb-compaction-all-early")["EventPattern"]
    matched = {
        (alarm, state): client(everything, "events").test_event_pattern(
            EventPattern=pattern, Event=json.dumps(state_change(alarm, state))
        )["Result"]
        for alarm in ("backlog", "stalled")
        for state in ("ALARM", "OK")
    }
    assert [change for change, matches in matched.items() if matches] == [("backlog", "ALARM")]


def state_change(alarm: str, state: str) -> dict[str, Any]:
    """Return the event that CloudWatch sends, as in its documentation."""
    name = f"chromadb-compaction-all-{alarm}"
    return {
        "version": "0",
        "id": "c4c1c1c9-6542-e61b-6ef0-8c4d36933a92",
        "detail-type": "CloudWatch Alarm State Change",
        "source": "aws.cloudwatch",
        "account": server.ACCOUNT,
        "time": "2026-01-02T17:04:40Z",
        "region": server.REGION,
        "resources": [f"arn:aws:cloudwatch:{server.REGION}:{server.ACCOUNT}:alarm:{name}"],
        "detail": {
            "alarmName": name,
            "state": {"value": state, "timestamp": "2026-01-02T17:04:40.989+0000"},
            "previousState": {"value": "OK", "timestamp": "2026-01-02T17:00:40.989+0000"},
        },
    }


def test_the_budget_notifies_the_topic(everything: Stack) -> None:
    budgets = client(everything, "budgets")
    named = {"AccountId": server.ACCOUNT, "BudgetName": "chromadb-compaction-all"}
    assert budgets.describe_budget(**named)["Budget"]["CostFilters"] == {"TagKeyValue": ["user:chromadb-stack$all"]}
    notifications = budgets.describe_notifications_for_budget(**named)["Notifications"]
    assert [each["NotificationType"] for each in notifications] == ["ACTUAL", "FORECASTED"]


def test_nobody_can_delete_the_lock_table_while_data_is_protected(everything: Stack) -> None:
    table = client(everything, "dynamodb").describe_table(TableName="portfolio-all")["Table"]
    assert table["DeletionProtectionEnabled"] is True


def test_the_trail_logs_accesses_to_the_buckets_objects(everything: Stack) -> None:
    selectors = client(everything, "cloudtrail").get_event_selectors(TrailName="chromadb-audit-all")
    (selector,) = selectors["AdvancedEventSelectors"]
    assert {"Field": "resources.ARN", "StartsWith": [f"arn:aws:s3:::{everything.bucket}/"]} in selector[
        "FieldSelectors"
    ]


def test_snapshots_are_copied_to_a_bucket_in_the_other_region(everything: Stack) -> None:
    rules = everything.s3.get_bucket_replication(Bucket=everything.bucket)["ReplicationConfiguration"]["Rules"]
    assert {rule["Filter"]["Prefix"] for rule in rules} == {"snapshot/", "delta/"}
    [replica] = {rule["Destination"]["Bucket"].rpartition(":")[2] for rule in rules}
    assert everything.s3.get_bucket_location(Bucket=replica)["LocationConstraint"] == "eu-central-1"
