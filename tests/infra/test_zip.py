"""The four small functions start with only the content of their zip."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LAMBDA_LIMIT = 250 * 1024 * 1024
HERE = {
    "ZIP_PYTHON": f"{sys.version_info.major}.{sys.version_info.minor}",
    "ARCHITECTURE": {"aarch64": "arm64"}.get(os.uname().machine, os.uname().machine),
}


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the zip's directory for this machine's processor and Python instead of Lambda's."""
    found = shutil.which("uv", path=f"{os.environ['PATH']}:{ROOT / '.uv' / 'bin'}")
    if found is None or sys.platform != "linux":
        pytest.skip("needs uv, and wheels for Linux that can be imported here")
    target = tmp_path_factory.mktemp("zip") / "package"
    path = f"{Path(found).parent}:{os.environ['PATH']}"
    subprocess.run([ROOT / "infra" / "build_zip", target], env={**os.environ, **HERE, "PATH": path}, check=True)
    return target


@pytest.mark.parametrize("task", ["acquire_lock", "list_deltas", "clean_up", "release_lock"])
def test_a_zipped_function_starts(package: Path, task: str) -> None:
    # -I and -S exclude the checkout and the virtual environment from the imports.
    program = f"import sys; sys.path.insert(0, {str(package)!r}); import tasks.{task} as t; print(callable(t.handler))"
    ran = subprocess.run(
        [sys.executable, "-I", "-S", "-B", "-c", program], capture_output=True, text=True, check=False, cwd="/"
    )
    assert (ran.stdout.strip(), ran.stderr) == ("True", "")


@pytest.mark.parametrize("heavy", ["chromadb", "pyarrow", "numpy", "pulumi", "ministack"])
def test_the_zip_contains_no_heavy_package(package: Path, heavy: str) -> None:
    assert not (package / heavy).exists()


def test_the_zip_fits_into_lambdas_limit(package: Path) -> None:
    assert sum(file.stat().st_size for file in package.rglob("*") if file.is_file()) < LAMBDA_LIMIT


def test_the_zip_contains_no_compiled_files_because_their_timestamps_change_every_build(package: Path) -> None:
    assert not [file for file in package.rglob("*") if file.suffix == ".pyc"]
