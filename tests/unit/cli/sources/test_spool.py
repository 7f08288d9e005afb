"""The spool returns the pages that were written to it."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import numpy as np

from chromadb_compaction.cli.sources.records import Records
from chromadb_compaction.cli.sources.row_digests import RowDigests
from chromadb_compaction.cli.sources.spool import SpoolWriter, read_spool

METADATA = {"b": True, "i": 2**62, "f": 0.1, "whole": 1.0, "s": "\u00e9\u4e2d", "many": ["x", "y"], "big": 1e300}


def test_every_page_comes_back_and_the_file_is_removed(tmp_path: Path) -> None:
    vectors = np.arange(6, dtype=np.float32).reshape(2, 3)
    pages = [
        Records(["a", "b"], [False, False], vectors, ["text", None], [METADATA, None], ["s3://a", None], 2),
        Records(["c"], [False], vectors[1:] / 3, [""], [{}], [None], 1),
    ]
    with closing(SpoolWriter(tmp_path / "spool")) as spool:
        for page in pages:
            spool.write(page)

    read = list(read_spool(tmp_path / "spool"))

    assert [page._replace(embeddings=page.embeddings.tolist()) for page in read] == [
        page._replace(embeddings=page.embeddings.tolist()) for page in pages
    ]
    assert [RowDigests().after(page) for page in read] == [RowDigests().after(page) for page in pages]
    assert not (tmp_path / "spool").exists()


def test_a_spool_without_pages_has_no_records(tmp_path: Path) -> None:
    with closing(SpoolWriter(tmp_path / "spool")):
        pass

    assert list(read_spool(tmp_path / "spool")) == []
