"""The image's functions work with the packages that the image installs, which are fewer than the declared ones."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from chromadb_compaction.local import runtime
from chromadb_compaction.local.bootstrap import zip_of_script
from tests.e2e import uv
from tests.e2e.conftest import StackPool
from tests.stack import FunctionError, Stack

pytestmark = pytest.mark.e2e

IMAGE_FUNCTIONS = ("merge-batch", "compactor", "producer", "query")
MEBIBYTE = 1024 * 1024


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the image's packages and this project's code into a directory, for this machine and this Python."""
    uv.skip_without_uv()
    if sys.platform != "linux":
        pytest.skip("needs wheels for Linux that can be imported here")
    target = tmp_path_factory.mktemp("image") / "packages"
    uv.run("infra/install_image_packages", target, "--python", sys.executable)
    # infra/Dockerfile.dockerignore leaves these out.
    left_out = shutil.ignore_patterns("__pycache__", "cli", "local")
    for package in ("chromadb_compaction", "tasks"):
        shutil.copytree(uv.CHECKOUT / package, target / package, ignore=left_out)
    return target


@pytest.fixture(scope="module")
def image_stack(packages: Path, stack_pool: StackPool, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Yield a stack whose image functions can import only from that directory and the standard library."""
    stack = stack_pool.take({}, {"INSTALLED_FROM": str(packages)})
    runtime_file = tmp_path_factory.mktemp("runtime") / "runtime.py"
    shutil.copy(runtime.__file__, runtime_file)
    stack.release(dict.fromkeys(IMAGE_FUNCTIONS, bootstrap(packages, runtime_file)))
    yield stack
    stack_pool.put_back(stack)


def bootstrap(packages: Path, runtime_file: Path) -> bytes:
    """Return a function's package that starts the runtime without site-packages."""
    return zip_of_script(
        "#!/bin/sh\n"
        "unset PYTHONDONTWRITEBYTECODE\n"
        f"export PYTHONPATH={shlex.quote(str(packages))}\n"
        f"exec {shlex.quote(sys.executable)} -S {shlex.quote(str(runtime_file))}\n"
    )


def megabytes(directory: Path) -> float:
    return sum(file.stat().st_size for file in directory.rglob("*") if file.is_file()) / MEBIBYTE


def test_texts_are_embedded_compacted_and_found_by_text(image_stack: Stack) -> None:
    records = [{"id": "shell", "document": "run a shell command"}, {"id": "date", "document": "the day of the week"}]
    image_stack.invoke("producer", {"collection": "docs", "records": records})

    result = image_stack.compact()

    assert result.status == "SUCCEEDED", result.cause
    answer = image_stack.invoke("query", {"collection": "docs", "query_texts": ["start a program"], "n_results": 1})
    assert answer["ids"] == [["shell"]]
    question = {"collection": "docs", "query_texts": ["x"], "where_document": {"$contains": "week"}, "n_results": 2}
    assert image_stack.invoke("query", question)["ids"] == [["date"]]


def test_the_error_for_an_embedding_function_that_the_image_lacks_names_the_function(image_stack: Stack) -> None:
    request = {"collection": "docs", "records": [{"id": "a", "document": "x"}], "embedding_function": "default"}
    with pytest.raises(FunctionError, match=r"EmbeddingFunctionError.*'default' cannot be loaded.*onnxruntime"):
        image_stack.invoke("producer", request)


def test_the_test_of_the_image_passes_with_its_packages(packages: Path, tmp_path: Path) -> None:
    script = uv.CHECKOUT / "scripts" / "smoke_test.py"
    ran = subprocess.run(
        [sys.executable, "-S", "-B", script],
        env={"PYTHONPATH": str(packages), "TMPDIR": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert "the image works" in ran.stdout


def test_the_test_of_the_image_fails_without_one_of_its_packages(packages: Path, tmp_path: Path) -> None:
    script = uv.CHECKOUT / "scripts" / "smoke_test.py"
    (tmp_path / "wordllama.py").write_text("raise ImportError('not installed')")
    path = f"{tmp_path}:{packages}"
    ran = subprocess.run(
        [sys.executable, "-S", "-B", script], env={"PYTHONPATH": path}, cwd=tmp_path, capture_output=True, check=False
    )
    assert ran.returncode != 0


@pytest.mark.parametrize("unused", ["onnxruntime", "kubernetes", "uvicorn", "uvloop", "hf_xet", "aiohttp"])
def test_a_package_that_is_never_imported_is_not_installed(packages: Path, unused: str) -> None:
    assert not (packages / unused).exists()


def test_the_image_has_a_third_less_than_the_declared_packages(
    packages: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    declared = tmp_path / "declared"
    requirements = tmp_path / "requirements.txt"
    requirements.write_text(uv.export("--extra", "chroma", "--extra", "embed"), encoding="utf-8")
    uv.run("uv", "pip", "install", "--quiet", "--no-deps", "--target", declared, "--python", sys.executable,
           "--requirement", requirements)  # fmt: skip

    before, after = megabytes(declared), megabytes(packages)

    with capsys.disabled():
        print(f"\nthe image's packages: {after:.0f} MiB; the declared packages: {before:.0f} MiB")  # noqa: T201 - for the reader of the log
    assert after < before * 0.7
