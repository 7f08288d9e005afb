"""The wheel, installed into empty virtual environments and used outside the checkout."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from tests.e2e import uv

pytestmark = pytest.mark.e2e

VERSION = tomllib.loads((uv.CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
RECORDS = [
    {"id": "whale", "document": "The blue whale is the largest animal of the sea."},
    {"id": "bread", "document": "Knead the dough, let it rest and bake the bread."},
]
WRITE = """
from chromadb_compaction import DeltaWriter
with DeltaWriter() as writer:
    writer.upsert("vectors", ["a"], [[1.0, 0.0]])
"""


class Environment:
    """A virtual environment with the wheel in it, and an empty directory to work in."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.work = directory / "work"
        self.work.mkdir(parents=True)

    @property
    def programs(self) -> Path:
        return self._directory / "venv" / "bin"

    def python(self, program: str, variables: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        return self._run("python", "-c", program, variables=variables)

    def module(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self._run("python", "-m", "chromadb_compaction", *arguments)

    def command(self, *arguments: str, variables: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        return self._run("chromadb-compaction", *arguments, variables=variables)

    def _run(
        self, program: str, *arguments: str, variables: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        # Nothing of this process's environment: neither PYTHONPATH nor a proxy nor another stack.
        environment = {"PATH": "/usr/bin:/bin", "HOME": str(self.work), "LANG": "C.UTF-8", **(variables or {})}
        return subprocess.run(
            [self.programs / program, *arguments],
            env=environment,
            cwd=self.work,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )


Install = Callable[[str], Environment]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    uv.skip_without_uv()
    directory = tmp_path_factory.mktemp("wheel")
    uv.run("uv", "build", "--wheel", "--quiet", "--out-dir", directory)
    (built,) = directory.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def install(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Install:
    """Return a function that installs the wheel, with the extras given as `[cli]`, in the versions of uv.lock."""
    constraints = wheel.with_name("constraints.txt")
    constraints.write_text(uv.export("--all-extras"), encoding="utf-8")

    def installed(extras: str) -> Environment:
        directory = tmp_path_factory.mktemp("installed")
        environment = Environment(directory)
        uv.run("uv", "venv", "--quiet", "--python", sys.executable, directory / "venv")
        python = environment.programs / "python"
        uv.run("uv", "pip", "install", "--quiet", "--python", python, "--constraint", constraints, f"{wheel}{extras}")
        return environment

    return installed


@pytest.fixture(scope="module")
def core(install: Install) -> Environment:
    return install("")


@pytest.fixture(scope="module")
def everything(install: Install) -> Environment:
    return install("[local]")


@pytest.fixture
def stack_variables(everything: Environment) -> Iterator[dict[str, str]]:
    """Start a local stack and return the variables that point clients at it."""
    up = everything.command("local", "up", "--detach")
    try:
        assert up.returncode == 0, up.stderr
        yield json.loads(everything.command("local", "env", "--json").stdout)
    finally:
        down = everything.command("local", "down", "--json")
    assert json.loads(down.stdout) == {"stopped": True, "deleted": False}


def test_the_wheel_has_one_package_at_its_top_level(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        top = {name.partition("/")[0] for name in archive.namelist()}

    assert top == {"chromadb_compaction", f"chromadb_compaction-{VERSION}.dist-info"}


def test_the_package_states_its_version(core: Environment) -> None:
    printed = core.python("import chromadb_compaction; print(chromadb_compaction.__version__)")

    assert (printed.stdout.strip(), printed.stderr) == (VERSION, "")


@pytest.mark.parametrize("name", ["infra", "statemachine", "tasks"])
def test_the_deployed_program_is_not_importable_by_its_own_names(core: Environment, name: str) -> None:
    assert f"No module named '{name}'" in core.python(f"import {name}").stderr


def test_without_pyarrow_the_delta_writer_names_the_extra_to_install(core: Environment) -> None:
    failed = core.python("from chromadb_compaction import DeltaWriter")

    assert failed.stderr.splitlines()[-1] == (
        "ModuleNotFoundError: DeltaWriter needs numpy; next: pip install 'chromadb-compaction[deltas]'"
    )


@pytest.mark.parametrize("entry", [Environment.command, Environment.module])
def test_without_typer_the_command_line_names_the_extra_to_install(
    core: Environment, entry: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    failed = entry(core, "status")

    assert (failed.returncode, failed.stdout) == (2, "")
    assert failed.stderr == (
        "error: this command needs typer, which is not installed; next: pip install 'chromadb-compaction[cli]'\n"
    )


def test_without_pulumi_the_local_stack_names_the_extra_to_install(install: Install) -> None:
    failed = install("[cli]").command("local", "up")

    assert (failed.returncode, failed.stdout) == (2, "")
    assert failed.stderr == (
        "error: this command needs pulumi, which is not installed; next: pip install 'chromadb-compaction[local]'\n"
    )


@pytest.mark.parametrize("entry", [Environment.command, Environment.module])
@pytest.mark.parametrize("installed", ["core", "everything"])
def test_the_command_line_prints_its_version_with_and_without_extras(
    request: pytest.FixtureRequest, installed: str, entry: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    printed = entry(request.getfixturevalue(installed), "--version")

    assert (printed.returncode, printed.stderr, printed.stdout) == (0, "", f"chromadb-compaction {VERSION}\n")


def test_what_is_written_outside_a_checkout_is_compacted_and_found(
    everything: Environment, stack_variables: dict[str, str]
) -> None:
    records = everything.work / "records.jsonl"
    records.write_text("".join(json.dumps(record) + "\n" for record in RECORDS), encoding="utf-8")
    put = everything.command(
        "put", str(records), "-c", "docs", "--embedding-function", "wordllama", variables=stack_variables
    )
    written = everything.python(WRITE, stack_variables)

    compacted = everything.command("compact", "--wait", "--json", variables=stack_variables)
    found = everything.command(
        "query", "an animal of the ocean", "-c", "docs", "-n", "1", "--json", variables=stack_variables
    )

    assert (put.returncode, written.stderr) == (0, ""), put.stderr
    assert compacted.returncode == 0, compacted.stderr
    assert json.loads(compacted.stdout)["merged"] == 2
    assert json.loads(found.stdout)["ids"] == [["whale"]]
