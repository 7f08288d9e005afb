"""The reading of a page that is typed, and what it takes for the same as what was printed."""

from __future__ import annotations

import pytest

from tests.e2e.pages import Block, Ids, Rehearsal, read_page

FIRST, SECOND = "0000000001-116b6aa3", "0000000002-0f412e76"
REAL = "0000000001-aaaaaaaa"

PAGE = f"""# Page

```sh
echo before any heading
```

## Nothing to type

## A section

<!-- rehearsal: a lock left behind -->

```sh
list
```

```text
{FIRST}
```

Words between.

- An item:

  ```sh
  show {FIRST}      # exits with 3
  ```
"""


def test_a_page_is_read_by_section_each_block_with_its_output_and_exit_code() -> None:
    whole, section = read_page(PAGE)

    assert [section.heading for section in (whole, section)] == ["", "A section"]
    assert section.steps == (
        Rehearsal(11, "a lock left behind"),
        Block(13, "list", 0, FIRST),
        Block(25, f"show {FIRST}      # exits with 3", 3, None),
    )


def test_output_that_follows_no_command_is_refused() -> None:
    with pytest.raises(AssertionError, match="line 1: output that belongs to no command"):
        read_page("```text\nwords\n```\n")


def seen(shown: str, printed: str) -> Ids:
    ids = Ids()
    ids.learn(Block(1, "list", 0, shown), printed)
    return ids


def test_an_id_is_typed_as_it_was_printed() -> None:
    assert seen(f"▶ {FIRST}", f"▶   {REAL}\n").typed(Block(2, f"show {FIRST}", 0, None)) == f"show {REAL}"


def test_an_id_that_nothing_has_printed_cannot_be_typed() -> None:
    with pytest.raises(AssertionError, match=f"line 2: nothing above has printed {SECOND}"):
        seen(FIRST, REAL).typed(Block(2, f"show {SECOND}", 0, None))


@pytest.mark.parametrize(
    ("shown", "printed"),
    [
        ("took 0.31 s", "took 2 min 4 s"),
        ("published 4 min 0 s ago", "published just now"),
        ("34.2 KiB", "1.1 MiB"),
        ("since 2026-11-24T02:54:43Z", "since 2027-01-02T03:04:05Z"),
        ("first\n...\nlast", "first\nsecond\nthird\nlast"),
        ("first\n...\nlast", "first\nlast"),
        ("the reason: ...", "the reason: any (at all) [1]"),
    ],
)
def test_what_may_differ_may_differ(shown: str, printed: str) -> None:
    seen(shown, printed)


@pytest.mark.parametrize(
    ("shown", "printed"),
    [
        ("1 delta", "2 deltas"),
        ("4 records", "5 records"),
        ("first", "first\nsecond"),
        ("first\nsecond", "second\nfirst"),
        (f"{FIRST} {FIRST}", f"{REAL} {SECOND}"),
        (f"{FIRST} {SECOND}", f"{REAL} {REAL}"),
    ],
)
def test_what_may_not_differ_is_found(shown: str, printed: str) -> None:
    with pytest.raises(AssertionError):
        seen(shown, printed)
