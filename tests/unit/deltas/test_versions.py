"""The names of deltas."""

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chromadb_compaction.deltas.versions import FUTURE_TOLERANCE_SECONDS, parse_delta_id, uuid7_seconds
from chromadb_compaction.errors import CorruptDeltaError

NOW = 1_760_000_000.0

milliseconds = st.integers(0, 2**48 - 1)
tails = st.integers(0, 2**62 - 1)


def a_uuid7(at: float, tail: int = 0) -> UUID:
    return UUID(int=int(at * 1000) << 80 | 7 << 76 | 2 << 62 | tail)


@given(milliseconds, tails)
def test_a_uuid7_contains_its_time(moment: int, tail: int) -> None:
    assert uuid7_seconds(a_uuid7(moment / 1000, tail)) == pytest.approx(moment / 1000, abs=0.0011)


def test_the_example_of_the_rfc_has_its_documented_time() -> None:
    # RFC 9562, appendix A.6: Tuesday, February 22, 2022 2:22:22.00 PM GMT-05:00.
    assert uuid7_seconds(UUID("017f22e2-79b0-7cc3-98c4-dc0c0c07398f")) == 1645557742.0


@given(tails)
def test_a_name_in_canonical_form_is_accepted(tail: int) -> None:
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
def test_any_other_name_is_an_error_with_a_next_step(text: str) -> None:
    with pytest.raises(CorruptDeltaError, match="write the delta again under a new UUIDv7"):
        parse_delta_id(text, now=NOW)


@given(st.text())
def test_any_text_is_either_a_canonical_uuid7_or_an_error(text: str) -> None:
    try:
        delta_id = parse_delta_id(text, now=2**48 / 1000)
    except CorruptDeltaError:
        return
    assert str(delta_id) == text


@pytest.mark.parametrize("ahead", [-86_400.0, 0.0, 60.0, FUTURE_TOLERANCE_SECONDS])
def test_a_time_up_to_an_hour_ahead_is_accepted(ahead: float) -> None:
    parse_delta_id(str(a_uuid7(NOW + ahead)), now=NOW)


@pytest.mark.parametrize("ahead", [FUTURE_TOLERANCE_SECONDS + 0.001, 86_400.0])
def test_a_time_further_ahead_is_an_error(ahead: float) -> None:
    with pytest.raises(CorruptDeltaError, match="ahead of S3's clock"):
        parse_delta_id(str(a_uuid7(NOW + ahead)), now=NOW)
