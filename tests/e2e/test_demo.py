"""The demo: the README's first command runs to its end, with right answers before and after the compaction."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]


def test_the_demo_passes_all_its_checks(tmp_path: Path) -> None:
    demo = subprocess.run(
        [sys.executable, "-m", "demo", "--directory", str(tmp_path / "stack")],
        capture_output=True,
        text=True,
        check=False,
        cwd=CHECKOUT,
    )

    assert demo.returncode == 0, demo.stdout + demo.stderr
    assert "They can be found at once" in demo.stdout
    assert "All checks passed" in demo.stdout
