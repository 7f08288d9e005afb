"""The lock item in DynamoDB: every condition that guards the lease stands in this file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

from botocore.exceptions import ClientError
from pydantic import ValidationError

from chromadb_compaction.aws.errors import error_code, translated
from chromadb_compaction.errors import ConfigurationError, LockHeldError, LockLostError
from chromadb_compaction.layout import execution_name
from chromadb_compaction.lease import Lease
from chromadb_compaction.settings import required
from chromadb_compaction.times import iso_time

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_dynamodb.type_defs import AttributeValueTypeDef, UniversalAttributeValueTypeDef

    Item = Mapping[str, AttributeValueTypeDef]

FREE_OR_EXPIRED_OR_OURS = "attribute_not_exists(PK) OR expires_at < :now OR #owner = :me"
OURS = "#owner = :me"
OWNER = {"#owner": "owner"}  # a reserved word, as is ttl
CONDITION_FAILED = "ConditionalCheckFailedException"


class DynamoDBLeaseStore:
    """ports.LeaseStore on one item, PK = SK = LOCK#{lock_id}, of a table that may hold other things too."""

    def __init__(self, client: DynamoDBClient, table: str | None) -> None:
        self._client = client
        self._table = table

    def acquire(self, lock_id: str, owner: str, *, now: float, seconds: int) -> Lease:
        """Take the lease in one write. Taking it again starts it afresh: `acquired_at` is the last acquisition's."""
        lease = Lease.starting(lock_id, owner, now=now, seconds=seconds)
        with translated(f"taking lock {lock_id} in table {self._table}"):
            try:
                self._client.put_item(
                    TableName=self._table_name(),
                    Item=_item(lease),
                    ConditionExpression=FREE_OR_EXPIRED_OR_OURS,
                    ExpressionAttributeNames=OWNER,
                    ExpressionAttributeValues={":me": {"S": owner}, ":now": {"N": repr(float(now))}},
                    ReturnValuesOnConditionCheckFailure="ALL_OLD",
                )
            except ClientError as error:
                if error_code(error) != CONDITION_FAILED:
                    raise
                raise held(self._parse(lock_id, _item_of(error)), now=now) from error
        return lease

    def renew(self, lock_id: str, owner: str, *, now: float, seconds: int) -> Lease:
        """Extend the lease even past its expiry, as long as nobody has taken it."""
        lease = Lease.starting(lock_id, owner, now=now, seconds=seconds)
        with translated(f"renewing lock {lock_id} in table {self._table}"):
            try:
                answer = self._client.update_item(
                    TableName=self._table_name(),
                    Key=_key(lock_id),
                    UpdateExpression="SET heartbeat_at = :now, expires_at = :expires_at, #ttl = :ttl",
                    ConditionExpression=OURS,
                    ExpressionAttributeNames={**OWNER, "#ttl": "ttl"},
                    ExpressionAttributeValues={
                        ":me": {"S": owner},
                        ":now": {"N": str(lease.heartbeat_at)},
                        ":expires_at": {"N": str(lease.expires_at)},
                        ":ttl": {"N": str(lease.ttl)},
                    },
                    ReturnValues="ALL_NEW",
                    ReturnValuesOnConditionCheckFailure="ALL_OLD",
                )
            except ClientError as error:
                if error_code(error) != CONDITION_FAILED:
                    raise
                raise lost(lock_id, owner, _owner(_item_of(error))) from error
        return self._parse(lock_id, answer["Attributes"])

    def release(self, lock_id: str, owner: str) -> bool:
        """Delete the item if it is ours; one that is gone or another's is left as it is."""
        with translated(f"releasing lock {lock_id} in table {self._table}"):
            try:
                self._client.delete_item(
                    TableName=self._table_name(),
                    Key=_key(lock_id),
                    ConditionExpression=OURS,
                    ExpressionAttributeNames=OWNER,
                    ExpressionAttributeValues={":me": {"S": owner}},
                )
            except ClientError as error:
                if error_code(error) != CONDITION_FAILED:
                    raise
                return False
        return True

    def read(self, lock_id: str) -> Lease | None:
        """Return the lease as the last write left it. Raises ConfigurationError for an item that is no lease."""
        with translated(f"reading lock {lock_id} in table {self._table}"):
            answer = self._client.get_item(TableName=self._table_name(), Key=_key(lock_id), ConsistentRead=True)
        return self._parse(lock_id, answer["Item"]) if "Item" in answer else None

    def _table_name(self) -> str:
        return required(self._table, "DYNAMODB_TABLE")

    def _parse(self, lock_id: str, item: Item) -> Lease:
        times = {name: item.get(name, {}).get("N") for name in ("acquired_at", "heartbeat_at", "expires_at")}
        try:
            return Lease.model_validate({"lock_id": lock_id, "owner": _owner(item), **times})
        except ValidationError as error:
            wrong = ", ".join(str(problem["loc"][0]) for problem in error.errors())
            raise ConfigurationError(
                f"the item LOCK#{lock_id} of table {self._table} is no lease of ours ({wrong} missing or malformed),"
                " so nobody can tell who holds it; make sure that no execution is running, then delete the item"
            ) from error


def held(lease: Lease, *, now: float) -> LockHeldError:
    """Return the error that names the holder, since when and until when."""
    # A person's command has no history; the rest of us are executions.
    see = f"history {execution_name(lease.owner)}" if lease.owner.startswith("arn:") else "lock show"
    return LockHeldError(
        f"Lock {lease.lock_id} is held by {lease.owner} since {iso_time(lease.acquired_at)} until"
        f" {iso_time(lease.expires_at)} ({lease.expires_at - int(now)} s from now unless renewed)",
        next_step=f"wait for it, or see: chromadb-compaction {see}",
        holder=lease.owner,
        since=lease.acquired_at,
        until=lease.expires_at,
    )


def lost(lock_id: str, owner: str, holder: str | None) -> LockLostError:
    """Return the error that stops an execution whose lease is gone."""
    now_held = f"it is now held by {holder}" if holder else "nobody holds it: its item was deleted"
    return LockLostError(
        f"Lock {lock_id} is no longer held by {owner}: {now_held}",
        next_step="this execution stops without publishing; the next one starts again",
        holder=holder,
    )


def _key(lock_id: str) -> dict[str, UniversalAttributeValueTypeDef]:
    return {"PK": {"S": f"LOCK#{lock_id}"}, "SK": {"S": f"LOCK#{lock_id}"}}


def _item(lease: Lease) -> dict[str, UniversalAttributeValueTypeDef]:
    times = {
        "acquired_at": lease.acquired_at,
        "heartbeat_at": lease.heartbeat_at,
        "expires_at": lease.expires_at,
        "ttl": lease.ttl,
    }
    return {**_key(lease.lock_id), "owner": {"S": lease.owner}, **{name: {"N": str(t)} for name, t in times.items()}}


def _item_of(error: ClientError) -> Item:
    """Return the item that failed the condition; empty if there was none."""
    return cast("Item", error.response.get("Item", {}))


def _owner(item: Item) -> str | None:
    return item.get("owner", {}).get("S")
