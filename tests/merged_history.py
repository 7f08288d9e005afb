"""A history of snapshots that merged one delta each, for rollback tests. They have no ChromaDB directories."""

from __future__ import annotations

from dataclasses import dataclass, field

from chromadb_compaction import layout
from chromadb_compaction.manifest import Pointer
from chromadb_compaction.operations.rollback import RollbackRequest, RolledBack, rollback
from chromadb_compaction.snapshots.catalogue import read_catalogue
from chromadb_compaction.snapshots.delta_lists import read_list
from chromadb_compaction.snapshots.lineage import lineage_of
from chromadb_compaction.steps.clean_up import archive_published
from tests.fakes.published import a_snapshot_id, outcome_of, publish, put_delta
from tests.fakes.services import EXECUTION, Fakes, new_fakes

OPERATOR = "operator:me@here/1"


@dataclass
class MergedHistory:
    """A bucket with such snapshots. `merged[n]` is the key of the delta that snapshot n merged."""

    fakes: Fakes = field(default_factory=new_fakes)
    merged: dict[int, str] = field(default_factory=dict)

    def publish(self, number: int, *, parent: int | None = None, clean: bool = True) -> str:
        """Publish snapshot `number`, by default as the child of the one before. `clean` archives its delta."""
        self.fakes.clock.tick(60)
        key = self.merged[number] = put_delta(self.fakes, number)
        parent = number - 1 if parent is None else parent
        outcomes = [outcome_of(self.fakes, key)]
        snapshot_id = publish(self.fakes, number, outcomes, parent=a_snapshot_id(parent) if parent else None)
        self.fakes.clock.tick(60)
        if clean:
            archive_published(
                snapshot_id,
                layout.merged_deltas_key(snapshot_id),
                self.fakes.services,
                execution=EXECUTION,
                check_lease=lambda: None,
            )
        return snapshot_id

    def roll_back(self, number: int, **options: object) -> RolledBack:
        request = RollbackRequest.model_validate(
            {"snapshot_id": a_snapshot_id(number), "operator": OPERATOR, **options}
        )
        return rollback(request, self.fakes.services)

    @property
    def pointer(self) -> Pointer:
        return Pointer.model_validate_json(self.fakes.objects.objects[layout.pointer_key()].body)

    @property
    def pending(self) -> set[str]:
        return self.fakes.objects.keys("delta/")

    def accounted_for(self) -> set[str]:
        """Return the deltas that are pending, or that the published snapshot or an ancestor merged."""
        catalogue = read_catalogue(self.fakes.services)
        assert catalogue.current is not None
        lineage = lineage_of(catalogue.current, catalogue.parents)
        inside = {o.key for each in lineage.snapshots for o in read_list(self.fakes.services, each)}
        return self.pending | inside
