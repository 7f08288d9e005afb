"""Deliberate mistakes in the real code that both the crash points and the interleavings must find."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from chromadb_compaction import layout
from chromadb_compaction.fold import fold, joining, requests, reshaping
from chromadb_compaction.rows import run_rows
from chromadb_compaction.rows.id_ranges import ALL_IDS, GroupIds, IdRange
from chromadb_compaction.steps import archiving, clean_up, fold_partitions, publication

Patch = Callable[[pytest.MonkeyPatch], None]


@contextmanager
def seeded(defect: Patch) -> Iterator[None]:
    """Plant a mistake for the block."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        defect(monkeypatch)
        yield


def a_partition_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    right = joining.join_parts

    def wrong(parts: Any, base: Any) -> Any:
        return right(parts[1:] or parts if base else parts, base)

    monkeypatch.setattr(publication, "join_parts", wrong)


def a_border_is_on_neither_side(monkeypatch: pytest.MonkeyPatch) -> None:
    right = reshaping.reshape

    def wrong(sources: Any, ids: IdRange, **options: Any) -> Any:
        return right(sources, _without_first(ids), **options)

    # The second patch is needed because UploadSnapshot would detect the loss and publish nothing.
    monkeypatch.setattr(requests, "reshape", wrong)
    monkeypatch.setattr(joining, "check_base", lambda *_: None)


def the_rows_of_a_partition_are_read_short(monkeypatch: pytest.MonkeyPatch) -> None:
    right = run_rows.stored_rows

    def wrong(paths: Any, ids: IdRange = ALL_IDS) -> Any:
        return right(paths, _without_first(ids))

    monkeypatch.setattr(fold, "stored_rows", wrong)


def the_range_of_a_run_is_downloaded_short(monkeypatch: pytest.MonkeyPatch) -> None:
    right = GroupIds.within

    def wrong(groups: GroupIds, ids: IdRange) -> range:
        return right(groups, ids)[: max(1, len(groups.firsts) - 1)]

    monkeypatch.setattr(GroupIds, "within", wrong)


def _without_first(ids: IdRange) -> IdRange:
    return ids._replace(first=f"{ids.first}\0") if ids.first else ids


class _LateObjects:
    """An object store that adds to `late` what is put. Everything else it does."""

    def __init__(self, objects: Any, late: list[tuple[str, bytes]]) -> None:
        self._objects = objects
        self._late = late

    def __getattr__(self, name: str) -> Any:
        return getattr(self._objects, name)

    def put(self, key: str, body: bytes) -> str:
        self._late.append((key, body))
        return ""


class _LateDraft(publication.Draft):
    """A draft whose files are uploaded when their bytes are added up, which is after the part was stored."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._late: list[tuple[str, bytes]] = []
        self._objects: Any = None

    def upload(self, folded: Any, services: Any) -> Any:
        self._objects = services.objects
        return super().upload(folded, services._replace(objects=_LateObjects(services.objects, self._late)))

    def bytes_of(self, parts: Any) -> int:
        while self._late:
            self._objects.put(*self._late.pop())
        return super().bytes_of(parts)


def the_part_of_another_attempt_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take another attempt's part, and store parts before the files that they name: each alone does no harm."""

    def of_another(item: Any, services: Any) -> Any:
        folder = item.key.rpartition("/")[0]
        listed = [each.key for each in services.objects.list(f"{folder}/")]
        key = next((each for each in listed if each != item.key), item.key)
        return fold_partitions.StoredParts.model_validate_json(services.objects.get(key).body)

    monkeypatch.setattr(fold_partitions, "Draft", _LateDraft)
    monkeypatch.setattr(fold_partitions, "_read_part", of_another)
    monkeypatch.setattr(publication.Draft, "check_kept_files", lambda *_: None)


def deltas_that_wait_are_archived(monkeypatch: pytest.MonkeyPatch) -> None:
    """Delete the deltas of collections that wait as if they were their notifications."""
    right = archiving.archive

    def wrong(outcomes: Any, services: Any, *, deferred: Any = None, **checks: Any) -> Any:
        archived = right(outcomes, services, deferred=deferred, **checks)
        for name in (deferred or {}) if archived else ():
            listed = services.objects.list(f"{layout.DELTA_PREFIX}{name}/")
            services.objects.delete([each.key for each in listed if each.key <= deferred[name]])
        return archived

    monkeypatch.setattr(clean_up, "archive", wrong)
