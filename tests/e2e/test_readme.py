"""The example and the links of the README work."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.e2e.model import published
from tests.stack import Stack

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.e2e


def test_the_producer_example_writes_the_records_that_it_shows(
    stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    [example] = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    for name, value in stack.env.items():
        monkeypatch.setenv(name, value)

    exec(compile(example, "README.md", "exec"), {})
    result = stack.compact()

    assert result.status == "SUCCEEDED"
    docs = published(stack.s3, stack.bucket, tmp_path)["docs"]
    assert {id_: document for id_, (_, document, _) in docs.items()} == {
        "intro": "What it is.",
        "setup": "How to install it.",
    }


def test_every_page_that_the_readme_links_to_exists() -> None:
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), ROOT / "CONTRIBUTING.md"]

    for page in pages:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
