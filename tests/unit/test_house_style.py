"""The house's own rules that no linter knows: rooms of a readable size, docstrings that open plainly, plain words."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "chromadb_compaction"
MOST_FILES = 16
QUESTION_WORDS = ("What", "Where", "Which", "Whether", "How", "Who", "Whoever", "Say whether")

OLD_WORDS = re.compile(
    r"\b(anew|whoever|whereabouts|doomed|mend(s|ed|ing)?|bells?|curtain|prelude|victims?|ordeals?|outsiders?|witness(es)?"
    r"|at the door|brings? home|lets? go|gives? back|gave back|rings? the bell|standing pointer)\b",
    re.IGNORECASE,
)
"""Metaphors and old-fashioned words. Each has a plain equivalent: notification, fix, expired, again, worker."""

NEGATED_NOUN = re.compile(r"(?<!there )(?<!There )\b(is|are) no (?!longer\b|more\b|such\b)[a-z]+", re.MULTILINE)
"""`is no directory`, where plain English says `is not a directory`."""


@cache
def tracked(*patterns: str) -> tuple[Path, ...]:
    """Return the repository's files of those patterns."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", *patterns],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return tuple(path for path in map(ROOT.joinpath, listed.stdout.splitlines()) if path.is_file())


def docstrings(path: Path) -> Iterator[tuple[int, str]]:
    """Yield each docstring of a module with its line, those of constants and attributes included."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield node.lineno, node.value.value


@pytest.mark.parametrize(
    "folder", sorted({path.parent for path in tracked("chromadb_compaction/*.py")}), ids=lambda path: path.name
)
def test_no_room_has_more_files_than_a_reader_takes_in(folder: Path) -> None:
    modules = [path for path in tracked("chromadb_compaction/*.py") if path.parent == folder]

    assert len(modules) <= MOST_FILES
    assert ast.get_docstring(ast.parse((folder / "__init__.py").read_text(encoding="utf-8"))), "what is this room?"


def test_no_docstring_opens_with_a_question_word() -> None:
    opening = [
        f"{path.relative_to(ROOT)}:{line}: {text.splitlines()[0]}"
        for path in tracked("*.py")
        for line, text in docstrings(path)
        if text.startswith(tuple(f"{word} " for word in QUESTION_WORDS))
    ]
    assert opening == []


def test_old_words_do_not_come_back() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in tracked("*.py", "*.md", "*.json", "scripts/*")
        if path != Path(__file__)
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if OLD_WORDS.search(line) or NEGATED_NOUN.search(line)
    ]
    assert found == []
