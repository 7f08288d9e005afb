from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from chromadb_compaction.__main__ import EXTRA_OF, main
from chromadb_compaction.cli import app

PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"


def raise_missing(name: str) -> None:
    raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def test_every_optional_package_is_named_with_its_extra() -> None:
    extras = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    packages = {
        re.split(r"[<=>\[]", requirement)[0].replace("-", "_"): extra
        for extra, requirements in extras.items()
        for requirement in requirements
    }
    del packages["chromadb_compaction"]

    assert packages == EXTRA_OF


def test_a_missing_submodule_of_an_optional_package_names_the_extra(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(app, "run", lambda: raise_missing("pulumi.runtime"))

    with pytest.raises(SystemExit) as end:
        main()

    assert end.value.code == 2
    assert capsys.readouterr().err.endswith("next: pip install 'chromadb-compaction[local]'\n")


def test_a_missing_module_that_no_extra_installs_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "run", lambda: raise_missing("tasks.no_such_task"))

    with pytest.raises(ModuleNotFoundError, match="no_such_task"):
        main()
