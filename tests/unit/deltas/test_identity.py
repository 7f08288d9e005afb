"""The identity of a delta: equal ETags, then sizes, then SHA-256."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chromadb_compaction.deltas.identity import Content, compare, has_merged_content, have_same_content
from chromadb_compaction.planning import ObjectInfo
from tests.fakes.objects import InMemoryObjectStore

BODY, OTHER = b"one content", b"two content"
BODIES = st.binary(max_size=2)


def stored(objects: InMemoryObjectStore, key: str, body: bytes, *, etag: str | None = None) -> ObjectInfo:
    objects.put(key, body)
    if etag is not None:
        objects.objects[key] = objects.objects[key]._replace(etag=etag)
    found = objects.head(key)
    assert found is not None
    return found


def sha256(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


@given(one=BODIES, other=BODIES, same_key=st.booleans(), hashed=st.booleans())
def test_contents_are_the_same_exactly_if_their_bytes_are(
    *, one: bytes, other: bytes, same_key: bool, hashed: bool
) -> None:
    """A KMS key of the bucket gives every copy an ETag of its own."""
    objects = InMemoryObjectStore()
    etags = (None, None) if same_key else ('"one"', '"other"')
    first, second = (stored(objects, k, b, etag=e) for k, b, e in zip("ab", (one, other), etags, strict=True))
    merged = Content(first.etag, first.bytes, sha256(one))

    assert has_merged_content(merged, second, objects) == (one == other)
    assert have_same_content(first, second, objects) == (one == other)
    if hashed:
        assert compare(merged, Content(second.etag, second.bytes, sha256(other))) == (one == other)


@pytest.mark.parametrize(("etag", "size"), [('"one"', 11), ('"other"', 12)])
def test_nothing_is_read_if_etag_or_size_can_tell(etag: str, size: int) -> None:
    objects = InMemoryObjectStore()

    merged = Content('"one"', 11, sha256(BODY))
    has_merged_content(merged, ObjectInfo(key="k", bytes=size, etag=etag, modified=0), objects)

    assert objects.calls == []


def test_without_a_sha256_the_size_decides_as_it_did_when_the_list_was_written() -> None:
    objects = InMemoryObjectStore()

    assert has_merged_content(Content('"one"', len(BODY)), stored(objects, "k", OTHER), objects)
    assert not has_merged_content(Content('"one"', len(BODY) + 1), stored(objects, "k", OTHER), objects)
