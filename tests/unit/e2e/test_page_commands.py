"""The reader of a page's commands, and its comparison of real output with the page."""

from __future__ import annotations

import pytest

from tests.e2e.page_commands import Block, Ids, SetupStep, read_page

FIRST, SECOND = "0000000001-116b6aa3", "0000000002-0f412e76"
REAL = "0000000001-aaaaaaaa"

PAGE = f"""# Page

```sh
echo before any heading
```

## No commands

## A section

<!-- setup: a lock left behind -->

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


def test_each_block_of_a_section_is_read_with_its_output_and_exit_code() -> None:
    whole, section = read_page(PAGE)

    assert [section.heading for section in (whole, section)] == ["", "A section"]
    assert section.steps == (
        SetupStep(11, "a lock left behind"),
        Block(13, "list", 0, FIRST),
        Block(25, f"show {FIRST}      # exits with 3", 3, None),
    )


def test_output_without_a_command_is_an_error() -> None:
    with pytest.raises(AssertionError, match="line 1: output without a command"):
        read_page("```text\nwords\n```\n")


def ids_from(shown: str, printed: str) -> Ids:
    ids = Ids()
    ids.compare(Block(1, "list", 0, shown), printed)
    return ids


def test_a_command_gets_the_real_id_that_was_printed() -> None:
    assert ids_from(f"▶ {FIRST}", f"▶   {REAL}\n").with_real_ids(Block(2, f"show {FIRST}", 0, None)) == f"show {REAL}"


def test_a_command_cannot_use_an_id_that_was_not_printed() -> None:
    with pytest.raises(AssertionError, match=f"line 2: nothing above has printed {SECOND}"):
        ids_from(FIRST, REAL).with_real_ids(Block(2, f"show {SECOND}", 0, None))


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
def test_times_sizes_ids_and_dots_may_differ(shown: str, printed: str) -> None:
    ids_from(shown, printed)


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
def test_any_other_difference_is_found(shown: str, printed: str) -> None:
    with pytest.raises(AssertionError):
        ids_from(shown, printed)
