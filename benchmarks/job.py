"""The measured job: produce deltas, compact them with an execution on the local stack, and read the snapshot."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import boto3

from benchmarks.calls import CallCounter
from benchmarks.workload import COLLECTION, Load, Records, a_query
from chromadb_compaction.aws import clients
from chromadb_compaction.aws.workflow import start, step_functions
from chromadb_compaction.chroma.client import open_collection
from chromadb_compaction.cli.executions.client import follow, state_machine
from chromadb_compaction.cli.executions.timeline import Timeline
from chromadb_compaction.client.writer import DeltaWriter
from chromadb_compaction.local import server
from chromadb_compaction.local.deployment import Deployment, bring_up, deploy_stack
from chromadb_compaction.local.home import StackHome
from chromadb_compaction.local.resources.clients import AwsClients
from chromadb_compaction.messages import PublishedSnapshot
from chromadb_compaction.ports import Services
from chromadb_compaction.snapshots.files import Wanted, download
from chromadb_compaction.snapshots.pointer import read_manifest, read_pointer

SERVICES = ("S3", "SQS", "DYNAMODB")
PUBLISH_PHASES = ("upload", "publish")
# A scheduled execution would disturb the measurement.
CONFIG = {"compactionSchedule": "rate(1 day)"}
WARM_SECONDS = 600
"""Functions stay warm for this long, as on Lambda: longer than the time to write a backlog."""


@contextmanager
def local_server() -> Iterator[StackHome]:
    """Run a new local stack, and make this process's AWS clients use it."""
    os.environ["LAMBDA_WARM_TTL_SECONDS"] = str(WARM_SECONDS)
    with TemporaryDirectory(prefix="chromadb-benchmark-") as directory:
        home = StackHome(Path(directory))
        stack = bring_up(home, Deployment("job", CONFIG), end_with_parent=True)
        os.environ.update({name: text for name, text in stack.environment().items() if name.startswith("AWS_")})
        # The default session keeps the credentials of the server before.
        boto3.setup_default_session()
        try:
            yield home
        finally:
            server.stop(home)


def deployed(home: StackHome, name: str, *, relay: CallCounter | None = None) -> Services:
    """Deploy another stack and connect to it. If there is a `relay`, its functions send their calls through it."""
    # The server sets AWS_ENDPOINT_URL itself, and the variable of one service has precedence over it.
    variables = {f"AWS_ENDPOINT_URL_{service}": relay.endpoint for service in SERVICES} if relay else {}
    aws = AwsClients(os.environ["AWS_ENDPOINT_URL"], os.environ["AWS_SECRET_ACCESS_KEY"])
    stack = deploy_stack(home, Deployment(name, CONFIG, variables), aws)
    return clients.connect(stack.settings())


def environment_of(services: Services) -> dict[str, str]:
    """Return the variables with which another process uses the same stack."""
    given = services.settings.model_dump(mode="json", exclude_none=True)
    return {name.upper(): str(value) for name, value in given.items()}


def warm_up(services: Services, *, merges: int = 1) -> None:
    """Compact so many deltas of one record that `merges` functions merge at once, so that every function has started.

    A function takes a second or two to import its libraries when it starts. The references do not count imports.
    """
    with DeltaWriter(services.settings, objects=services.objects, queue=services.queue) as writer:
        for number in range((merges - 1) * services.settings.compaction_batch_size + 1):
            writer.upsert("warm-up", [str(number)], [[1.0, 0.0]])
            writer.flush()
    compact(services)


def produce(services: Services, deltas: Iterable[Records]) -> float:
    """Write one delta for each of `deltas` and return the seconds."""
    prepared = list(deltas)
    started = time.perf_counter()
    with DeltaWriter(services.settings, objects=services.objects, queue=services.queue) as writer:
        for records in prepared:
            writer.upsert(COLLECTION, records.ids, records.embeddings, records.documents, records.metadatas)
            writer.flush()
    return time.perf_counter() - started


def compact(services: Services) -> Timeline:
    """Run one execution to its end. Raises RuntimeError unless it succeeds."""
    client = step_functions()
    timeline = follow(client, start(state_machine(services.settings), client), lambda _: None)
    if timeline.ended != "SUCCEEDED":
        raise RuntimeError(f"the execution ended {timeline.ended}: {timeline.failure}")
    return timeline


def phases(timeline: Timeline) -> dict[str, float]:
    """Return the seconds of merging, folding and publishing from the tasks' outputs, and of the whole execution.

    An UploadSnapshot that only plans the folds of other functions has none of its own.
    """
    ended = _end_of(timeline)
    uploads = [PublishedSnapshot.model_validate(each["snapshot"]) for each in timeline.outputs["UploadSnapshot"]]
    merge = seconds_of(timeline, "MergeBatches")
    fold = sum(upload.seconds.get("fold", 0.0) for upload in uploads)
    return {
        "merge batch": merge,
        "fold": fold,
        "merge and fold": merge + fold,
        "publish": sum(upload.seconds.get(phase, 0.0) for upload in uploads for phase in PUBLISH_PHASES),
        "execution": (ended - timeline.visits[0].entered).total_seconds(),
    }


def seconds_of(timeline: Timeline, state: str) -> float:
    """Return the seconds of all visits of a state."""
    ended = _end_of(timeline)
    return sum(visit.seconds(ended) for visit in timeline.visits if visit.name == state)


def _end_of(timeline: Timeline) -> datetime:
    return max(visit.left for visit in timeline.visits if visit.left)


def read(services: Services, load: Load) -> float:
    """Download the snapshot and query it, as a reader without a copy does, and return the seconds."""
    started = time.perf_counter()
    current = read_pointer(services)
    if current is None:
        raise RuntimeError("nothing was published")
    manifest = read_manifest(services, current.pointer)
    with TemporaryDirectory() as parent:
        directory = Path(parent, COLLECTION)
        download(services, manifest, [Wanted(COLLECTION, manifest.collections[COLLECTION].files, directory)])
        with open_collection(directory, COLLECTION) as collection:
            collection.query(query_embeddings=a_query(load), n_results=10)
            return time.perf_counter() - started


def run_rounds(services: Services, load: Load, rounds: Iterable[Iterable[Records]]) -> Iterator[dict[str, float]]:
    """Yield the seconds per phase of each round."""
    for deltas in rounds:
        produced = produce(services, deltas)
        yield {"produce": produced, **phases(compact(services)), "reader": read(services, load)}


def idle_calls(services: Services, counter: CallCounter, deltas: Iterable[Records]) -> list[str]:
    """Compact the deltas, and return the AWS calls of the next execution, which has nothing to do."""
    produce(services, deltas)
    compact(services)
    counter.calls.clear()
    compact(services)
    if not counter.calls:
        raise RuntimeError("the functions' calls did not go through the relay, so they were not counted")
    return list(counter.calls)
