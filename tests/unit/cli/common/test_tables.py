from __future__ import annotations

import io

import pytest
from rich.console import Console
from rich.text import Text

from chromadb_compaction.cli.common.tables import LONGEST_ID, Column, Listing, facts

UUID = "2be34bff-9aef-4bce-ad6a-eec6837a6133"
SNAPSHOT = "0000000042-3f2a9c1b"


def lines(*parts: object, width: int = 80) -> list[str]:
    console = Console(file=io.StringIO(), width=width)
    with console.capture() as captured:
        for part in parts:
            console.print(part)
    return [line.rstrip() for line in captured.get().splitlines()]


def a_listing() -> Listing:
    table = Listing(
        Column("snapshot", "id"), Column("made", "fixed", drop=2), Column("execution", "id", drop=1), Column("note")
    )
    table.add_row(SNAPSHOT, "2026-11-24 02:52:03+01:00", UUID, Text("a note " * 20))
    return table


def test_a_wide_terminal_shows_every_column() -> None:
    heading, first, *_ = lines(a_listing(), width=120)

    assert heading.split() == ["snapshot", "made", "execution", "note"]
    assert first.startswith(f"{SNAPSHOT}  2026-11-24 02:52:03+01:00  {UUID}  a note")


@pytest.mark.parametrize(("width", "headings"), [(80, ["snapshot", "made", "note"]), (40, ["snapshot", "note"])])
def test_a_narrow_terminal_leaves_out_columns_in_their_order(width: int, headings: list[str]) -> None:
    heading, first, *_ = lines(a_listing(), width=width)

    assert heading.split() == headings
    assert first.startswith(f"{SNAPSHOT}  ")


@pytest.mark.parametrize("width", range(50, 160, 7))
def test_an_id_is_whole_beside_a_long_text(width: int) -> None:
    table = Listing(Column("id", "id"), Column("document"))
    table.add_row(UUID, Text("word " * 50))
    table.add_row("a", Text("https://example.org/" + "x" * 100))

    shown = lines(table, width=width)

    assert shown[1].startswith(UUID)
    assert not any("…" in line for line in shown)


def test_an_id_too_long_for_the_terminal_is_folded_and_not_cut() -> None:
    table = Listing(Column("id", "id"), Column("document"))
    table.add_row("x" * 3 * LONGEST_ID, "document")

    assert "".join(lines(table)[1:]).count("x") == 3 * LONGEST_ID


def test_a_listing_inside_facts_fits_beside_the_name() -> None:
    table = Listing(Column("", "id"), Column("", "fixed", drop=1), Column("", "fixed"), heading=False)
    table.add_row(UUID, "2026-11-24 02:52:03+01:00", "0.52 s")

    assert lines(facts(("Executions", table))) == [f"Executions   {UUID}  0.52 s"]
