"""The shell commands of a Markdown page, and a comparison of their real output with the output on the page.

A ```sh block is run unchanged. Its last line may end with `# exits with 3`. A ```text block right after it is its
output. There `...` matches any text, and a line with only `...` matches any number of lines. Times, sizes and durations
may differ. Ids may differ too, but every occurrence of an id must have the same real id, and a command can only use an
id that was printed above. `<!-- setup: a lock left behind -->`, which readers do not see, names a setup to run.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

_SETUP = re.compile(r"<!-- setup: (.+) -->")
_FENCE = re.compile(r"( *)```(\w*)")
_EXIT = re.compile(r"# exits with (\d+)\s*$")

_ID = r"\d{10}-[0-9a-f]{8}|[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
_SPAN = r"\d+ d \d+ h|\d+ h \d+ min|\d+ min \d+ s|\d+(?:\.\d+)? s"
_VARIABLE = {
    "time": r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)?",
    "id": _ID,
    "span": rf"(?:just now|(?:{_SPAN})(?: ago)?)",
    "size": r"\d[\d,]*(?:\.\d+)? (?:B|KiB|MiB|GiB)\b",
    "version": r"\b\d+\.\d+\.\d+\b",
    "epoch": r"\b\d{10}\b",
    "rest": r"\.\.\.",
}
"""The patterns of values that may differ from the page, by the name of their kind."""

_TOKEN = re.compile("|".join(f"(?P<{kind}>{pattern})" for kind, pattern in _VARIABLE.items()))


class SetupStep(NamedTuple):
    """The name of a setup to run before the next block."""

    line: int
    name: str


class Block(NamedTuple):
    """Commands, their exit code, and their output (None: the page does not show it)."""

    line: int
    commands: str
    exit_code: int
    output: str | None


class Section(NamedTuple):
    """The setups and blocks under one heading, in order."""

    heading: str
    steps: tuple[SetupStep | Block, ...]


class Ids:
    """The real ids that were printed so far, by the ids of the page."""

    def __init__(self) -> None:
        self._real: dict[str, str] = {}

    def with_real_ids(self, block: Block) -> str:
        """Return the block's commands with real ids. Raises AssertionError for an id that was not printed above."""

        def real(match: re.Match[str]) -> str:
            assert match[0] in self._real, f"line {block.line}: nothing above has printed {match[0]}"
            return self._real[match[0]]

        return re.sub(_ID, real, block.commands)

    def compare(self, block: Block, printed: str) -> None:
        """Compare the printed output with the page, and keep its ids. Raises AssertionError if they differ."""
        assert block.output is not None
        groups: dict[str, str] = {}
        pattern = "".join(self._line(line, groups) for line in _lines(block.output))
        found = re.fullmatch(pattern, "".join(f"{line}\n" for line in _lines(printed)))
        assert found, f"line {block.line}: the page shows\n{block.output}\nbut this was printed:\n{printed}"
        self._real.update({shown: found[group] for shown, group in groups.items()})
        assert len(set(self._real.values())) == len(self._real), f"line {block.line}: two ids for one thing: {groups}"

    def _line(self, line: str, groups: dict[str, str]) -> str:
        if line == "...":
            return r"(?:.*\n)*?"
        parts, at = [], 0
        for match in _TOKEN.finditer(line):
            parts += [re.escape(line[at : match.start()]), self._token(match, groups)]
            at = match.end()
        return "".join([*parts, re.escape(line[at:]), r"\n"])

    def _token(self, match: re.Match[str], groups: dict[str, str]) -> str:
        kind, shown = str(match.lastgroup), match[0]
        if kind == "rest":
            return ".*"
        if kind != "id":
            return _VARIABLE[kind]
        if shown in self._real:
            return re.escape(self._real[shown])
        if shown in groups:
            return f"(?P={groups[shown]})"
        groups[shown] = f"id{len(groups)}"
        return f"(?P<{groups[shown]}>{_ID})"


def read_page(text: str) -> tuple[Section, ...]:
    """Return the sections of a page that have commands."""
    headings = [(0, ""), *((match.start(), match[1]) for match in re.finditer(r"^## (.+)$", text, re.MULTILINE))]
    ends = [*(start for start, _ in headings[1:]), len(text)]
    sections = [
        Section(heading, tuple(_steps(text[start:end], text.count("\n", 0, start) + 1)))
        for (start, heading), end in zip(headings, ends, strict=True)
    ]
    return tuple(section for section in sections if section.steps)


def _steps(text: str, first_line: int) -> Iterator[SetupStep | Block]:
    block: Block | None = None
    for line, kind, content in _parts(text, first_line):
        if kind == "text":
            assert block, f"line {line}: output without a command"
            yield block._replace(output=content)
            block = None
            continue
        if block:
            yield block
        block = None
        if kind == "setup":
            yield SetupStep(line, content)
        elif kind == "sh":
            code = _EXIT.search(content)
            block = Block(line, content, int(code[1]) if code else 0, None)
    if block:
        yield block


def _parts(text: str, first_line: int) -> Iterator[tuple[int, str, str]]:
    """Yield line number, kind and content of each setup, fenced block and other line (kind ""), without empty lines."""
    lines = enumerate(text.splitlines(), first_line)
    for number, line in lines:
        if setup := _SETUP.fullmatch(line):
            yield number, "setup", setup[1]
        elif fence := _FENCE.fullmatch(line):
            inside = []
            for _, each in lines:
                if each == f"{fence[1]}```":
                    break
                inside.append(each.removeprefix(fence[1]))
            yield number, fence[2], "\n".join(inside)
        elif line.strip():
            yield number, "", line


def _lines(text: str) -> list[str]:
    return [" ".join(line.split()) for line in text.splitlines() if line.strip()]
