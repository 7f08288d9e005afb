"""A collection of a snapshot: its directories, and the proof that the fold lost no row."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import PurePosixPath
from typing import Annotated, Self

from pydantic import Field, model_validator

from chromadb_compaction.configuration import DeltaVersion, FunctionConfiguration, KeptSettings, Space
from chromadb_compaction.layout import LEDGER_FILE, partition_folder
from chromadb_compaction.manifest.stored import Fingerprint128, LocalPath, Stored, StoredFile


class Conservation(Stored):
    """The conservation proof: next = base - replaced - deleted + added, modulo 2^128.

    Each term is the sum of the fingerprints of the rows it names. `next` is computed from the whole new ledger,
    never from the other terms, so that the equation can fail.

    Attributes:
        base: All live rows of the base.
        replaced: The rows of the base that newer versions replaced.
        deleted: The rows of the base that were deleted.
        added: The new rows, and the new versions of replaced ones.
        next: All live rows of the new snapshot.
    """

    base: Fingerprint128
    replaced: Fingerprint128
    deleted: Fingerprint128
    added: Fingerprint128
    next: Fingerprint128

    def holds(self) -> bool:
        """Return whether the equation is true."""
        base, replaced, deleted, added, following = (
            int(term, 16) for term in (self.base, self.replaced, self.deleted, self.added, self.next)
        )
        return (base - replaced - deleted + added - following) % 2**128 == 0

    @classmethod
    def unchanged(cls, rows: Fingerprint128) -> Self:
        """Return the proof of rows of which none has changed, given their sum."""
        nothing = f"{0:032x}"
        return cls(base=rows, replaced=nothing, deleted=nothing, added=nothing, next=rows)

    @classmethod
    def total(cls, proofs: Iterable[Conservation]) -> Conservation:
        """Return the proof of several disjoint sets of ids together: the sum of each term."""
        sums = dict.fromkeys(cls.model_fields, 0)
        for proof in proofs:
            for term in sums:
                sums[term] += int(getattr(proof, term), 16)
        return cls.model_validate({term: f"{value % 2**128:032x}" for term, value in sums.items()})


class PartitionSnapshot(Stored):
    """The ids of a collection from `first` to before the next partition's `first`: a directory of their own.

    Ids are in the order of their UTF-8 bytes. The other attributes are those of CollectionSnapshot, of these ids alone.
    A collection that is not partitioned is one such directory, with all ids.
    """

    first: str
    records: Annotated[int, Field(ge=0)]
    tombstones: Annotated[int, Field(ge=0)]
    conservation: Conservation
    files: dict[LocalPath, StoredFile]
    newest: DeltaVersion | None = None
    replaced_in_place: Annotated[int, Field(ge=0)] = 0

    @property
    def bytes(self) -> int:
        """The size of all files."""
        return sum(file.bytes for file in self.files.values())

    @property
    def chroma_files(self) -> dict[str, StoredFile]:
        """The files of the ChromaDB directory: all except the ledger."""
        return {path: file for path, file in self.files.items() if path != LEDGER_FILE}


class CollectionSnapshot(Stored):
    """One collection of a snapshot.

    Attributes:
        dimension: The length of its vectors. None until its first upsert. It has a ChromaDB directory then only if a
            delta has stated its settings.
        space: The distance function.
        embedding_function: The name of the function that embeds its texts, if known.
        records: The number of live rows.
        tombstones: The number of deleted ids in the ledger.
        conservation: The proof that the fold lost no row.
        files: The files, by path inside the collection's directory, and the ledger.
        settings: Its other settings, and the whole of its embedding function.
        newest: The newest delta of which the ledger has a row. None: it has no row, or an earlier version wrote it.
        replaced_in_place: The vectors that earlier releases have replaced in place since the index was built. The next
            change of the index rebuilds it, because searches miss vectors near those.
        partitions: Its partitions in the order of their ids, if it has any. Then it has no files of its own, and its
            counts and sums are theirs together. A collection without them is stored as before there were partitions.
    """

    dimension: Annotated[int, Field(ge=1)] | None
    space: Space
    embedding_function: str | None
    records: Annotated[int, Field(ge=0)]
    tombstones: Annotated[int, Field(ge=0)]
    conservation: Conservation
    files: dict[LocalPath, StoredFile]
    settings: KeptSettings = KeptSettings()
    newest: DeltaVersion | None = None
    replaced_in_place: Annotated[int, Field(ge=0)] = 0
    partitions: list[PartitionSnapshot] = Field(default=[], exclude_if=lambda partitions: not partitions)

    @model_validator(mode="after")
    def _is_its_partitions(self) -> Self:
        if not self.partitions:
            return self
        firsts = [each.first.encode() for each in self.partitions]
        if len(firsts) < 2 or firsts[0] or any(one >= other for one, other in pairwise(firsts)):
            raise ValueError("the partitions are not two or more that begin at the least id and ascend")
        if self.files:
            raise ValueError("a partitioned collection has no files beside those of its partitions")
        wrong = [name for name, value in totals(self.partitions).items() if getattr(self, name) != value]
        if wrong:
            raise ValueError(f"{', '.join(wrong)}: not those of the partitions together")
        return self

    @property
    def directories(self) -> Sequence[PartitionSnapshot]:
        """The directories that hold the collection, in the order of their ids: one if it is not partitioned."""
        if self.partitions:
            return self.partitions
        fields = {name: getattr(self, name) for name in PartitionSnapshot.model_fields if name != "first"}
        return [PartitionSnapshot.model_construct(first="", **fields)]

    def directory_of(self, record_id: str) -> PartitionSnapshot:
        """Return the directory that has the id, or would have it."""
        directories = self.directories
        return directories[bisect_right(directories, record_id, key=lambda each: each.first) - 1]

    @property
    def all_files(self) -> dict[str, StoredFile]:
        """All files, by path inside the collection's local directory: each partition has a folder there."""
        if not self.partitions:
            return self.files
        return {
            f"{partition_folder(each.first)}/{path}": file
            for each in self.partitions
            for path, file in each.files.items()
        }

    @property
    def settings_with_function(self) -> KeptSettings:
        """The settings. Manifests from before they were kept name the embedding function alone."""
        if self.settings.function or not self.embedding_function:
            return self.settings
        return self.settings.model_copy(update={"function": FunctionConfiguration(name=self.embedding_function)})

    def may_hold(self, version: DeltaVersion) -> bool:
        """Return whether the ledger may have a row of this delta, or a newer one of the same id."""
        return self.newest is None or version <= self.newest

    @property
    def has_shape(self) -> bool:
        """True if its distance and the settings that are stated once stand."""
        return self.dimension is not None or self.settings.stated is not None

    @property
    def bytes(self) -> int:
        """The size of all files."""
        return sum(each.bytes for each in self.directories)

    @property
    def chroma_files(self) -> dict[str, StoredFile]:
        """The files of the ChromaDB directories: all except the ledgers."""
        return {path: file for path, file in self.all_files.items() if PurePosixPath(path).name != LEDGER_FILE}


def totals(partitions: Sequence[PartitionSnapshot]) -> dict[str, object]:
    """Return the fields of CollectionSnapshot that follow from its partitions.

    `newest` is None if it is unknown of one that has rows.
    """
    known = [each.newest for each in partitions if each.newest or each.records or each.tombstones]
    return {
        "records": sum(each.records for each in partitions),
        "tombstones": sum(each.tombstones for each in partitions),
        "conservation": Conservation.total(each.conservation for each in partitions),
        "newest": None if None in known else max(filter(None, known), default=None),
        "replaced_in_place": sum(each.replaced_in_place for each in partitions),
    }
