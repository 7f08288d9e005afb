"""The metric math that the alarms use, evaluated as CloudWatch does."""

from __future__ import annotations

from collections.abc import Mapping


def evaluate(expression: str, values: Mapping[str, float | None]) -> bool | None:
    """Return whether IF(condition, 1, 0) is 1 in one period, or None if it has no data.

    `values` holds the metrics by id; None is a metric without data. FILL replaces it only if some metric has data.
    """
    filled = "FILL(" in expression
    missing = [value is None for value in values.values()]
    if all(missing) or (any(missing) and not filled):
        return None
    condition, yes, no = expression.removeprefix("IF(").removesuffix(")").rsplit(", ", 2)
    if (yes, no) != ("1", "0"):
        raise ValueError(f"{expression} is not IF(condition, 1, 0)")
    python = condition.replace(" AND ", " and ").replace(" OR ", " or ")
    functions = {"MAX": max, "FILL": lambda value, otherwise: otherwise if value is None else value}
    return bool(eval(python, functions, dict(values)))  # our own expression
