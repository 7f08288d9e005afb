"""The manifests that a process keeps parsed."""

from __future__ import annotations

import pytest

from chromadb_compaction.snapshots import pointer
from tests.builders import NOW, a_delta
from tests.fakes.services import Fakes
from tests.passes import compact


def test_a_manifest_that_this_process_has_published_is_not_parsed_again(
    fakes: Fakes, monkeypatch: pytest.MonkeyPatch
) -> None:
    compact(fakes, a_delta({"a": [1, 0]}))
    current = pointer.read_pointer(fakes.services)
    assert current
    monkeypatch.setattr(pointer, "parse_stored", lambda *_: pytest.fail("it was parsed"))

    assert pointer.read_manifest(fakes.services, current.pointer).collections["docs"].records == 1


def test_few_manifests_are_kept(fakes: Fakes) -> None:
    for number in range(3):
        compact(fakes, a_delta({"a": [number, 0]}, at=NOW + number))

    assert len(pointer._recent) == pointer.RECENT_MANIFESTS
