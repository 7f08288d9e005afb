"""The lock item in DynamoDB. Every condition that guards the lease is in this file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

from botocore.exceptions import ClientError
from pydantic import ValidationError

from chromadb_compaction.aws.errors import translated
from chromadb_compaction.errors import LockHeldError, LockLostError, MalformedLockError
from chromadb_compaction.layout import execution_name
from chromadb_compaction.lease import Lease
from chromadb_compaction.settings import required
from chromadb_compaction.times import iso_time

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_dynamodb.type_defs import AttributeValueTypeDef, UniversalAttributeValueTypeDef

    Item = Mapping[str, AttributeValueTypeDef]

CAN_ACQUIRE = "attribute_not_exists(PK) OR expires_at < :now OR #owner = :me"
IS_OWNER = "#owner = :me"
TIMES = ("acquired_at", "heartbeat_at", "expires_at")
LEASE_ATTRIBUTES = frozenset({"owner", *TIMES})
OWNER = {"#owner": "owner"}  # owner and ttl are reserved words in DynamoDB


class DynamoDBLeaseStore:
    """One DynamoDB item, PK = SK = LOCK#{lock_id}, as a ports.LeaseStore.

    Args:
        client: A DynamoDB client.
        table: The table. It may hold other items too. None raises ConfigurationError at the first call.
    """

    def __init__(self, client: DynamoDBClient, table: str | None) -> None:
        self._client = client
        self._table = table

    def acquire(self, lock_id: str, owner: str, *, now: float, seconds: int) -> Lease:
        """Acquire the lease in one write. If the owner acquires it again, `acquired_at` is the last time."""
        lease = Lease.starting(lock_id, owner, now=now, seconds=seconds)
        with translated(f"acquiring lock {lock_id} in table {self._table}"):
            try:
                self._client.put_item(
                    TableName=self._table_name(),
                    Item=_item(lease),
                    ConditionExpression=CAN_ACQUIRE,
                    ExpressionAttributeNames=OWNER,
                    ExpressionAttributeValues={":me": {"S": owner}, ":now": {"N": repr(float(now))}},
                    ReturnValuesOnConditionCheckFailure="ALL_OLD",
                )
            except self._client.exceptions.ConditionalCheckFailedException as error:
                raise lock_held_error(self._parse(lock_id, _present_item(error)), now=now) from error
        return lease

    def renew(self, lock_id: str, owner: str, *, now: float, seconds: int) -> Lease:
        """Extend the lease, even one that has expired, unless another owner has acquired it."""
        lease = Lease.starting(lock_id, owner, now=now, seconds=seconds)
        with translated(f"renewing lock {lock_id} in table {self._table}"):
            try:
                response = self._client.update_item(
                    TableName=self._table_name(),
                    Key=_key(lock_id),
                    UpdateExpression="SET heartbeat_at = :now, expires_at = :expires_at, #ttl = :ttl",
                    ConditionExpression=IS_OWNER,
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
            except self._client.exceptions.ConditionalCheckFailedException as error:
                raise lock_lost_error(lock_id, owner, _owner(_present_item(error))) from error
        return self._parse(lock_id, response["Attributes"])

    def release(self, lock_id: str, owner: str) -> bool:
        with translated(f"releasing lock {lock_id} in table {self._table}"):
            try:
                self._client.delete_item(
                    TableName=self._table_name(),
                    Key=_key(lock_id),
                    ConditionExpression=IS_OWNER,
                    ExpressionAttributeNames=OWNER,
                    ExpressionAttributeValues={":me": {"S": owner}},
                )
            except self._client.exceptions.ConditionalCheckFailedException:
                return False
        return True

    def read(self, lock_id: str) -> Lease | None:
        """Return the lease as the last write left it. Raises MalformedLockError for an item that is not a lease."""
        item = self._read_item(lock_id)
        return self._parse(lock_id, item) if item else None

    def delete_malformed(self, lock_id: str) -> bool:
        item = self._read_item(lock_id)
        if not item:
            return False
        try:
            self._parse(lock_id, item)
        except MalformedLockError:
            return self._delete_unchanged(lock_id, item)
        return False

    def _read_item(self, lock_id: str) -> Item | None:
        with translated(f"reading lock {lock_id} in table {self._table}"):
            response = self._client.get_item(TableName=self._table_name(), Key=_key(lock_id), ConsistentRead=True)
        return response.get("Item")

    def _delete_unchanged(self, lock_id: str, item: Item) -> bool:
        """Delete the item if it still has every attribute of `item`, and no attribute of a lease beside them."""
        names = {f"#n{number}": name for number, name in enumerate((*item, *LEASE_ATTRIBUTES - item.keys()))}
        conditions = [
            f"{alias} = :{alias[1:]}" if name in item else f"attribute_not_exists({alias})"
            for alias, name in names.items()
        ]
        with translated(f"deleting lock {lock_id} in table {self._table}"):
            try:
                self._client.delete_item(
                    TableName=self._table_name(),
                    Key=_key(lock_id),
                    ConditionExpression=" AND ".join(conditions),
                    ExpressionAttributeNames=names,
                    ExpressionAttributeValues={f":{a[1:]}": item[n] for a, n in names.items() if n in item},
                )
            except self._client.exceptions.ConditionalCheckFailedException:
                return False
        return True

    def _table_name(self) -> str:
        return required(self._table, "DYNAMODB_TABLE")

    def _parse(self, lock_id: str, item: Item) -> Lease:
        times = {name: item.get(name, {}).get("N") for name in TIMES}
        try:
            return Lease.model_validate({"lock_id": lock_id, "owner": _owner(item), **times})
        except ValidationError as error:
            wrong = ", ".join(str(problem["loc"][0]) for problem in error.errors())
            raise MalformedLockError(
                f"The holder of lock {lock_id} is unknown: the item LOCK#{lock_id} of table {self._table} is not a"
                f" lease ({wrong} missing or malformed)",
                next_step="make sure that no execution is running, then type: chromadb-compaction lock release --force",
            ) from error


def lock_held_error(lease: Lease, *, now: float) -> LockHeldError:
    """Return the error for a lock that another owner holds, naming the owner, since when and until when."""
    # Only an execution has a history. Another owner is an operator's command.
    command = f"history {execution_name(lease.owner)}" if lease.owner.startswith("arn:") else "lock show"
    return LockHeldError(
        f"Lock {lease.lock_id} is held by {lease.owner} since {iso_time(lease.acquired_at)} until"
        f" {iso_time(lease.expires_at)} ({lease.expires_at - int(now)} s from now unless renewed)",
        next_step=f"wait for it, or see: chromadb-compaction {command}",
        holder=lease.owner,
        since=lease.acquired_at,
        until=lease.expires_at,
    )


def lock_lost_error(lock_id: str, owner: str, holder: str | None) -> LockLostError:
    """Return the error for an owner that no longer holds the lock. `holder` holds it now."""
    now_held = f"it is now held by {holder}" if holder else "nobody holds it: its item was deleted"
    return LockLostError(
        f"Lock {lock_id} is no longer held by {owner}: {now_held}",
        next_step="this execution stops, and publishes nothing from now on; the next one does the rest",
        holder=holder,
    )


def _key(lock_id: str) -> dict[str, UniversalAttributeValueTypeDef]:
    return {"PK": {"S": f"LOCK#{lock_id}"}, "SK": {"S": f"LOCK#{lock_id}"}}


def _item(lease: Lease) -> dict[str, UniversalAttributeValueTypeDef]:
    times = {name: getattr(lease, name) for name in (*TIMES, "ttl")}
    return {**_key(lease.lock_id), "owner": {"S": lease.owner}, **{name: {"N": str(t)} for name, t in times.items()}}


def _present_item(error: ClientError) -> Item:
    """Return the item that did not meet the condition. It is empty if there is none."""
    return cast("Item", error.response.get("Item", {}))


def _owner(item: Item) -> str | None:
    return item.get("owner", {}).get("S")
