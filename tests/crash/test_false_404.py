"""A bucket whose versioning was just enabled may answer 404 for an object that exists. Nothing is lost by that.

Each object that a clean-up reads, copies or describes gets a 404, once or for as long as the clean-up runs. The pass
has merged, quarantined and rewritten deltas. Listings, writes and deletes are not affected.
"""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from unittest.mock import patch

import pytest

from chromadb_compaction import layout
from chromadb_compaction.errors import CompactionError, ObjectMissingError
from chromadb_compaction.messages import PublishedSnapshot
from chromadb_compaction.planning import ObjectInfo
from chromadb_compaction.ports import Clock, StoredObject
from chromadb_compaction.steps import archiving
from tests.builders import NOW, a_delta, a_uuid7
from tests.fakes.objects import InMemoryObjectStore
from tests.fakes.services import Fakes, new_fakes
from tests.passes import Pass

# The names are the same in every process, because they name the tests.
GOOD = a_delta({"good": [1, 0]}, name=a_uuid7(NOW, 0))
OTHER = a_delta({"other": [0, 1]}, name=a_uuid7(NOW, 1))
BAD = a_delta({"bad": [1, 0, 0]}, name=a_uuid7(NOW, 2))
REWRITTEN = a_delta({"again": [1, 1]}, name=a_uuid7(NOW, 3))
DELTAS = (GOOD, OTHER, BAD, REWRITTEN)


class NewlyVersioned(InMemoryObjectStore):
    """A bucket that answers 404 for the keys in `hidden`, so many times for each."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.hidden: Counter[str] = Counter()

    def head(self, key: str) -> ObjectInfo | None:
        """Return the object's description, or None if there is none or it is hidden."""
        return None if self._is_hidden(key) else super().head(key)

    def _find(self, key: str) -> StoredObject:
        if self._is_hidden(key):
            raise ObjectMissingError(f"{key} does not exist", key=key)
        return super()._find(key)

    def _is_hidden(self, key: str) -> bool:
        self.hidden[key] -= 1
        return self.hidden[key] >= 0


class CleanUp:
    """A pass that is published, and its clean-ups."""

    def __init__(self) -> None:
        self.fakes = new_fakes()
        self.store = NewlyVersioned(self.fakes.clock)
        self.fakes.objects = self.store
        for delta in DELTAS:
            delta.put_into(self.store)
        self.one = Pass(self.fakes).up_to_upload()
        self.published: PublishedSnapshot = self.one.upload()
        self.store.put(REWRITTEN.key, b"other content")

    def run(self, *, hidden: str | None = None, times: int = 1) -> None:
        """Run CleanUp while one key is hidden so many times."""
        self.store.hidden = Counter({hidden: times} if hidden else {})
        with suppress(CompactionError):
            self.one.clean_up(self.published)
        self.store.hidden = Counter()

    def finish(self) -> None:
        """Run the next execution, which finishes the clean-up and merges what is pending."""
        for number in range(2, 5):
            one = Pass(self.fakes, f"arn:execution:{number}")
            if not one.find().deltas:
                return
            one.download()
            one.merge()
            one.clean_up(one.upload())


def lost(fakes: Fakes) -> set[str]:
    """Return the keys of deltas that are neither pending nor archived nor in quarantine."""
    stored = fakes.objects.objects.keys()
    places = (layout.compacted_key, layout.quarantine_key)
    return {delta.key for delta in DELTAS if not {delta.key, *(place(delta.key) for place in places)} & stored}


KEYS = sorted(
    key for delta in DELTAS for key in (delta.key, layout.compacted_key(delta.key), layout.quarantine_key(delta.key))
)


@pytest.mark.parametrize("times", [1, 2, 100])
@pytest.mark.parametrize("key", KEYS)
def test_no_delta_is_lost_in_a_clean_up(key: str, times: int) -> None:
    clean_up = CleanUp()

    clean_up.run(hidden=key, times=times)
    assert lost(clean_up.fakes) == set()

    clean_up.run(hidden=key, times=times)  # what it moved before is not found where it was
    assert lost(clean_up.fakes) == set()

    clean_up.finish()
    assert lost(clean_up.fakes) == set()
    assert clean_up.fakes.objects.keys("delta/") == set()


def test_a_delta_that_is_not_found_is_not_deleted() -> None:
    clean_up = CleanUp()

    clean_up.run(hidden=GOOD.key, times=100)

    assert GOOD.key in clean_up.store.objects
    assert layout.compacted_key(GOOD.key) not in clean_up.store.objects


def test_the_test_finds_a_clean_up_that_trusts_a_404() -> None:
    clean_up = CleanUp()

    with patch.object(archiving, "_moved", lambda delta, _target, _services: delta):
        clean_up.run(hidden=GOOD.key, times=100)

    assert lost(clean_up.fakes) == {GOOD.key}
