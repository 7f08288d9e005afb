"""The DeltaWriter of `put`: it follows the protocol of the journal."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from hashlib import sha256
from uuid import UUID

from chromadb_compaction.cli.sources.journal import RESTART, Intent, Journal
from chromadb_compaction.client.writer import DeltaWriter
from chromadb_compaction.configuration import Space
from chromadb_compaction.deltas.header import StatedCollection
from chromadb_compaction.errors import InvalidRequestError
from chromadb_compaction.ports import DeltaNotification, Services


class ResumableWriter(DeltaWriter):
    """A DeltaWriter that takes the names of its deltas from a journal, and records them there once they are written.

    With `dry_run` it makes and records them, but writes nothing to the bucket.
    """

    def __init__(
        self,
        journal: Journal,
        services: Services,
        *,
        space: Space | None,
        embedding_function: str | None,
        stated: StatedCollection | None,
        dimension: int | None,
        dry_run: bool,
    ) -> None:
        super().__init__(
            services.settings,
            objects=services.objects,
            queue=services.queue if services.settings.delta_queue_url and not dry_run else None,
            space=space,
            embedding_function=embedding_function,
            **(stated.model_dump() if stated else {}),
            dimension=dimension,
            producer="chromadb-compaction put",
        )
        self._journal = journal
        self._digests: deque[str] = deque()
        self._dry_run = dry_run

    def expect(self, digests: Iterable[str]) -> None:
        """Take the digests of the next rows, before the rows are upserted or deleted."""
        self._digests.extend(digests)

    def _next_id(self) -> UUID:
        return self._journal.name(len(self._journal.written) + len(self._outbox))

    def _put(self, key: str, body: bytes) -> None:
        rows = self._outbox[0][0].rows
        digest = self._digests[rows - 1] if rows else ""
        intent = Intent(key=key, rows=rows, digest=digest, sha256=sha256(body).hexdigest())
        if not self._journal.intend(intent):
            raise InvalidRequestError(
                f"the records have changed since this put was stopped: {key}, which may be in the bucket, would get"
                " other content",
                next_step=RESTART,
            )
        if not self._dry_run:
            super()._put(key, body)

    def _after_write(self, notification: DeltaNotification) -> None:
        for _ in range(notification.rows):
            self._digests.popleft()
        self._journal.complete()
        super()._after_write(notification)
