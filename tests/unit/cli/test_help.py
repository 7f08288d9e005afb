from __future__ import annotations

import subprocess
import sys
from typing import get_args

from chromadb_compaction.cli.common.options import Distance
from chromadb_compaction.configuration import Space

HEAVY = ("boto3", "botocore", "chromadb", "numpy", "pyarrow")

SHOW_ALL_HELP = f"""
import sys
from chromadb_compaction.cli.app import build, run
import typer

program = typer.main.get_command(build())
typed = [[name] for name in program.commands]
typed += [[name, each] for name, group in program.commands.items() for each in getattr(group, "commands", ())]
for arguments in ([], *typed):
    try:
        run([*arguments, "--help"])
    except SystemExit as end:
        assert end.code == 0, arguments
    loaded = [name for name in {HEAVY} if name in sys.modules]
    assert not loaded, f"{{arguments}} imports {{loaded}}"
"""


def test_help_of_every_command_imports_nothing_heavy() -> None:
    shown = subprocess.run([sys.executable, "-c", SHOW_ALL_HELP], capture_output=True, text=True, check=False)

    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.count("Usage:") > 20


def test_put_offers_the_distances_of_the_configuration() -> None:
    assert get_args(Distance) == get_args(Space)
