"""A monthly budget for the resources of the stack, which AWS finds by their tag."""

from __future__ import annotations

import pulumi
from pulumi_aws import budgets

from infra.names import StackNames
from infra.tags import STACK_TAG

ACTUAL_PERCENT = 80
FORECAST_PERCENT = 100


class MonthlyBudget(pulumi.ComponentResource):
    """Notify the alarms' topic at 80% of the budget, and when the forecast of the month exceeds it.

    AWS counts the stack's cost only after the tag is activated: docs/cost.md tells how.
    """

    def __init__(
        self,
        names: StackNames,
        *,
        dollars: float,
        topic: pulumi.Input[str],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("chromadb:monitoring:MonthlyBudget", "chromadb-monthly", opts=opts)
        budgets.Budget(
            "chromadb-monthly-budget",
            name=names.state_machine,
            budget_type="COST",
            time_unit="MONTHLY",
            limit_amount=f"{dollars:.2f}",
            limit_unit="USD",
            # https://docs.aws.amazon.com/cli/latest/reference/budgets/create-budget.html
            cost_filters=[budgets.BudgetCostFilterArgs(name="TagKeyValue", values=[f"user:{STACK_TAG}${names.stack}"])],
            notifications=[
                _above(ACTUAL_PERCENT, "ACTUAL", topic),
                _above(FORECAST_PERCENT, "FORECASTED", topic),
            ],
            opts=pulumi.ResourceOptions(parent=self),
        )
        self.register_outputs({})


def _above(percent: int, kind: str, topic: pulumi.Input[str]) -> budgets.BudgetNotificationArgs:
    return budgets.BudgetNotificationArgs(
        comparison_operator="GREATER_THAN",
        threshold=percent,
        threshold_type="PERCENTAGE",
        notification_type=kind,
        subscriber_sns_topic_arns=[topic],
    )
