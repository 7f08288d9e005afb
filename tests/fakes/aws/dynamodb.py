"""The DynamoDB operations that the product and its tests use, with their conditions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.fakes.aws.expressions import Item, Names, assignments, holds
from tests.fakes.aws.protocol import Answer, Refusal, answer_json

Table = dict[tuple[str, ...], Item]


@dataclass
class Tables:
    """All tables. An item is never changed, only replaced."""

    items: dict[str, Table] = field(default_factory=dict)

    def copy(self) -> Tables:
        """Return a copy that later writes do not change."""
        return Tables({name: dict(table) for name, table in self.items.items()})


class DynamoDB:
    """A fake DynamoDB. The key of every table is PK and SK."""

    def __init__(self) -> None:
        self.tables = Tables()

    def answer(self, operation: str, asked: Mapping[str, Any]) -> Answer:
        """Carry out one request. Raises Refusal."""
        name = asked["TableName"]
        if operation == "CreateTable":
            self.tables.items[name] = {}
            return answer_json({"TableDescription": {"TableName": name, "TableStatus": "ACTIVE"}})
        if name not in self.tables.items:
            raise Refusal(400, "ResourceNotFoundException")
        table = self.tables.items[name]
        if operation == "DeleteTable":
            del self.tables.items[name]
            return answer_json({})
        if operation == "Scan":
            return answer_json({"Items": list(table.values()), "Count": len(table)})
        if operation == "GetItem":
            found = table.get(_key(asked["Key"]))
            return answer_json({"Item": found} if found is not None else {})
        return self._write(operation, asked, table)

    def _write(self, operation: str, asked: Mapping[str, Any], table: Table) -> Answer:
        key = _key(asked["Item"] if operation == "PutItem" else asked["Key"])
        present = table.get(key)
        names = Names(asked.get("ExpressionAttributeNames", {}), asked.get("ExpressionAttributeValues", {}))
        condition = asked.get("ConditionExpression")
        if condition and not holds(condition, present or {}, names):
            returns_item = asked.get("ReturnValuesOnConditionCheckFailure") == "ALL_OLD" and present is not None
            raise Refusal(400, "ConditionalCheckFailedException", {"Item": present} if returns_item else {})
        if operation == "DeleteItem":
            table.pop(key, None)
            return answer_json({})
        if operation == "PutItem":
            table[key] = asked["Item"]
            return answer_json({})
        if operation != "UpdateItem":
            raise NotImplementedError(operation)
        table[key] = {**(present or asked["Key"]), **assignments(asked["UpdateExpression"], names)}
        return answer_json({"Attributes": table[key]} if asked.get("ReturnValues") == "ALL_NEW" else {})


def _key(item: Item) -> tuple[str, ...]:
    return tuple(str(item[name]["S"]) for name in ("PK", "SK"))
