"""Advice for each error that can end an execution: its meaning, and the next command."""

from __future__ import annotations

from typing import NamedTuple


class Advice(NamedTuple):
    """The meaning of an error for the data, and the next command to type."""

    meaning: str
    command: str


RUN_AGAIN = "chromadb-compaction compact --wait"
DOCTOR = "chromadb-compaction doctor"
STATUS = "chromadb-compaction status"
MORE = "pulumi config set --path chromadb:{limit}.{function} {megabytes} && pulumi up"
"""A template that `advise` fills."""
VERIFY = "chromadb-compaction snapshots verify"
LIMITS = {
    "memory": {"compactor": 10240, "fold-partitions": 10240, "merge-batch": 6144},
    "ephemeralStorage": {"compactor": 10240, "fold-partitions": 10240, "merge-batch": 10240},
}
"""The value to try in MB, by setting and function."""

_NOTHING_LOST = "nothing is lost: every delta that was not published is still pending"
_MAY_NOT_INVOKE = Advice("the workflow's role may not invoke a function; find the missing permission", DOCTOR)

ADVICE = {
    "ConfigurationError": Advice("a function has wrong settings; find and correct them, then deploy", DOCTOR),
    "MalformedLockError": Advice(
        "the lock item is not a lease, so nobody can take it; make sure that no execution runs, then delete it",
        "chromadb-compaction lock release --force",
    ),
    "LockHeldError": Advice("another execution is running; wait for it", "chromadb-compaction lock show"),
    "LockLostError": Advice(
        "the lock expired, was deleted or was released by force, so the execution stopped; nothing is lost; run again",
        RUN_AGAIN,
    ),
    "SnapshotConflictError": Advice("another execution published first; nothing is lost; run again", RUN_AGAIN),
    "SnapshotCorruptError": Advice(
        "an object of the published snapshot is missing or damaged; restore it, or roll back to an intact snapshot",
        VERIFY,
    ),
    "NewerFormatError": Advice(
        f"a newer version of chromadb-compaction wrote an object; nothing is damaged; {_NOTHING_LOST}; upgrade the"
        " functions to that version",
        "pulumi up",
    ),
    "SnapshotTooLargeError": Advice(
        f"the work does not fit the function's memory or disk; {_NOTHING_LOST}; raise the limit and deploy",
        MORE,
    ),
    "DiskFullError": Advice(
        f"the disk of the function is too small; {_NOTHING_LOST}; raise its ephemeral storage and deploy", MORE
    ),
    "OutOfTimeError": Advice(
        f"the folds would not end within the function's timeout; {_NOTHING_LOST}; the next pass is smaller by itself,"
        " and more memory gives the function more processor time",
        MORE,
    ),
    "VerificationError": Advice(
        f"the folded snapshot has wrong records; {_NOTHING_LOST}; run again, and report it if it happens again",
        RUN_AGAIN,
    ),
    "CorruptDeltaError": Advice("a delta is corrupt; see the reason", "chromadb-compaction deltas quarantined"),
    "NoSnapshotError": Advice("nothing has been published yet; run a compaction", RUN_AGAIN),
    "NoSuchCollectionError": Advice("there is no such collection, published or pending", STATUS),
    "InvalidRequestError": Advice("state machine and functions have different versions; deploy both", "pulumi up"),
    "EmbeddingFunctionError": Advice("the package, model or API key of an embedding function is missing", STATUS),
    "AmbiguousIdError": Advice("an id was shortened too much; type more of it", STATUS),
    "ObjectMissingError": Advice("an object is missing from the bucket; see if the snapshot is intact", VERIFY),
    "UnreadableObjectError": Advice("an object cannot be read; the message says what to change", STATUS),
    "DeltaFailedError": Advice(
        f"reading one delta failed with an unforeseen error; {_NOTHING_LOST}; report it. The delta is set aside"
        " after a few executions, and the others are merged without it",
        STATUS,
    ),
    "DeltasGoneError": Advice(
        "deltas to replay are gone; restore them, or give up their rows", "chromadb-compaction snapshots list"
    ),
    "TransientStorageError": Advice(
        f"S3, DynamoDB or SQS failed in every retry; {_NOTHING_LOST}; run again when the service works", RUN_AGAIN
    ),
    "NotReplicatedYetError": Advice(
        "the bucket is a replica that lacks an object of its snapshot; wait for S3's replication, or complete the copy",
        "chromadb-compaction replica copy BUCKET",
    ),
    "PreconditionFailedError": Advice("another writer changed an object first; nothing is lost; run again", RUN_AGAIN),
    "States.Timeout": Advice(f"a task or the execution exceeded its timeout; {_NOTHING_LOST}; run again", RUN_AGAIN),
    "States.DataLimitExceeded": Advice(
        "the workflow's state exceeded 256 KiB; use fewer batches per pass",
        "pulumi config set chromadb:maxBatchesPerPass 20 && pulumi up",
    ),
    "States.Permissions": _MAY_NOT_INVOKE,
    "Sandbox.Timedout": Advice(
        f"a function exceeded its timeout; {_NOTHING_LOST}; the next pass is smaller by itself; to shrink all passes",
        "pulumi config set chromadb:maxPassBytes 134217728 && pulumi up",
    ),
    # https://docs.aws.amazon.com/step-functions/latest/dg/concepts-error-handling.html
    "Lambda.Unknown": Advice(
        f"a function ended without an answer: it ran out of memory or time; {_NOTHING_LOST}; the next pass is smaller"
        " by itself",
        RUN_AGAIN,
    ),
    "Runtime.OutOfMemory": Advice(f"a function ran out of memory; {_NOTHING_LOST}; give it more", MORE),
    "Runtime.ExitError": Advice(
        f"a function's process was killed, usually because it ran out of memory; {_NOTHING_LOST}; give it more",
        MORE,
    ),
    "Lambda.ResourceNotFoundException": Advice("a function of the workflow does not exist; deploy it", "pulumi up"),
    "Lambda.AccessDeniedException": _MAY_NOT_INVOKE,
}
"""Advice by error name."""

_BY_PREFIX = {
    "Lambda.": Advice(f"Lambda failed in every retry; {_NOTHING_LOST}; run again when it works", RUN_AGAIN),
    "Runtime.": Advice("a function could not start; check its settings, then deploy it again", DOCTOR),
}
_BY_STATUS = {
    "ABORTED": Advice("the execution was stopped; nothing is lost, and a rule releases the lock; run again", RUN_AGAIN),
    "TIMED_OUT": ADVICE["States.Timeout"],
}
_UNKNOWN_ERROR = Advice(
    f"this error is unknown; {_NOTHING_LOST}; run again, and report it with the lines of the log if it happens again",
    RUN_AGAIN,
)


def advise(error: str | None, status: str = "FAILED", *, function: str = "compactor", message: str = "") -> Advice:
    """Return the advice for an execution that ended with `error`, or without an error in `status`.

    Args:
        error: The error's name.
        status: The execution's status.
        function: The function that failed, such as merge-batch.
        message: The error's message. It decides if more disk or more memory is needed.
    """
    if error is None or error == "unnamed":
        return _BY_STATUS.get(status, _UNKNOWN_ERROR)
    by_prefix = next((advice for prefix, advice in _BY_PREFIX.items() if error.startswith(prefix)), _UNKNOWN_ERROR)
    advice = ADVICE.get(error, by_prefix)
    limit = "ephemeralStorage" if error == "DiskFullError" or "of disk" in message else "memory"
    megabytes = LIMITS[limit].get(function, 3008)
    return Advice(advice.meaning, advice.command.format(limit=limit, function=function, megabytes=megabytes))
