"""The rule that decides, from counts alone, to change an index in place or to rebuild it from its live vectors.

A replaced vector gets a new entry, and its old entry dies. hnswlib can also overwrite an entry, but that costs as much
as four insertions, and searches miss many of the vectors around it. See decision 20 for the measurements.
"""

from __future__ import annotations

from typing import NamedTuple

MAX_DEAD_SHARE = 0.15
"""The most dead entries per live one. Dead entries take space in every copy, and time in every search."""


class IndexChange(NamedTuple):
    """The entries and live ids of an index before a fold, and the vectors that the fold deletes, replaces and adds.

    `replaced_in_place` counts the vectors that earlier releases have replaced in place since the index was built.
    """

    entries: int
    live: int
    deleted: int
    replaced: int
    added: int
    replaced_in_place: int = 0

    @property
    def kept(self) -> int:
        """Live vectors that do not change."""
        return self.live - self.deleted - self.replaced

    @property
    def dead(self) -> int:
        """Dead entries afterwards, if the index is changed in place."""
        return self.entries - self.kept

    @property
    def strands(self) -> bool:
        """Return whether most of the old entries would be dead, so that it is unsafe to change the index in place.

        ChromaDB deletes and inserts in several threads at once. hnswlib fails to insert a vector if it finds only
        entries that are being deleted.
        """
        return self.dead > self.kept

    @property
    def rebuilds(self) -> bool:
        """Return whether the index is rebuilt."""
        if not (self.deleted or self.replaced or self.added):
            return False
        after = self.kept + self.replaced + self.added
        return self.strands or self.dead > MAX_DEAD_SHARE * after or self.replaced_in_place > 0

    def __str__(self) -> str:
        """Return the choice and its reasons, for the log."""
        chosen = "rebuilt" if self.rebuilds else "changed in place"
        return (
            f"index {chosen}: {self.live} live of {self.entries} entries, "
            f"{self.deleted} deleted, {self.replaced} replaced, {self.added} added; "
            f"in place leaves {self.dead} dead"
        )
