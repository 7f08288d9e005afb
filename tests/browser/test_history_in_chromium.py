"""The history page in Chromium: it causes no console messages and fits the screen of a phone."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from chromadb_compaction.cli.executions.failure_report import report_failure
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
def directory(tmp_path: Path) -> Path:
    """A directory that holds the page of a failure with a long name and a long message."""
    execution, timeline = a_failed_execution(name="n" * 80, message="a long message, " * 40, batches=11)
    html = page(execution, timeline, report_failure(execution, timeline, None))
    (tmp_path / "page.html").write_text(html, encoding="utf-8")
    return tmp_path


def chromium(directory: Path, page: str, *switches: str) -> subprocess.CompletedProcess[str]:
    """Open a page of `directory`. Fails without Chromium, because these tests run only when asked for."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    assert program, "Chromium is not installed; install it: apt-get install chromium"
    profile = directory / "profile"
    command = [program, *SWITCHES, f"--user-data-dir={profile}", *switches, (directory / page).as_uri()]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)


@pytest.mark.parametrize("width", [1280, 400])
def test_the_page_does_not_scroll_sideways(directory: Path, width: int) -> None:
    (directory / "measure.html").write_text(MEASURE.format(width=width), encoding="utf-8")

    measured = chromium(directory, "measure.html", f"--window-size={max(width, 600)},900", "--dump-dom")

    assert f"<title>{width}</title>" in measured.stdout


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_causes_no_console_messages(directory: Path, scheme: str) -> None:
    picture = directory / "page.png"
    dark = "0" if scheme == "dark" else "1"

    result = chromium(
        directory,
        "page.html",
        "--window-size=1280,900",
        f"--screenshot={picture}",
        f"--blink-settings=preferredColorScheme={dark}",
    )

    assert picture.read_bytes().startswith(PNG)
    assert "CONSOLE" not in result.stderr
