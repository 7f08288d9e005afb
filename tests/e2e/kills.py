"""Kills of executions at random moments, and checks of the content after later executions have finished."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import NamedTuple

from botocore.exceptions import ClientError

from chromadb_compaction.layout import reason_key
from chromadb_compaction.lease import Lease
from chromadb_compaction.settings import required
from tests.builders import a_uuid7
from tests.e2e.durable_server import DurableServer
from tests.e2e.model import Delta, Row, expected, published
from tests.stack import Stack

COLLECTIONS = ("docs", "notes")
LATEST_SECONDS = 4.0
"""An execution with cold functions takes less than this, so most kills hit a running execution."""
MOST_EXECUTIONS = 15
WAYS = ("worker", "workers", "stop", "stop and workers", "two executions", "server")


class Kill(NamedTuple):
    """One kill: its way, its time after the start of the execution, the number of killed processes, and its outcome."""

    number: int
    way: str
    seconds: float
    processes: int
    outcome: str
    executions: int
    expiries: int

    def __str__(self) -> str:
        return (
            f"kill {self.number}: {self.way} after {self.seconds:.2f} s, {self.processes} processes; it {self.outcome};"
            f" idle after {self.executions} more executions and {self.expiries} expiries of the lease"
        )


class KillTest:
    """A stack that is killed again and again, and all deltas that were put into it."""

    def __init__(self, server: DurableServer, scratch: Path) -> None:
        self._server = server
        self._scratch = scratch
        self._good: list[Delta] = []
        self._bad: list[Delta] = []

    @property
    def stack(self) -> Stack:
        """The stack as it is now."""
        return self._server.stack

    def kill_once(self, number: int) -> Kill:
        """Put deltas, start an execution, kill it, compact until the stack is idle, and check its content."""
        chance = Random(f"kill {number}")
        self._put_deltas(number, chance)
        way = WAYS[number % len(WAYS)]
        seconds = chance.uniform(0.0, LATEST_SECONDS)
        arn = self.stack.start_execution()
        if way == "two executions":
            self.stack.start_execution()
        time.sleep(seconds)
        processes = self._kill(way, arn, chance)
        outcome = "was lost with the server" if way == "server" else self._status(arn)
        executions, expiries = self._compact_until_idle()
        self._check(number)
        return Kill(number, way, seconds, processes, outcome, executions, expiries)

    def _put_deltas(self, number: int, chance: Random) -> None:
        deltas = [_a_delta(number * 100 + each, chance) for each in range(12)]
        self._good += deltas
        bad = Delta("docs", (Row("bad", (float("nan"), 1.0)),))
        self._bad.append(bad)
        self.stack.put_objects({delta.key: delta.body() for delta in (*deltas, bad)})

    def _kill(self, way: str, arn: str, chance: Random) -> int:
        if way == "server":
            return self._kill_the_server()
        if way.startswith("stop"):
            with suppress(ClientError):  # it may have ended already
                self.stack.sfn.stop_execution(executionArn=arn, cause="stopped by a test")
        if way == "stop":
            return 0
        alive = self._server.workers()
        targets = chance.sample(alive, min(len(alive), 1)) if way == "worker" else alive
        for target in targets:
            with suppress(ProcessLookupError):
                os.kill(target, signal.SIGKILL)
        return len(targets)

    def _kill_the_server(self) -> int:
        lease, processes = self.stack.lease(), len(self._server.workers())
        self._server.kill()
        self._server.restart()
        if lease is not None:
            self._restore_lock(lease)
        return processes + 1

    def _restore_lock(self, lease: Lease) -> None:
        """Restore the lock as DynamoDB would have kept it. Its owner has ended and will not release it."""
        services = self.stack.services(cache_dir=self._scratch)
        left = max(1, int(lease.expires_at - time.time()))
        services.leases.acquire(lease.lock_id, lease.owner, now=time.time(), seconds=left)

    def _status(self, arn: str) -> str:
        return str(self.stack.wait(arn).status).lower()

    def _compact_until_idle(self) -> tuple[int, int]:
        """Start executions, as the schedule would, until one finds no work."""
        expiries = 0
        for executions in range(1, MOST_EXECUTIONS + 1):
            self.stack.eventually(lambda: not self.stack.running_executions(), "no execution runs", seconds=120)
            result = self.stack.compact()
            if "held" in result.output:
                self._expire_lease()
                expiries += 1
            elif result.status == "SUCCEEDED" and not self.stack.keys("delta/"):
                return executions, expiries
        raise AssertionError(f"not idle after {MOST_EXECUTIONS} executions; pending: {self.stack.keys('delta/')}")

    def _expire_lease(self) -> None:
        """Set the lease's expiry to the past, instead of waiting until it expires."""
        lease = self.stack.lease()
        if lease is None:
            return
        limit = self.stack.settings.lease_seconds
        assert lease.expires_at <= time.time() + limit, f"the lease of {lease.owner} outlasts {limit} s"
        key = {"S": f"LOCK#{self.stack.settings.lock_id}"}
        self.stack.dynamodb.update_item(
            TableName=required(self.stack.settings.dynamodb_table, "DYNAMODB_TABLE"),
            Key={"PK": key, "SK": key},
            UpdateExpression="SET expires_at = :past",
            ConditionExpression="attribute_exists(PK)",
            ExpressionAttributeValues={":past": {"N": str(int(time.time()) - 1)}},
        )

    def _check(self, number: int) -> None:
        stack = self.stack
        assert stack.lease() is None, f"kill {number}: the lock is still held"
        assert published(stack.s3, stack.bucket, self._scratch / str(number)) == expected(self._good), f"kill {number}"
        archived, quarantined = set(stack.keys("compacted/")), set(stack.keys("quarantine/"))
        assert archived == {each.key.replace("delta/", "compacted/") for each in self._good}, f"kill {number}"
        kept = {each.key.replace("delta/", "quarantine/") for each in self._bad}
        assert quarantined == kept | {reason_key(key) for key in kept}, f"kill {number}"


def summary(kills: list[Kill]) -> str:
    """Return the outcomes of the killed executions per way, as lines of text."""
    counts = Counter((kill.way, kill.outcome) for kill in kills)
    lines = [f"{way}: {count} x {outcome}" for (way, outcome), count in sorted(counts.items())]
    executions, expiries = sum(kill.executions for kill in kills), sum(kill.expiries for kill in kills)
    processes = sum(kill.processes for kill in kills)
    return "\n".join(
        [
            *lines,
            f"{len(kills)} kills, {processes} processes; {executions} executions and {expiries} expiries until idle",
        ]
    )


def _a_delta(number: int, chance: Random) -> Delta:
    """Return a delta of upserts and deletes of common ids. Some deltas are older than the merged ones."""
    at = time.time() - chance.choice((0, 0, 0, 3600))
    rows = tuple(_a_row(number, chance) for _ in range(20))
    return Delta(chance.choice(COLLECTIONS), rows, str(a_uuid7(at, number)))


def _a_row(number: int, chance: Random) -> Row:
    name = f"id-{chance.randrange(300)}"
    if chance.random() < 0.2:
        return Row(name)
    return Row(name, (float(number), chance.random()), f"text of {number}", {"delta": number})
