"""The README names every setting, alarm, target and module."""

from __future__ import annotations

import inspect
import re
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from chromadb_compaction.cli.executions import advice
from infra import program
from infra.config import CompactionConfig, SnapshotRetention
from tests.infra.declared import declared

README = Path(program.__file__).with_name("README.md").read_text(encoding="utf-8")
KEYED = {"tags", "snapshotRetention", "memory", "timeout", "ephemeralStorage"}
SETTINGS = {str(field.alias) for field in CompactionConfig.model_fields.values()}


def first_cells() -> set[str]:
    """Return the words in the first cells of the tables."""
    cells = re.findall(r"^\| (`[^|]+`) \|", README, re.MULTILINE)
    return {word for cell in cells for word in re.findall(r"`([^`]+)`", cell)}


@pytest.mark.parametrize("setting", sorted(SETTINGS - KEYED))
def test_every_setting_is_explained(setting: str) -> None:
    assert setting in first_cells()


@pytest.mark.parametrize("setting", [*(f"snapshotRetention.{part}" for part in SnapshotRetention.model_fields)])
def test_every_part_of_a_setting_is_explained(setting: str) -> None:
    assert setting in first_cells()


@pytest.mark.parametrize("setting", ["memory", "timeout", "ephemeralStorage"])
def test_every_size_of_a_function_is_explained(setting: str) -> None:
    assert f"{setting}.<task>" in first_cells()


def test_every_alarm_is_explained() -> None:
    names = {a.inputs["name"].removeprefix("chromadb-compaction-dev-") for a in declared().of_type("MetricAlarm")}
    assert names <= first_cells()


@pytest.mark.parametrize("text", [README, inspect.getsource(advice)], ids=["the page", "the command line's advice"])
def test_every_setting_that_a_command_sets_exists(text: str) -> None:
    whole = set(re.findall(r"config set chromadb:([\w.]+)", text))
    keyed = set(re.findall(r"config set --path chromadb:(\w+)\.", text))
    assert whole <= SETTINGS - KEYED
    assert keyed <= KEYED


def test_every_target_in_a_command_matches_a_resource() -> None:
    names = [r.name for r in declared().resources if r.type.startswith("aws:")]
    targets = re.findall(r"--target '\*\*::([^']+)'", README)
    assert targets
    assert [target for target in targets if not any(fnmatchcase(name, target) for name in names)] == []


def test_every_module_of_the_program_is_mentioned() -> None:
    modules = {file.stem for file in Path(program.__file__).parent.glob("*.py")}
    plain = {"__init__", "__main__", "program", "config", "config_values", "environment", "names"}
    assert [module for module in sorted(modules - plain) if f"`{module}`" not in README] == []
