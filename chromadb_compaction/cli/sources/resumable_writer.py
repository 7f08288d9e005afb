"""A DeltaWriter that can be taken up where an earlier one was stopped."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from uuid import UUID

from chromadb_compaction.cli.sources.journal import Journal, Written
from chromadb_compaction.client.writer import DeltaWriter
from chromadb_compaction.manifest import Space
from chromadb_compaction.ports import DeltaNotification, Services


class ResumableWriter(DeltaWriter):
    """A DeltaWriter whose files have the names that the journal gives, and are noted there.

    With `dry_run` it makes and checks the files, notes them, and stores none.
    """

    def __init__(
        self,
        journal: Journal,
        services: Services,
        *,
        space: Space | None,
        embedding_function: str | None,
        dimension: int | None,
        dry_run: bool,
    ) -> None:
        super().__init__(
            services.settings,
            objects=services.objects,
            queue=services.queue if services.settings.delta_queue_url else None,
            space=space,
            embedding_function=embedding_function,
            dimension=dimension,
            producer="chromadb-compaction put",
        )
        self._journal = journal
        self._named = len(journal.written)
        self._digests: deque[str] = deque()
        self._dry_run = dry_run

    def expect(self, digests: Iterable[str]) -> None:
        """Take the digests of the rows that come next."""
        self._digests.extend(digests)

    def _next_id(self) -> UUID:
        self._named += 1
        return self._journal.name(self._named - 1)

    def _send(self) -> None:
        if not self._dry_run:
            super()._send()
            return
        for key, body, rows in self._outbox:
            self._stored(DeltaNotification(key, rows, len(body)))
        self._outbox.clear()

    def _stored(self, notice: DeltaNotification) -> None:
        digest = [self._digests.popleft() for _ in range(notice.rows)][-1]
        self._journal.append(Written(key=notice.key, rows=notice.rows, digest=digest))
        super()._stored(notice)
