"""The lengths of strings in the pages of a Parquet file."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from chromadb_compaction.deltas.parquet.strings import longest_entry
from chromadb_compaction.errors import CorruptDeltaError

WORDS = [b"a", b"", b"the longest", b"word"]
DICTIONARY = b"".join(len(word).to_bytes(4, "little") + word for word in WORDS)


@pytest.mark.parametrize(("codec", "name"), [(0, None), (1, "snappy"), (2, "gzip"), (6, "zstd")])
def test_the_longest_string_of_a_dictionary_is_found(codec: int, name: Any) -> None:
    page = DICTIONARY if name is None else pa.Codec(name).compress(DICTIONARY, asbytes=True)

    assert longest_entry(page, {2: len(DICTIONARY)}, codec=codec) == len(b"the longest")


def test_a_codec_that_cannot_be_unpacked_alone_is_an_error_with_the_remedy() -> None:
    with pytest.raises(CorruptDeltaError, match="compress it with zstd or snappy"):
        longest_entry(DICTIONARY, {2: len(DICTIONARY)}, codec=5)
