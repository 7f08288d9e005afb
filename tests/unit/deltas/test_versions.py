"""Which row is newer, and which names may say so."""

from random import Random
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chromadb_compaction.deltas.versions import FUTURE_TOLERANCE_SECONDS, Version, parse_delta_id, uuid7_seconds
from chromadb_compaction.errors import CorruptDeltaError

NOW = 1_760_000_000.0

milliseconds = st.integers(0, 2**48 - 1)
tails = st.integers(0, 2**62 - 1)
versions = st.builds(
    Version, st.binary(min_size=16, max_size=16), st.integers(0, 2**32 - 1), st.binary(min_size=32, max_size=32)
)


def a_uuid7(at: float, tail: int = 0) -> UUID:
    return UUID(int=int(at * 1000) << 80 | 7 << 76 | 2 << 62 | tail)


@given(milliseconds, tails)
def test_a_uuid7_tells_its_time(moment: int, tail: int) -> None:
    assert uuid7_seconds(a_uuid7(moment / 1000, tail)) == pytest.approx(moment / 1000, abs=0.0011)


def test_the_example_of_the_rfc_tells_its_time() -> None:
    # RFC 9562, appendix A.6: Tuesday, February 22, 2022 2:22:22.00 PM GMT-05:00.
    assert uuid7_seconds(UUID("017f22e2-79b0-7cc3-98c4-dc0c0c07398f")) == 1645557742.0


@given(tails)
def test_a_name_in_canonical_form_is_taken(tail: int) -> None:
    delta_id = a_uuid7(NOW, tail)

    assert parse_delta_id(str(delta_id), now=NOW) == delta_id


@pytest.mark.parametrize(
    "text",
    [
        "",
        "notes",
        "017F22E2-79B0-7CC3-98C4-DC0C0C07398F",
        "{017f22e2-79b0-7cc3-98c4-dc0c0c07398f}",
        "urn:uuid:017f22e2-79b0-7cc3-98c4-dc0c0c07398f",
        "017f22e279b07cc398c4dc0c0c07398f",
        "017f22e2-79b0-7cc3-98c4-dc0c0c07398",
        "9f1c7e42-3b5d-4c0a-8f77-6a2f5f2d1c11",
        "017f22e2-79b0-7cc3-08c4-dc0c0c07398f",
        "00000000-0000-0000-0000-000000000000",
    ],
)
def test_any_other_name_is_refused_saying_what_to_do(text: str) -> None:
    with pytest.raises(CorruptDeltaError, match="write the delta under a fresh UUIDv7"):
        parse_delta_id(text, now=NOW)


@given(st.text())
def test_any_text_is_either_a_canonical_uuid7_or_refused(text: str) -> None:
    try:
        delta_id = parse_delta_id(text, now=2**48 / 1000)
    except CorruptDeltaError:
        return
    assert str(delta_id) == text


@pytest.mark.parametrize("ahead", [-86_400.0, 0.0, 60.0, FUTURE_TOLERANCE_SECONDS])
def test_a_clock_up_to_an_hour_wrong_is_borne(ahead: float) -> None:
    parse_delta_id(str(a_uuid7(NOW + ahead)), now=NOW)


@pytest.mark.parametrize("ahead", [FUTURE_TOLERANCE_SECONDS + 0.001, 86_400.0])
def test_a_version_from_the_future_is_refused(ahead: float) -> None:
    with pytest.raises(CorruptDeltaError, match="ahead of S3's clock"):
        parse_delta_id(str(a_uuid7(NOW + ahead)), now=NOW)


@given(st.integers(0, 2**47), st.integers(1, 2**40), tails, tails)
def test_a_later_delta_wins_whatever_its_random_part(moment: int, later: int, one: int, other: int) -> None:
    earlier = Version(a_uuid7(moment / 1000, one).bytes, 2**32 - 1, b"\xff" * 32)
    newer = Version(UUID(int=a_uuid7(0, other).int + ((moment + later + 2) << 80)).bytes, 0, b"\0" * 32)

    assert newer > earlier


@given(versions, st.integers(0, 1000))
def test_within_a_delta_the_later_row_wins(version: Version, further: int) -> None:
    assert version._replace(row=version.row + further + 1, fingerprint=b"\0" * 32) > version


@given(st.binary(min_size=32, max_size=32).filter(any))
def test_of_one_name_written_twice_a_delete_loses(fingerprint: bytes) -> None:
    assert Version(b"\1" * 16, 0, fingerprint) > Version(b"\1" * 16, 0, b"\0" * 32)


@given(st.lists(versions, min_size=1), st.randoms(use_true_random=False))
def test_the_newest_does_not_depend_on_the_order_of_arrival(found: list[Version], chance: Random) -> None:
    shuffled = list(found)
    chance.shuffle(shuffled)

    assert max(shuffled) == max(found)
