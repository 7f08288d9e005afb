"""The contract of every lease store, and the item and errors of DynamoDB."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count

import pytest
from botocore.stub import Stubber
from mypy_boto3_dynamodb import DynamoDBClient

from chromadb_compaction.aws.clients import client_config
from chromadb_compaction.aws.lease_store import DynamoDBLeaseStore
from chromadb_compaction.errors import (
    CompactionError,
    ConfigurationError,
    LockHeldError,
    LockLostError,
    MalformedLockError,
    TransientStorageError,
)
from chromadb_compaction.lease import Lease
from chromadb_compaction.ports import LeaseStore
from tests.contracts.conftest import client_to_stub, create_table
from tests.fakes.aws.in_process import InProcessAws
from tests.fakes.leases import InMemoryLeaseStore

LOCK = "chroma-main-snapshot"
ALICE = "arn:aws:states:eu-west-1:000000000000:execution:chromadb-compaction-dev:alice"
BOB = "arn:aws:states:eu-west-1:000000000000:execution:chromadb-compaction-dev:bob"
NOON = 1_700_000_000.25
QUARTER = 900

_numbers = count()


class LeaseStoreContract:
    """Tests of any lease store. A subclass provides the fixture `store`, an empty one."""

    def test_a_free_lease_is_acquired(self, store: LeaseStore) -> None:
        lease = store.acquire(LOCK, ALICE, now=NOON, seconds=QUARTER)

        assert lease == Lease.starting(LOCK, ALICE, now=NOON, seconds=QUARTER)
        assert store.read(LOCK) == lease

    def test_a_lease_that_was_never_acquired_reads_as_none(self, store: LeaseStore) -> None:
        assert store.read(LOCK) is None

    def test_the_error_for_a_held_lease_names_the_holder_since_when_and_until_when(self, store: LeaseStore) -> None:
        store.acquire(LOCK, ALICE, now=NOON, seconds=QUARTER)

        with pytest.raises(LockHeldError) as caught:
            store.acquire(LOCK, BOB, now=NOON + 60, seconds=QUARTER)

        assert str(caught.value) == (
            f"Lock {LOCK} is held by {ALICE} since 2023-11-14T22:13:20Z until 2023-11-14T22:28:20Z"
            " (840 s from now unless renewed); wait for it, or see: chromadb-compaction history alice"
        )

    def test_a_failed_acquisition_changes_nothing(self, store: LeaseStore) -> None:
        lease = store.acquire(LOCK, ALICE, now=NOON, seconds=QUARTER)

        with pytest.raises(LockHeldError):
            store.acquire(LOCK, BOB, now=NOON + 60, seconds=QUARTER)

        assert store.read(LOCK) == lease

    def test_the_owner_can_acquire_again_after_a_lost_response_and_the_lease_starts_again(
        self, store: LeaseStore
    ) -> None:
        store.acquire(LOCK, ALICE, now=NOON, seconds=QUARTER)

        again = store.acquire(LOCK, ALICE, now=NOON + 5, seconds=QUARTER)

        assert again == Lease.starting(LOCK, ALICE, now=NOON + 5, seconds=QUARTER)
        assert store.read(LOCK) == again

    @pytest.mark.parametrize("late", [-1.0, -0.25, 0.0])
    def test_a_lease_is_held_up_to_and_including_the_second_it_expires(self, store: LeaseStore, late: float) -> None:
        lease = store.acquire(LOCK, ALICE, now=NOON, seconds=QUARTER)

        with pytest.raises(LockHeldError):
            store.acquire(LOCK, BOB, now=lease.expires_at + late, seconds=QUARTER)

    @pytest.mark.parametrize("late", [0.001, 0.5, 1.0, 90_000.0])
    def test_anybody_can_acquire_an_expired_lease(self, store: LeaseStore, late: float) -> None:
        lease = store.acquire(LOCK, ALICE, now=NOON, seconds=QUARTER)

        acquired = store.acquire(LOCK, BOB, now=lease.expires_at + late, seconds=QUARTER)

        assert acquired.owner == BOB
        assert store.read(LOCK) == acquired

    def test_exactly_one_of_many_concurrent_acquisitions_succeeds(self, store: LeaseStore) -> None:
        def acquire(number: int) -> str | None:
            try:
                return store.acquire(LOCK, f"{ALICE}-{number}", now=NOON, seconds=QUARTER).owner
            except LockHeldError:
                return None

        with ThreadPoolExecutor(8) as pool:
            winners = [owner for owner in pool.map(acquire, range(24)) if owner]

        lease = store.read(LOCK)
        assert lease is not None
        assert winners == [lease.owner]

    def test_a_renewal_extends_the_expiry_and_keeps_the_time_of_acquisition(self, store: LeaseStore) -> None:
        acquired = store.acquire(LOCK, ALICE, now=NOON, seconds=QUARTER)

        renewed = store.renew(LOCK, ALICE, now=NOON + 60, seconds=QUARTER)

        assert renewed.acquired_at == acquired.acquired_at
        assert renewed.heartbeat_at == acquired.heartbeat_at + 60
        assert renewed.expires_at == acquired.expires_at + 60
        assert store.read(LOCK) == renewed

    def test_an_expired_lease_that_nobody_else_acquired_can_be_renewed(self, store: LeaseStore) -> None:
        store.acquire(LOCK, ALICE, now=NOON, seconds=QUARTER)

        renewed = store.renew(LOCK, ALICE, now=NOON + 10 * QUARTER, seconds=QUARTER)

        assert not renewed.is_expired(NOON + 10 * QUARTER)

    def test_a_renewal_cannot_take_another_owners_lease(self, store: LeaseStore) -> None:
        lease = store.acquire(LOCK, ALICE, now=NOON, seconds=QUARTER)

        with pytest.raises(LockLostError, match=r"now held by .*:alice"):
            store.renew(LOCK, BOB, now=NOON + 60, seconds=QUARTER)

        assert store.read(LOCK) == lease

    def test_a_renewal_cannot_take_another_owners_expired_lease(self, store: LeaseStore) -> None:
        lease = store.acquire(LOCK, ALICE, now=NOON, seconds=QUARTER)

        with pytest.raises(LockLostError):
            store.renew(LOCK, BOB, now=NOON + 10 * QUARTER, seconds=QUARTER)

        assert store.read(LOCK) == lease

    def test_an_owner_that_lost_its_lease_fails_at_its_next_renewal(self, store: LeaseStore) -> None:
        store.acquire(LOCK, ALICE, now=NOON, seconds=QUARTER)
        store.acquire(LOCK, BOB, now=NOON + QUARTER + 2, seconds=QUARTER)

        with pytest.raises(LockLostError, match=r"now held by .*:bob"):
            store.renew(LOCK, ALICE, now=NOON + QUARTER + 3, seconds=QUARTER)

    def test_a_renewal_does_not_recreate_a_deleted_item(self, store: LeaseStore) -> None:
        with pytest.raises(LockLostError, match="nobody holds it"):
            store.renew(LOCK, ALICE, now=NOON, seconds=QUARTER)

        assert store.read(LOCK) is None

    def test_the_owner_can_release_its_lease(self, store: LeaseStore) -> None:
        store.acquire(LOCK, ALICE, now=NOON, seconds=QUARTER)

        assert store.release(LOCK, ALICE)
        assert store.read(LOCK) is None

    def test_a_released_lease_can_be_acquired_at_once(self, store: LeaseStore) -> None:
        store.acquire(LOCK, ALICE, now=NOON, seconds=QUARTER)
        store.release(LOCK, ALICE)

        assert store.acquire(LOCK, BOB, now=NOON + 1, seconds=QUARTER).owner == BOB

    def test_another_owners_lease_cannot_be_released_even_when_it_has_expired(self, store: LeaseStore) -> None:
        lease = store.acquire(LOCK, ALICE, now=NOON, seconds=QUARTER)

        assert not store.release(LOCK, BOB)
        assert store.read(LOCK) == lease

    def test_releasing_twice_is_not_an_error(self, store: LeaseStore) -> None:
        store.acquire(LOCK, ALICE, now=NOON, seconds=QUARTER)

        assert [store.release(LOCK, ALICE), store.release(LOCK, ALICE)] == [True, False]

    def test_a_lease_is_never_deleted_as_malformed(self, store: LeaseStore) -> None:
        assert not store.delete_malformed(LOCK)
        lease = store.acquire(LOCK, ALICE, now=NOON, seconds=QUARTER)

        assert not store.delete_malformed(LOCK)
        assert store.read(LOCK) == lease

    def test_locks_with_different_names_are_independent(self, store: LeaseStore) -> None:
        store.acquire(LOCK, ALICE, now=NOON, seconds=QUARTER)

        assert store.acquire("another", BOB, now=NOON, seconds=QUARTER).owner == BOB


class TestInMemoryLeaseStore(LeaseStoreContract):
    @pytest.fixture
    def store(self) -> InMemoryLeaseStore:
        return InMemoryLeaseStore()

    def test_a_lost_response_leaves_the_lease_acquired(self, store: InMemoryLeaseStore) -> None:
        def lose_the_response(call: str) -> None:
            raise TransientStorageError(call)

        store.after = lose_the_response

        with pytest.raises(TransientStorageError):
            store.acquire(LOCK, ALICE, now=NOON, seconds=QUARTER)
        lease = store.read(LOCK)
        assert lease is not None
        assert lease.owner == ALICE


class DynamoDBLeaseStoreContract(LeaseStoreContract):
    """Tests through boto3. A subclass provides `dynamodb`. Operators and other programs read the item's attributes."""

    @pytest.fixture
    def table(self, dynamodb: DynamoDBClient) -> Iterator[str]:
        name = f"lease-contract-{next(_numbers)}"
        create_table(dynamodb, name)
        yield name
        dynamodb.delete_table(TableName=name)

    @pytest.fixture
    def store(self, dynamodb: DynamoDBClient, table: str) -> DynamoDBLeaseStore:
        return DynamoDBLeaseStore(dynamodb, table)

    def test_the_item_has_the_documented_attributes(
        self, dynamodb: DynamoDBClient, table: str, store: DynamoDBLeaseStore
    ) -> None:
        store.acquire(LOCK, ALICE, now=NOON, seconds=QUARTER)

        (item,) = dynamodb.scan(TableName=table)["Items"]

        assert item == {
            "PK": {"S": "LOCK#chroma-main-snapshot"},
            "SK": {"S": "LOCK#chroma-main-snapshot"},
            "owner": {"S": ALICE},
            "acquired_at": {"N": "1700000000"},
            "heartbeat_at": {"N": "1700000000"},
            "expires_at": {"N": "1700000900"},
            "ttl": {"N": "1700087300"},
        }

    def test_a_renewal_extends_the_ttl(self, dynamodb: DynamoDBClient, table: str, store: DynamoDBLeaseStore) -> None:
        store.acquire(LOCK, ALICE, now=NOON, seconds=QUARTER)
        store.renew(LOCK, ALICE, now=NOON + 60, seconds=QUARTER)

        (item,) = dynamodb.scan(TableName=table)["Items"]

        assert item["ttl"] == {"N": "1700087360"}

    @pytest.mark.parametrize(
        ("attributes", "wrong"),
        [
            ({}, "owner, acquired_at, heartbeat_at, expires_at"),
            ({"owner": {"S": BOB}, "expires_at": {"S": "tomorrow"}}, "acquired_at, heartbeat_at, expires_at"),
            ({"owner": {"N": "7"}, "expires_at": {"N": "9999999999"}}, "owner, acquired_at, heartbeat_at"),
        ],
    )
    def test_the_error_for_an_item_that_is_not_a_lease_names_its_wrong_attributes(
        self,
        dynamodb: DynamoDBClient,
        table: str,
        store: DynamoDBLeaseStore,
        attributes: dict[str, dict[str, str]],
        wrong: str,
    ) -> None:
        key = {"S": f"LOCK#{LOCK}"}
        dynamodb.put_item(TableName=table, Item={"PK": key, "SK": key, **attributes})

        with pytest.raises(MalformedLockError, match=rf"is not a lease \({wrong} missing or malformed\)"):
            store.acquire(LOCK, ALICE, now=NOON, seconds=QUARTER)
        with pytest.raises(MalformedLockError, match=rf"is not a lease \({wrong} missing or malformed\)"):
            store.read(LOCK)

    def test_an_item_that_is_not_a_lease_is_deleted(
        self, dynamodb: DynamoDBClient, table: str, store: DynamoDBLeaseStore
    ) -> None:
        key = {"S": f"LOCK#{LOCK}"}
        dynamodb.put_item(TableName=table, Item={"PK": key, "SK": key, "owner": {"N": "7"}, "size": {"N": "1"}})

        assert store.delete_malformed(LOCK)
        assert store.acquire(LOCK, ALICE, now=NOON, seconds=QUARTER).owner == ALICE

    def test_an_item_that_changes_after_it_was_read_is_not_deleted(
        self, dynamodb: DynamoDBClient, table: str, store: DynamoDBLeaseStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        key = {"S": f"LOCK#{LOCK}"}
        read = {"PK": key, "SK": key, "note": {"S": "before"}}
        monkeypatch.setattr(store, "_read_item", lambda _: read)

        for changed in ({"note": {"S": "after"}}, {"note": {"S": "before"}, "owner": {"S": BOB}}, None):
            if changed is None:
                dynamodb.delete_item(TableName=table, Key={"PK": key, "SK": key})
            else:
                dynamodb.put_item(TableName=table, Item={"PK": key, "SK": key, **changed})
            assert not store.delete_malformed(LOCK)
        assert dynamodb.scan(TableName=table)["Items"] == []

    def test_an_additional_attribute_is_ignored(
        self, dynamodb: DynamoDBClient, table: str, store: DynamoDBLeaseStore
    ) -> None:
        lease = store.acquire(LOCK, ALICE, now=NOON, seconds=QUARTER)
        key = {"S": f"LOCK#{LOCK}"}
        dynamodb.update_item(
            TableName=table,
            Key={"PK": key, "SK": key},
            UpdateExpression="SET note = :note",
            ExpressionAttributeValues={":note": {"S": "ask Ada before you touch this"}},
        )

        assert store.read(LOCK) == lease

    def test_an_item_deleted_by_hand_is_a_lost_lease(
        self, dynamodb: DynamoDBClient, table: str, store: DynamoDBLeaseStore
    ) -> None:
        store.acquire(LOCK, ALICE, now=NOON, seconds=QUARTER)
        key = {"S": f"LOCK#{LOCK}"}
        dynamodb.delete_item(TableName=table, Key={"PK": key, "SK": key})

        with pytest.raises(LockLostError, match="its item was deleted"):
            store.renew(LOCK, ALICE, now=NOON + 1, seconds=QUARTER)

    def test_the_error_for_a_missing_table_names_its_setting(self, dynamodb: DynamoDBClient) -> None:
        with pytest.raises(ConfigurationError, match="DYNAMODB_TABLE"):
            DynamoDBLeaseStore(dynamodb, "no-such-table").read(LOCK)

    def test_the_error_for_an_unset_table_names_its_setting(self, dynamodb: DynamoDBClient) -> None:
        with pytest.raises(ConfigurationError, match="DYNAMODB_TABLE is not set"):
            DynamoDBLeaseStore(dynamodb, None).read(LOCK)


class TestDynamoDBLeaseStore(DynamoDBLeaseStoreContract):
    """Against the local server."""


class TestDynamoDBInProcess(DynamoDBLeaseStoreContract):
    @pytest.fixture
    def dynamodb(self) -> DynamoDBClient:
        return InProcessAws().session().client("dynamodb", config=client_config())


class TestErrorsOfDynamoDB:
    """Errors forced with botocore's stubber: transient ones, and mistakes in the configuration."""

    @pytest.mark.parametrize(
        ("code", "status", "expected"),
        [
            ("ProvisionedThroughputExceededException", 400, TransientStorageError),
            ("ThrottlingException", 400, TransientStorageError),
            ("InternalServerError", 500, TransientStorageError),
            ("ServiceUnavailable", 503, TransientStorageError),
            ("AccessDeniedException", 400, ConfigurationError),
        ],
    )
    def test_each_error_code_has_its_error_class(self, code: str, status: int, expected: type[CompactionError]) -> None:
        client = client_to_stub("dynamodb")
        with Stubber(client) as stubber:
            stubber.add_client_error("put_item", code, http_status_code=status)

            with pytest.raises(expected, match=f"{LOCK}.*{code}"):
                DynamoDBLeaseStore(client, "table").acquire(LOCK, ALICE, now=NOON, seconds=QUARTER)
