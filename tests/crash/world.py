"""A deterministic world of AWS, one Lambda environment and a clock, in which a process can be killed at any call.

Loops replace threads, so that every run makes the same calls in the same order. Tokens are counted, and only tests
advance the clock. Everything else is the product as it is deployed: handlers, steps, adapters, boto3.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple, Self
from unittest.mock import patch

import botocore.retries.quota
from boto3.s3.transfer import TransferConfig
from botocore.auth import SigV4Auth
from botocore.useragent import UserAgentString

import tasks.handling
from chromadb_compaction import concurrency, times
from chromadb_compaction.aws import object_store
from chromadb_compaction.fold import requests, workers
from chromadb_compaction.fold.cost import FOLD_SECONDS, FoldLimits
from chromadb_compaction.ports import Services
from chromadb_compaction.rows import runs
from chromadb_compaction.settings import Settings, load_settings
from chromadb_compaction.snapshots import cache
from chromadb_compaction.steps import download_snapshot, publication, upload_snapshot
from chromadb_compaction.steps import fold_partitions as fold_partitions_step
from tasks import acquire_lock, clean_up, compactor, fold_partitions, list_deltas, release_lock
from tasks import merge_batch as merge_batch_task
from tests.crash.determinism import SequentialExecutor, files_on, write_files
from tests.crash.folds import FoldMemory
from tests.crash.state_machine import Ended, StateMachine, Step, TaskFailed
from tests.fakes.aws.in_process import InProcessAws, Perform, Saved
from tests.fakes.aws.protocol import Answer, Call
from tests.fakes.services import FakeClock

FUNCTIONS: dict[str, Callable[[object, object], dict[str, Any]]] = {
    "${AcquireLockFunctionArn}": acquire_lock.handler,
    "${ListDeltasFunctionArn}": list_deltas.handler,
    "${CompactorFunctionArn}": compactor.handler,
    "${MergeBatchFunctionArn}": merge_batch_task.handler,
    "${FoldPartitionFunctionArn}": fold_partitions.handler,
    "${CleanUpFunctionArn}": clean_up.handler,
    "${ReleaseLockFunctionArn}": release_lock.handler,
}
ARN = "arn:aws:states:eu-west-1:000000000000:execution:chromadb-compaction-dev:"
SECONDS_PER_STATE = 1.0


class Killed(BaseException):
    """The process is killed: it makes no more calls, and its disk stays as it was."""


class ExecutionDied(BaseException):
    """The whole execution died: nothing is caught, nothing is released."""


AfterKill = str
"""The reaction of Step Functions to a killed task: `caught`, `retried`, or `dies` with its execution."""
Fault = Callable[["World", Call, Perform], Answer]
Observer = Callable[["World", Call, Saved], None]
"""Called after each writing call, with the state before it."""


def no_fault(_world: World, _call: Call, perform: Perform) -> Answer:
    """Perform the call without a fault."""
    return perform()


class SavedWorld(NamedTuple):
    """The state that later behaviour depends on."""

    aws: Saved
    now: float
    tokens: int
    disk: dict[str, bytes]


class World:
    """AWS, one Lambda environment with its disk, and their clock. Use it as a context manager.

    `folds_in_an_item`: so many folds one function may do for a large pass, each in a round of its own. None:
    UploadSnapshot does all, in one round.
    """

    def __init__(
        self,
        disk: Path,
        folds: FoldMemory,
        *,
        executor: type[SequentialExecutor] = SequentialExecutor,
        folds_in_an_item: int | None = None,
        **settings: object,
    ) -> None:
        self._folds_in_an_item = folds_in_an_item
        self.clock = FakeClock()
        self.aws = InProcessAws(self.clock)
        self.settings = _settings(disk, settings)
        self.fault: Fault = no_fault
        self.observers: list[Observer] = []
        self.problems: list[str] = []
        self.calls: list[Call] = []
        self.actor = ""
        self.after_kill: AfterKill | None = None
        self.machine = StateMachine(self._invoke)
        self._disk = disk
        self._disk_when_killed: dict[str, bytes] | None = None
        self._folds = folds
        self._executor = executor
        self.tokens = 0
        self._quotas: list[Any] = []
        self._patches = ExitStack()
        self.aws.intercept = self._intercept
        self.aws.create(self.settings)

    def __enter__(self) -> Self:
        """Replace threads, random tokens and the services by those of this world."""
        for target, name, value in self._replacements():
            self._patches.enter_context(patch.object(target, name, value))
        self._patches.callback(logging.disable, logging.root.manager.disable)
        logging.disable(logging.CRITICAL)
        self.services = self._new_services(self._disk)
        self._other_services = self._new_services(self._disk.with_name(self._disk.name + "-other"))
        return self

    def __exit__(self, *_: object) -> None:
        """Undo the replacements."""
        self._patches.close()
        for disk in (self._disk, self._disk.with_name(self._disk.name + "-other")):
            shutil.rmtree(disk, ignore_errors=True)

    def save(self) -> SavedWorld:
        """Return the current state."""
        return SavedWorld(self.aws.save(), self.clock.now, self.tokens, files_on(self._disk))

    def restore(self, saved: SavedWorld) -> None:
        """Restore a saved state."""
        self.aws.restore(saved.aws)
        self.clock.now = saved.now
        self.tokens = saved.tokens
        write_files(self._disk, saved.disk)
        self.fault = no_fault
        self.after_kill = None
        self.problems = []
        self.calls = []

    def fingerprint(self) -> bytes:
        """Return a digest of the current state."""
        saved = self.save()
        digest = hashlib.blake2b(digest_size=16)
        for name, objects in sorted(saved.aws.buckets.objects.items()):
            digest.update(
                repr((name, [(key, one.etag, one.modified) for key, one in sorted(objects.items())])).encode()
            )
        digest.update(repr((saved.aws.tables, saved.aws.queues, saved.now, saved.tokens)).encode())
        for path, content in sorted(saved.disk.items()):
            digest.update(path.encode() + hashlib.blake2b(content).digest())
        return digest.digest()

    def run(self, name: str) -> Ended:
        """Run a whole execution."""
        step: Step | Ended = self.machine.start()
        while isinstance(step, Step):
            step = self.advance(step, name)
        return step

    def advance(self, step: Step, name: str) -> Step | Ended:
        """Run one state of an execution, and advance the clock by a second."""
        self.clock.tick(SECONDS_PER_STATE)
        with self.acting_as(ARN + name):
            try:
                return self.machine.advance(step, ARN + name)
            except ExecutionDied:
                return Ended("ABORTED")
            except TaskFailed as failed:
                return Ended("FAILED", failed.error)

    @contextmanager
    def acting_as(self, actor: str) -> Iterator[None]:
        """Attribute all calls in the block to this owner."""
        before, self.actor = self.actor, actor
        try:
            yield
        finally:
            self.actor = before

    @contextmanager
    def other_process(self) -> Iterator[None]:
        """Run another process, with an empty disk, while this one is paused."""
        mine, fault, killed = self.services, self.fault, self.after_kill
        self.services, self.fault, self.after_kill = self._other_services, no_fault, None
        shutil.rmtree(Path(self._other_services.settings.chromadb_cache_dir), ignore_errors=True)
        try:
            yield
        finally:
            self.services, self.fault, self.after_kill = mine, fault, killed

    def kill(self, then: AfterKill) -> Killed:
        """Return the exception that kills this process. Its disk stays as it is now."""
        self.after_kill = then
        self._disk_when_killed = files_on(self._disk)
        return Killed()

    def run_process(self, work: Callable[[], Any]) -> Any:
        """Run one process. Raises TaskFailed for its errors, and TaskFailed or ExecutionDied if it is killed."""
        for quota in self._quotas:
            quota.__init__()
        try:
            return work()
        except Killed:
            then, self.after_kill = self.after_kill, None
            # Undo the clean-up code, which a killed process would not have run.
            write_files(self._disk, self._disk_when_killed or {})
            if then == "dies":
                raise ExecutionDied from None
            raise TaskFailed(
                "Lambda.ServiceException" if then == "retried" else "Runtime.ExitError", "killed"
            ) from None
        except Exception as error:
            raise TaskFailed(type(error).__name__, str(error)) from error

    def _invoke(self, function: str, payload: Any) -> Any:
        return self.run_process(lambda: FUNCTIONS[function](payload, None))

    def _intercept(self, call: Call, perform: Perform) -> Answer:
        if self.after_kill is not None:
            raise Killed
        self.calls.append(call)
        return self.fault(self, call, lambda: self._watched(call, perform))

    def _watched(self, call: Call, perform: Perform) -> Answer:
        if not call.writes:
            return perform()
        before = self.aws.save()
        answer = perform()
        for observer in self.observers:
            observer(self, call, before)
        return answer

    def _new_services(self, disk: Path) -> Services:
        settings = self.settings.model_copy(update={"chromadb_cache_dir": str(disk)})
        return self.aws.services(settings)

    def _token(self, size: int) -> str:
        self.tokens += 1
        return f"{self.tokens:0{2 * size}x}"

    def _replacements(self) -> Iterator[tuple[Any, str, Any]]:
        chance = SimpleNamespace(token_hex=self._token)
        yield concurrency, "ThreadPoolExecutor", self._executor
        yield object_store, "PARTS", TransferConfig(use_threads=False)
        yield publication, "secrets", chance
        yield cache, "secrets", chance
        yield times, "time", SimpleNamespace(perf_counter=self.clock)
        yield runs, "ROW_GROUP", 4  # so that a range of a run is not all of it
        yield workers, "fold_collection", self._folds.fold
        yield (
            requests,
            "reshape",
            self._folds.reshaping(vars(requests)["reshape"]),
        )  # a seeded defect may have replaced it
        if self._folds_in_an_item is not None:
            limits = FoldLimits(seconds=1.1 * FOLD_SECONDS * self._folds_in_an_item, disk=float("inf"))
            yield upload_snapshot, "limits_of", lambda _services: limits
            yield download_snapshot, "limits_of", lambda _services: limits
            yield fold_partitions_step, "limits_of", lambda _services: limits._replace(disk=0)
        yield tasks.handling, "services", lambda: self.services
        yield tasks.handling, "emit", lambda *_, **__: None
        yield time, "sleep", lambda _seconds: None
        # Without this, these two would take a quarter of the time for every request.
        yield UserAgentString, "to_string", lambda _self: "tests"
        yield SigV4Auth, "add_auth", lambda _self, _request: None
        yield botocore.retries.quota, "RetryQuota", self._new_quota

    def _new_quota(self) -> Any:
        # Each process has its own quota of retries.
        quota = _RetryQuota()
        self._quotas.append(quota)
        return quota


_RetryQuota: Any = botocore.retries.quota.RetryQuota


def _settings(disk: Path, settings: dict[str, object]) -> Settings:
    queues = "https://sqs.eu-west-1.amazonaws.com/000000000000/"
    environment = {
        "CHROMADB_BUCKET": "bucket",
        "DYNAMODB_TABLE": "table",
        "DELTA_QUEUE_URL": queues + "queue",
        "DELTA_DLQ_URL": queues + "dlq",
        "CHROMADB_CACHE_DIR": str(disk),
    }
    return load_settings({**environment, **{name.upper(): str(value) for name, value in settings.items()}})
