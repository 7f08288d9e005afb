"""The example and the links of the README work."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.model import published
from tests.stack import Stack

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.e2e


def examples() -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)


def test_the_examples_write_and_read_the_records_that_they_show(
    stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writing, reading = examples()
    for name, value in {**stack.env, "CHROMADB_CACHE_DIR": str(tmp_path / "cache")}.items():
        monkeypatch.setenv(name, value)

    exec(compile(writing, "README.md", "exec"), {})
    names: dict[str, Any] = {}
    exec(compile(reading, "README.md", "exec"), names)
    result = stack.compact()

    assert result.status == "SUCCEEDED"
    assert (names["found"]["ids"], names["found"]["metadatas"]) == ([["intro"]], [[{"page": 3}]])
    docs = published(stack.s3, stack.bucket, tmp_path)["docs"]
    assert {id_: (document, metadata) for id_, (_, document, metadata) in docs.items()} == {
        "intro": ("What it is.", {"page": 3}),
        "setup": ("How to install it.", {"page": 2}),
    }


def test_every_page_that_the_readme_links_to_exists() -> None:
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), ROOT / "CONTRIBUTING.md"]

    for page in pages:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
