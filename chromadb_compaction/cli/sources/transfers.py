"""The transfers of one command: checked together before the first write, and reported together if one fails."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from botocore.exceptions import BotoCoreError, ClientError

from chromadb_compaction.cli.common.console import note
from chromadb_compaction.cli.sources.journal import RESTART
from chromadb_compaction.cli.sources.shape import check_agreement
from chromadb_compaction.cli.sources.transfer import Transfer
from chromadb_compaction.errors import CompactionError, InvalidRequestError


def check_all(transfers: Sequence[Transfer]) -> None:
    """Check everything that can be checked before a record is written. Raises InvalidRequestError."""
    with written_deltas_reported(transfers):
        check_agreement((transfer.source, transfer.shape) for transfer in transfers)
        for transfer in transfers:
            transfer.check()


@contextmanager
def written_deltas_reported(transfers: Sequence[Transfer]) -> Iterator[None]:
    """Add to every error of the block what stands in the bucket, and how to continue."""
    try:
        yield
    except InvalidRequestError as error:
        raise InvalidRequestError(f"{error.message}; {_report(transfers, error)}", next_step=error.next_step) from error
    except (CompactionError, BotoCoreError, ClientError, KeyboardInterrupt):
        if written := _written(transfers):
            note(f"written so far: {written}; give the same command again to go on from there")
        raise


def _report(transfers: Sequence[Transfer], error: InvalidRequestError) -> str:
    written = _written(transfers)
    if not written:
        return "nothing was written"
    stays = f"these stay written: {written}"
    return stays if error.next_step == RESTART else f"{stays}, and the same command continues after them"


def _written(transfers: Sequence[Transfer]) -> str:
    return ", ".join(transfer.written for transfer in transfers if transfer.written)
