"""The directory of a local stack: nobody else's files are touched, and the secret is private."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from chromadb_compaction.local import server
from chromadb_compaction.local.errors import LocalStackError
from chromadb_compaction.local.home import ServerRecord, StackHome

FOLDERS = ("cache", "state", "tmp", "s3", "stacks", "workers", "logs")


def contents(directory: Path) -> dict[str, str]:
    return {str(path.relative_to(directory)): path.read_text() for path in directory.rglob("*") if path.is_file()}


@pytest.mark.parametrize("ignored", ["node_modules\n", None], ids=["a .gitignore", "none"])
def test_a_directory_with_other_files_is_refused_and_left_alone(tmp_path: Path, ignored: str | None) -> None:
    for name in FOLDERS:
        (tmp_path / name).mkdir()
        (tmp_path / name / "precious.txt").write_text("mine")
    (tmp_path / "lock").write_text("mine")
    if ignored:
        (tmp_path / ".gitignore").write_text(ignored)
    before = contents(tmp_path)
    home = StackHome(tmp_path)

    with pytest.raises(LocalStackError, match="not the directory of a local stack; name a new"):
        server.start(home)
    assert server.stop(home) is False
    assert contents(tmp_path) == before


@pytest.mark.parametrize("exists", [True, False])
def test_a_new_or_empty_directory_becomes_a_stacks_own(tmp_path: Path, exists: bool) -> None:  # noqa: FBT001 - a parameter of the test
    home = StackHome(tmp_path / "stack")
    if exists:
        home.path.mkdir()

    home.create()
    home.create()

    assert home.is_own()
    assert not home.has_objects()
    assert home.ignore_file.read_text() == "*\n"


def test_stopping_keeps_the_objects_if_they_are_kept(tmp_path: Path) -> None:
    home = StackHome(tmp_path)
    home.create()
    (home.objects / "bucket").mkdir()

    server.stop(home, keep_objects=True)
    assert home.has_objects()
    server.stop(home)
    assert not home.has_objects()


def test_only_the_user_may_read_the_secret(tmp_path: Path) -> None:
    home = StackHome(tmp_path)
    home.create()
    record = ServerRecord(pid=1, port=2, secret="hidden")

    home.write_record(record)
    home.write_record(record)

    assert stat.S_IMODE(home.record_file.stat().st_mode) == 0o600
    assert "hidden" not in repr(record)
