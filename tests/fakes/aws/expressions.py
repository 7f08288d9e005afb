"""The parts of DynamoDB's condition and update expressions that the product uses."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, NamedTuple

Value = Mapping[str, Any]
"""A DynamoDB value, e.g. {"S": "text"} or {"N": "1"}."""
Item = Mapping[str, Value]

_COMPARISON = re.compile(r"^(\S+)\s*(=|<>|<=|>=|<|>)\s*(\S+)$")
_FUNCTION = re.compile(r"^(attribute_exists|attribute_not_exists)\((\S+)\)$")
_OPERATORS: Mapping[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "<>": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


class Names(NamedTuple):
    """The meanings of `#name` and `:value` in an expression."""

    names: Mapping[str, str]
    values: Mapping[str, Value]

    def attribute(self, token: str) -> str:
        """Return the name of the attribute."""
        return self.names[token] if token.startswith("#") else token

    def value(self, token: str, item: Item) -> Value | None:
        """Return the value of the token. None: the item does not have that attribute."""
        return self.values[token] if token.startswith(":") else item.get(self.attribute(token))


def holds(condition: str, item: Item, names: Names) -> bool:
    """Return whether the item meets the condition. An empty item means that there is none. AND binds before OR."""
    return any(
        all(_term(term.strip(), item, names) for term in each.split(" AND ")) for each in condition.split(" OR ")
    )


def assignments(update: str, names: Names) -> dict[str, Value]:
    """Return what `SET a = :x, #b = :y` assigns."""
    word, _, pairs = update.partition(" ")
    if word != "SET":
        raise NotImplementedError(update)
    sides = [pair.split("=") for pair in pairs.split(",")]
    return {names.attribute(left.strip()): names.values[right.strip()] for left, right in sides}


def _term(term: str, item: Item, names: Names) -> bool:
    if function := _FUNCTION.match(term):
        present = names.attribute(function[2]) in item
        return present == (function[1] == "attribute_exists")
    comparison = _COMPARISON.match(term)
    if comparison is None:
        raise NotImplementedError(term)
    left, right = names.value(comparison[1], item), names.value(comparison[3], item)
    # Values of different types are unequal, and neither is smaller.
    if left is None or right is None or left.keys() != right.keys():
        return comparison[2] == "<>"
    return _OPERATORS[comparison[2]](_plain(left), _plain(right))


def _plain(value: Value) -> object:
    ((kind, content),) = value.items()
    return Decimal(content) if kind == "N" else content
