"""The rule that decides, from counts alone, to change an index in place or to rebuild it from its live vectors.

The unit of cost is one insertion into the index. The benchmark measures these constants; see docs/performance.md.
"""

from __future__ import annotations

from typing import NamedTuple

UPDATE_COST = 4.0
"""Replace a vector in place: hnswlib repairs the links of all its neighbours."""
DELETE_COST = 0.1
"""Mark an entry as dead."""
KEPT_COST = 1.05
"""Read a live vector from the old index and insert it into the new one."""
MAX_DEAD_SHARE = 0.10
"""The most dead entries per live one. Dead entries take space in every copy, and time in every search."""


class IndexChange(NamedTuple):
    """The entries and live ids of an index before a fold, and the vectors that the fold deletes, replaces and adds.

    `replaced_before` is the number of vectors that earlier folds have replaced in place since the index was built.
    """

    entries: int
    live: int
    deleted: int
    replaced: int
    added: int
    replaced_before: int = 0

    @property
    def kept(self) -> int:
        """Live vectors that do not change."""
        return self.live - self.deleted - self.replaced

    @property
    def dead(self) -> int:
        """Dead entries afterwards, if the index is changed in place."""
        return self.entries - self.live + self.deleted

    @property
    def isolates(self) -> bool:
        """Return whether a vector would be replaced in place in an index that has no other live vector.

        hnswlib writes a replaced vector to its file only when it links it to another live entry. Without one, the old
        vector would be back after a restart.
        """
        return self.replaced > 0 and self.live - self.deleted == 1

    @property
    def rebuilds(self) -> bool:
        """Return whether the index is rebuilt."""
        if not (self.deleted or self.replaced or self.added):
            return False
        if self.isolates:
            return True
        after = self.kept + self.replaced + self.added
        return self.is_worn or self.dead > MAX_DEAD_SHARE * after or self.cost_of_rebuild < self.cost_in_place

    @property
    def is_worn(self) -> bool:
        """Return whether a replacement comes after so many that all together have cost as much as a rebuild.

        Each repair of the links leaves some vectors that no search reaches. So the rebuilds at most double the cost of
        the replacements, and bound what is lost. See decision 14 for the measurement.
        """
        after = self.kept + self.replaced + self.added
        return self.replaced > 0 and UPDATE_COST * (self.replaced_before + self.replaced) > KEPT_COST * after

    @property
    def cost_in_place(self) -> float:
        """The cost of changing the index in place, in insertions."""
        return UPDATE_COST * self.replaced + self.added + DELETE_COST * self.deleted

    @property
    def cost_of_rebuild(self) -> float:
        """The cost of rebuilding the index, in insertions."""
        return KEPT_COST * self.kept + self.replaced + self.added

    def __str__(self) -> str:
        """Return the choice and its reasons, for the log."""
        chosen = "rebuilt" if self.rebuilds else "changed in place"
        return (
            f"index {chosen}: {self.live} live of {self.entries} entries, "
            f"{self.deleted} deleted, {self.replaced} replaced, {self.added} added,"
            f" {self.replaced_before} replaced before; "
            f"in place costs {self.cost_in_place:.0f} insertions and leaves {self.dead} dead, "
            f"a rebuild costs {self.cost_of_rebuild:.0f}"
        )
