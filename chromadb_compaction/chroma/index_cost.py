"""Whether an index is changed in place or built anew from its live vectors: a rule on counts alone.

The unit is one insertion into the index. The benchmark measures the constants beside these; see docs/performance.md.
"""

from __future__ import annotations

from typing import NamedTuple

UPDATE_COST = 4.0
"""A vector replaced in place: hnswlib mends the links of all its neighbours."""
DELETE_COST = 0.1
"""An entry marked as dead."""
KEPT_COST = 1.05
"""A live vector read from the old index and inserted into the new one."""
MAX_DEAD_SHARE = 0.10
"""Dead entries per live one that are put up with. They take room in every copy, and time in every search."""


class IndexChange(NamedTuple):
    """What a fold does to an index: entries and live ids before it, and vectors deleted, replaced and added."""

    entries: int
    live: int
    deleted: int
    replaced: int
    added: int

    @property
    def kept(self) -> int:
        """Live vectors that stay as they are."""
        return self.live - self.deleted - self.replaced

    @property
    def dead(self) -> int:
        """Dead entries afterwards, if the index is changed in place."""
        return self.entries - self.live + self.deleted

    @property
    def isolates(self) -> bool:
        """Say whether a vector would be replaced in place with no other live one beside it.

        hnswlib writes an entry back to its file when it links it anew, which it does to live entries alone: so after
        a restart the old vector would be there again.
        """
        return self.replaced > 0 and self.live - self.deleted == 1

    @property
    def rebuilds(self) -> bool:
        """Say whether the index is built anew."""
        if not (self.deleted or self.replaced or self.added):
            return False
        if self.isolates:
            return True
        after = self.kept + self.replaced + self.added
        return self.dead > MAX_DEAD_SHARE * after or self.cost_anew < self.cost_in_place

    @property
    def cost_in_place(self) -> float:
        """Insertions that changing the index in place is worth."""
        return UPDATE_COST * self.replaced + self.added + DELETE_COST * self.deleted

    @property
    def cost_anew(self) -> float:
        """Insertions that building it anew is worth."""
        return KEPT_COST * self.kept + self.replaced + self.added

    def __str__(self) -> str:
        """Name the choice and what it rests on, for the log."""
        chosen = "built anew" if self.rebuilds else "changed in place"
        return (
            f"index {chosen}: {self.live} live of {self.entries} entries, "
            f"{self.deleted} deleted, {self.replaced} replaced, {self.added} added; "
            f"in place costs {self.cost_in_place:.0f} insertions and leaves {self.dead} dead, "
            f"anew costs {self.cost_anew:.0f}"
        )
