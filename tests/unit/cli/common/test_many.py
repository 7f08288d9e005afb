from __future__ import annotations

import io
from collections.abc import Sequence

from rich.console import Console

from chromadb_compaction.cli.common.many import summarised


def summary(count: int) -> list[str]:
    names = [f"collection-{number:03d}" for number in range(count)]
    records = {name: number * 7 % 300 for number, name in enumerate(names)}

    def cells(name: str) -> Sequence[str]:
        return name, f"{records[name]} records", "l2"

    console = Console(file=io.StringIO(), width=80)
    with console.capture() as captured:
        for part in summarised(names, cells, weight=records.__getitem__, order="largest"):
            console.print(part)
    return captured.get().splitlines()


def test_each_of_ten_collections_has_a_line_in_the_given_order() -> None:
    lines = summary(10)

    assert lines[0] == "  collection-000: 0 records, l2"
    assert len(lines) == 10


def test_of_three_hundred_the_ten_largest_are_a_table() -> None:
    first, *table, last = summary(300)

    assert first == "  The 10 largest of 300 collections:"
    assert [int(line.split()[1]) for line in table] == list(range(299, 289, -1))
    assert len({line.index("records") for line in table}) == 1
    assert last == "  and 290 more: --json names all"
