from __future__ import annotations

import subprocess
from pathlib import Path

from demo.corpus import docstrings, library, source_files


def test_a_module_gives_its_functions_with_signature_and_line() -> None:
    found = {docstring.id: docstring for docstring in docstrings(Path(subprocess.__file__))}

    output = found["subprocess.getoutput"]

    assert output.document.startswith("subprocess.getoutput(cmd, ")
    assert output.metadata["kind"] == "function"
    assert output.metadata["module"] == "subprocess"
    assert found["subprocess"].metadata["kind"] == "module"


def test_ids_are_unique_within_a_module() -> None:
    ids = [docstring.id for docstring in docstrings(library() / "argparse.py")]

    assert len(ids) == len(set(ids))


def test_the_library_is_read_without_its_tests() -> None:
    files = {path.relative_to(library()).as_posix() for path in source_files()}

    assert {"subprocess.py", "json/encoder.py"} <= files
    assert not any(file.startswith(("test/", "site-packages/")) for file in files)
