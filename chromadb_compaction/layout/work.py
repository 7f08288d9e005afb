"""The keys of work/: what the tasks of an execution hand on, and the marks of work in progress and of failures."""

from __future__ import annotations

import hashlib

from chromadb_compaction.layout.names import WORK_PREFIX

ATTEMPTS_PREFIX = f"{WORK_PREFIX}attempts/"
RUNNING_PREFIX = f"{ATTEMPTS_PREFIX}running/"
COLLECTION_ATTEMPTS_PREFIX = f"{ATTEMPTS_PREFIX}collections/"


def execution_name(execution: str) -> str:
    """Return the last part of an execution's ARN."""
    return execution.rpartition(":")[2]


def work_prefix(execution: str, pass_number: int) -> str:
    """Return the folder of one pass of one execution: work/{execution}/{pass}/."""
    return f"{WORK_PREFIX}{execution_name(execution)}/{pass_number}/"


def batch_key(execution: str, pass_number: int, number: int) -> str:
    """Return the key of a batch's manifest: the list of its deltas."""
    return f"{work_prefix(execution, pass_number)}batches/{number:04d}.json"


def run_key(batch: str) -> str:
    """Return the key of the run that MergeBatch makes of `batch`, a batch_key."""
    return batch.replace("/batches/", "/runs/").removesuffix(".json") + ".parquet"


def report_key(batch: str) -> str:
    """Return the key of the report that MergeBatch writes about `batch`, a batch_key."""
    return batch.replace("/batches/", "/reports/")


def parts_key(batch: str) -> str:
    """Return the key of the list of the parts of a batch's run: one for each collection."""
    return batch.replace("/batches/", "/runs/")


def batch_of_report(report: str) -> str:
    """Return the key of the batch of a report: the inverse of report_key."""
    return report.replace("/reports/", "/batches/")


def batch_number(batch: str) -> str:
    """Return the number of a batch within its pass, as people read it, e.g. 0007."""
    return batch.rpartition("/")[2].removesuffix(".json")


def shapes_key(execution: str, pass_number: int) -> str:
    """Return the key of the collections' shapes (dimension, space) for the batches of a pass."""
    return f"{work_prefix(execution, pass_number)}collections.json"


def outcome_key(execution: str, pass_number: int) -> str:
    """Return the key of the delta outcomes of a pass that had nothing to publish."""
    return f"{work_prefix(execution, pass_number)}deltas.json.gz"


def fold_plan_key(execution: str, pass_number: int) -> str:
    """Return the key of the plan of a pass's folds, of which other functions do a part."""
    return f"{work_prefix(execution, pass_number)}folds/plan.json"


def fold_item_key(execution: str, pass_number: int, number: int) -> str:
    """Return the key of the folds that one other function does."""
    return f"{work_prefix(execution, pass_number)}folds/{number:04d}.json"


def folded_part_key(item: str, token: str) -> str:
    """Return the key of the part of the manifest that an attempt of `item`, a fold_item_key, has made.

    `token` is the attempt's own.
    """
    return f"{item.removesuffix('.json')}/{token}.json"


def item_of_part(part: str) -> str:
    """Return the key of the item of a part of the manifest: the inverse of folded_part_key."""
    return f"{part.rpartition('/')[0]}.json"


def deferred_key(execution: str, pass_number: int) -> str:
    """Return the key of the list of collections that wait for a later pass."""
    return f"{work_prefix(execution, pass_number)}deferred.json"


def attempts_prefix(key: str, etag: str) -> str:
    """Return the folder of the marks about one delta that could not be merged. Other content has another folder."""
    return f"{ATTEMPTS_PREFIX}{hashlib.sha256(f'{key} {etag}'.encode()).hexdigest()[:32]}/"


def unreadable_key(key: str, etag: str) -> str:
    """Return the key of the mark that a delta cannot be read. Each execution writes it again."""
    return f"{attempts_prefix(key, etag)}unreadable.json"


def collection_attempts_prefix(collection: str) -> str:
    """Return the folder of the marks about one collection that could not be folded."""
    return f"{COLLECTION_ATTEMPTS_PREFIX}{collection}/"


def failure_key(folder: str, execution: str) -> str:
    """Return the key of the mark that what `folder` is about made `execution` fail."""
    return f"{folder}{execution_name(execution)}.failed.json"


def suspicion_key(folder: str, execution: str) -> str:
    """Return the key of the mark that what `folder` is about, or something else, made `execution` fail."""
    return f"{folder}{execution_name(execution)}.suspected.json"


def running_key(execution: str, pass_number: int, task: str) -> str:
    """Return the key of the mark that a process of `execution` works on `task`."""
    return f"{RUNNING_PREFIX}{execution_name(execution)}/{pass_number}/{task}.json"
