"""The history page in a real browser: it has nothing to complain of, and fits a phone."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from chromadb_compaction.cli.executions.failure_report import tell_failure
from chromadb_compaction.cli.executions.html_page import page
from tests.histories import a_failed_execution

pytestmark = pytest.mark.browser

SWITCHES = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--allow-file-access-from-files",
    "--enable-logging=stderr",
)
PNG = b"\x89PNG\r\n"
MEASURE = """<!doctype html><iframe src="page.html" style="border:0;width:{width}px;height:4000px"
 onload="document.title = this.contentDocument.documentElement.scrollWidth"></iframe>"""


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """A directory that holds the page of a failure with a long name and a long message."""
    told = a_failed_execution(name="n" * 80, message="a long message, " * 40, batches=11)
    html = page(told.execution, told.timeline, tell_failure(told.execution, told.timeline, None))
    (tmp_path / "page.html").write_text(html, encoding="utf-8")
    return tmp_path


def chromium(directory: Path, page: str, *switches: str) -> subprocess.CompletedProcess[str]:
    """Open a page of `directory`. Fails, and does not skip, where there is no Chromium: whoever asks wants to know."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    assert program, "there is no Chromium on this machine; install one: apt-get install chromium"
    profile = directory / "profile"
    command = [program, *SWITCHES, f"--user-data-dir={profile}", *switches, (directory / page).as_uri()]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)


@pytest.mark.parametrize("width", [1280, 400])
def test_it_fits_the_width_without_scrolling_sideways(written: Path, width: int) -> None:
    (written / "measure.html").write_text(MEASURE.format(width=width), encoding="utf-8")

    measured = chromium(written, "measure.html", f"--window-size={max(width, 600)},900", "--dump-dom")

    assert f"<title>{width}</title>" in measured.stdout


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_is_drawn_without_a_complaint(written: Path, scheme: str) -> None:
    picture = written / "page.png"
    dark = "0" if scheme == "dark" else "1"

    drawn = chromium(
        written,
        "page.html",
        "--window-size=1280,900",
        f"--screenshot={picture}",
        f"--blink-settings=preferredColorScheme={dark}",
    )

    assert picture.read_bytes().startswith(PNG)
    assert "CONSOLE" not in drawn.stderr
