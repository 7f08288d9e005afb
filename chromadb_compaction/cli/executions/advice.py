"""What to do about an error that ended an execution: one owner for every answer."""

from __future__ import annotations

from typing import NamedTuple

PROGRAM = "chromadb-compaction"
AGAIN = f"{PROGRAM} compact --wait"


class Advice(NamedTuple):
    """What an error means for the data, and the next command to type."""

    meaning: str
    command: str


_STORED_STANDS = "nothing was published and every delta is still pending"

_BY_ERROR = {
    "ConfigurationError": Advice("a function was deployed with wrong settings; deploy again", f"{PROGRAM} doctor"),
    "LockHeldError": Advice("another execution is at work: wait for it", f"{PROGRAM} lock show"),
    "LockLostError": Advice(
        "the lock was released by force, deleted, or expired under this execution, which stopped without publishing",
        AGAIN,
    ),
    "SnapshotConflictError": Advice("another execution published first; nothing is lost: run again", AGAIN),
    "SnapshotCorruptError": Advice(
        "an object of the published snapshot is missing or damaged; restore it, or roll back to a whole snapshot",
        f"{PROGRAM} snapshots verify",
    ),
    "SnapshotTooLargeError": Advice(
        f"the fold does not fit the compactor's memory or disk; {_STORED_STANDS}; give it more, and deploy",
        "pulumi config set --path chromadb:memory.compactor 10240 && pulumi up",
    ),
    "VerificationError": Advice(
        f"the folded snapshot did not read back as written: {_STORED_STANDS}; if it fails so again, report it",
        AGAIN,
    ),
    "CorruptDeltaError": Advice("a delta is proven bad; see which and why", f"{PROGRAM} deltas quarantined"),
    "NoSnapshotError": Advice("nothing has been published yet", AGAIN),
    "NoSuchCollectionError": Advice("the published snapshot has no such collection", f"{PROGRAM} status"),
    "InvalidRequestError": Advice(
        "state machine and functions do not fit each other: one of them was deployed alone", "pulumi up"
    ),
    "ObjectMissingError": Advice("an object that should stand in the bucket is gone", f"{PROGRAM} snapshots verify"),
    "TransientStorageError": Advice(
        f"S3, DynamoDB or SQS failed through all retries; {_STORED_STANDS}; run again once it has passed", AGAIN
    ),
    "PreconditionFailedError": Advice("another writer was faster; nothing is lost: run again", AGAIN),
    "States.Timeout": Advice(
        f"a task, or the whole execution, took longer than it may; {_STORED_STANDS} that was not published before",
        AGAIN,
    ),
    "States.DataLimitExceeded": Advice(
        "the state outgrew 256 KiB; take fewer batches a pass",
        "pulumi config set chromadb:maxBatchesPerPass 20 && pulumi up",
    ),
    "States.Permissions": Advice("the workflow's role may not invoke a function", f"{PROGRAM} doctor"),
    "Sandbox.Timedout": Advice(
        f"a function ran into its time limit; {_STORED_STANDS}; smaller passes take less time",
        "pulumi config set chromadb:maxPassBytes 134217728 && pulumi up",
    ),
    "Runtime.OutOfMemory": Advice(
        f"a function ran out of memory; {_STORED_STANDS}; give the compactor more",
        "pulumi config set --path chromadb:memory.compactor 10240 && pulumi up",
    ),
    "Runtime.ExitError": Advice(
        f"a function's process was killed, most often for its memory; {_STORED_STANDS}",
        "pulumi config set --path chromadb:memory.compactor 10240 && pulumi up",
    ),
    "Lambda.ResourceNotFoundException": Advice("a function of the workflow is gone; deploy again", "pulumi up"),
    "Lambda.AccessDeniedException": Advice("the workflow's role may not invoke a function", f"{PROGRAM} doctor"),
}
_OF_FAMILY = (
    ("Lambda.", Advice(f"Lambda failed through all retries; {_STORED_STANDS}; run again once it has passed", AGAIN)),
    ("Runtime.", Advice("a function could not start; deploy again", f"{PROGRAM} doctor")),
)
_BY_STATUS = {
    "ABORTED": Advice("somebody stopped it; the lock is released by a rule, and nothing is lost", AGAIN),
    "TIMED_OUT": _BY_ERROR["States.Timeout"],
}
_UNFORESEEN = Advice(
    f"nobody foresaw this error; {_STORED_STANDS}; if it fails again the same way, report it with the lines of the log",
    AGAIN,
)


def advise(error: str | None, status: str = "FAILED") -> Advice:
    """Return what to do about an execution that ended with `error`, or without one in `status`."""
    if error is None or error == "unnamed":
        return _BY_STATUS.get(status, _UNFORESEEN)
    family = next((advice for start, advice in _OF_FAMILY if error.startswith(start)), _UNFORESEEN)
    return _BY_ERROR.get(error, family)


def foreseen() -> frozenset[str]:
    """Return the names of the errors that have advice of their own."""
    return frozenset(_BY_ERROR)
