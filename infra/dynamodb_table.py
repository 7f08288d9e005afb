"""The lock table: a new one, or an existing one that may hold other items too."""

from __future__ import annotations

from typing import NamedTuple

import pulumi
from pulumi_aws import dynamodb

from infra.config import NAMESPACE, CompactionConfig, ConfigurationRefused
from infra.data_protection import keep_data
from infra.names import StackNames

PARTITION_KEY = "PK"
SORT_KEY = "SK"


class ExistingTable(NamedTuple):
    """A table that the stack did not create."""

    name: str
    arn: str


class LockTable(pulumi.ComponentResource):
    """The table with string keys PK and SK. An existing table is only read, never changed."""

    name: pulumi.Input[str]
    arn: pulumi.Input[str]

    def __init__(
        self,
        names: StackNames,
        config: CompactionConfig,
        *,
        existing: ExistingTable | None,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("chromadb:locking:LockTable", "chromadb-lock", opts=opts)
        if existing:
            self.name, self.arn = existing
        else:
            table = self._create(names.table, config)
            self.name, self.arn = table.name, table.arn
        self.register_outputs({"name": self.name, "arn": self.arn})

    def _create(self, name: str, config: CompactionConfig) -> dynamodb.Table:
        return dynamodb.Table(
            "chromadb-lock-table",
            name=name,
            billing_mode="PAY_PER_REQUEST",
            hash_key=PARTITION_KEY,
            range_key=SORT_KEY,
            attributes=[
                dynamodb.TableAttributeArgs(name=PARTITION_KEY, type="S"),
                dynamodb.TableAttributeArgs(name=SORT_KEY, type="S"),
            ],
            ttl=dynamodb.TableTtlArgs(attribute_name="ttl", enabled=True),
            point_in_time_recovery=dynamodb.TablePointInTimeRecoveryArgs(enabled=True),
            deletion_protection_enabled=config.protect_data,
            opts=keep_data(config, self),
        )


def existing_table(config: CompactionConfig) -> ExistingTable | None:
    """Return the configured table, or None. Raises ConfigurationRefused if its keys are not PK and SK."""
    name = config.existing_table
    if name is None:
        return None
    table = dynamodb.get_table(name=name)
    if (table.hash_key, table.range_key) != (PARTITION_KEY, SORT_KEY):
        raise ConfigurationRefused(
            f"{NAMESPACE}:existingTable = {name!r}: its keys are {table.hash_key} and {table.range_key};"
            f" the lock needs {PARTITION_KEY} and {SORT_KEY}, both strings"
        )
    return ExistingTable(name, table.arn)
