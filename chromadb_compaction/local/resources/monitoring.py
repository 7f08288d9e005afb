"""The alarms and their topic, the dashboard and the audit trail.

The server stores and returns them, but does not evaluate alarms over metric expressions.
"""

from __future__ import annotations

from typing import Any

from chromadb_compaction.local.resources.clients import Created, Creator, Inputs, Target, aws_shape, unless_exists


def metric_alarm(target: Target, inputs: Inputs) -> Created:
    """aws.cloudwatch.MetricAlarm over metric queries."""
    name = inputs["name"]
    target.client("cloudwatch").put_metric_alarm(
        AlarmName=name,
        AlarmDescription=inputs.get("alarmDescription") or "",
        ComparisonOperator=inputs["comparisonOperator"],
        Threshold=inputs["threshold"],
        EvaluationPeriods=inputs["evaluationPeriods"],
        TreatMissingData=inputs["treatMissingData"],
        Metrics=[_query(query) for query in inputs["metricQueries"]],
        AlarmActions=inputs.get("alarmActions") or [],
        OKActions=inputs.get("okActions") or [],
    )
    return Created(name, {**inputs, "arn": target.arn("cloudwatch", f"alarm:{name}")})


def _query(query: dict[str, Any]) -> dict[str, Any]:
    shape: dict[str, Any] = {"Id": query["id"], "ReturnData": bool(query.get("returnData"))}
    if metric := query.get("metric"):
        dimensions = [{"Name": name, "Value": value} for name, value in (metric.get("dimensions") or {}).items()]
        named = {"Namespace": metric["namespace"], "MetricName": metric["metricName"], "Dimensions": dimensions}
        return {**shape, "MetricStat": {"Metric": named, "Period": metric["period"], "Stat": metric["stat"]}}
    return {**shape, "Expression": query["expression"], "Label": query.get("label") or query["id"]}


def topic(target: Target, inputs: Inputs) -> Created:
    """aws.sns.Topic."""
    arn = target.client("sns").create_topic(Name=inputs["name"])["TopicArn"]
    return Created(arn, {**inputs, "arn": arn})


def topic_policy(target: Target, inputs: Inputs) -> Created:
    """aws.sns.TopicPolicy."""
    target.client("sns").set_topic_attributes(
        TopicArn=inputs["arn"], AttributeName="Policy", AttributeValue=inputs["policy"]
    )
    return Created(inputs["arn"], inputs)


def subscription(target: Target, inputs: Inputs) -> Created:
    """aws.sns.TopicSubscription."""
    answer = target.client("sns").subscribe(
        TopicArn=inputs["topic"], Protocol=inputs["protocol"], Endpoint=inputs["endpoint"], ReturnSubscriptionArn=True
    )
    return Created(answer["SubscriptionArn"], inputs)


def dashboard(target: Target, inputs: Inputs) -> Created:
    """aws.cloudwatch.Dashboard."""
    name = inputs["dashboardName"]
    target.client("cloudwatch").put_dashboard(DashboardName=name, DashboardBody=inputs["dashboardBody"])
    return Created(name, {**inputs, "dashboardArn": f"arn:aws:cloudwatch::{target.aws.account}:dashboard/{name}"})


def budget(target: Target, inputs: Inputs) -> Created:
    """aws.budgets.Budget of cost, with its notifications."""
    client, name, account = target.client("budgets"), inputs["name"], target.aws.account
    limit = {"Amount": inputs["limitAmount"], "Unit": inputs["limitUnit"]}
    filters = {each["name"]: each["values"] for each in inputs["costFilters"]}
    settings = {
        "BudgetName": name,
        "BudgetType": inputs["budgetType"],
        "TimeUnit": inputs["timeUnit"],
        "BudgetLimit": limit,
        "CostFilters": filters,
    }
    new = unless_exists(
        client.create_budget,
        "DuplicateRecordException",
        AccountId=account,
        Budget=settings,
        NotificationsWithSubscribers=[_budget_notification(each) for each in inputs["notifications"]],
    )
    if not new:
        client.update_budget(AccountId=account, NewBudget=settings)
    return Created(name, {**inputs, "arn": f"arn:aws:budgets::{account}:budget/{name}"})


def _budget_notification(inputs: Inputs) -> dict[str, Any]:
    topics = inputs["subscriberSnsTopicArns"]
    return {
        "Notification": {
            "NotificationType": inputs["notificationType"],
            "ComparisonOperator": inputs["comparisonOperator"],
            "Threshold": inputs["threshold"],
            "ThresholdType": inputs["thresholdType"],
        },
        "Subscribers": [{"SubscriptionType": "SNS", "Address": topic} for topic in topics],
    }


def trail(target: Target, inputs: Inputs) -> Created:
    """aws.cloudtrail.Trail with advanced event selectors."""
    client, name = target.client("cloudtrail"), inputs["name"]
    settings = {
        "Name": name,
        "S3BucketName": inputs["s3BucketName"],
        "EnableLogFileValidation": bool(inputs.get("enableLogFileValidation")),
        "IncludeGlobalServiceEvents": bool(inputs.get("includeGlobalServiceEvents", True)),
    }
    existing = client.describe_trails(trailNameList=[name])["trailList"]
    (client.update_trail if existing else client.create_trail)(**settings)
    client.put_event_selectors(
        TrailName=name, AdvancedEventSelectors=[_selector(each) for each in inputs["advancedEventSelectors"]]
    )
    client.start_logging(Name=name)
    return Created(name, {**inputs, "arn": target.arn("cloudtrail", f"trail/{name}")})


def _selector(selector: dict[str, Any]) -> dict[str, Any]:
    # The provider uses a plural name where AWS uses the singular.
    plural = {"startsWiths": "startsWith"}
    fields = [{plural.get(name, name): value for name, value in each.items()} for each in selector["fieldSelectors"]]
    shape: dict[str, Any] = aws_shape({"name": selector.get("name"), "fieldSelectors": fields})
    return shape


CREATORS: dict[str, Creator] = {
    "aws:cloudwatch/metricAlarm:MetricAlarm": metric_alarm,
    "aws:cloudwatch/dashboard:Dashboard": dashboard,
    "aws:budgets/budget:Budget": budget,
    "aws:sns/topic:Topic": topic,
    "aws:sns/topicPolicy:TopicPolicy": topic_policy,
    "aws:sns/topicSubscription:TopicSubscription": subscription,
    "aws:cloudtrail/trail:Trail": trail,
}
