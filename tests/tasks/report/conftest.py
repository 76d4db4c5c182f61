"""One browser for all pages, and the page of a whole run."""

import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from websockets.sync.client import connect

from tasks.report.facts import RunStory
from tests.tasks.report.browser import Browser, Tab
from tests.tasks.report.stories import make_story, page_of


@pytest.fixture(scope="session")
def story() -> RunStory:
    """A run with everything in it."""
    return make_story()


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    names = ("chromium", "chromium-browser", "google-chrome")
    command = next((found for name in names if (found := shutil.which(name))), None)
    assert command, f"no browser: the report is tested in one of {names}. Fix: apt-get install chromium"
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        process = subprocess.Popen(
            [
                command,
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-quic",
                "--no-first-run",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
                "--disable-dev-shm-usage",
                "--remote-debugging-port=0",
                f"--user-data-dir={profile}",
                "about:blank",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            with connect(_debugger_address(Path(profile)), max_size=None) as socket:
                yield Browser(socket)
        finally:
            process.terminate()
            process.wait(timeout=20)


def _debugger_address(profile: Path) -> str:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        file = profile / "DevToolsActivePort"
        lines = file.read_text().split() if file.exists() else []
        if len(lines) == 2:
            return f"ws://127.0.0.1:{lines[0]}{lines[1]}"
        time.sleep(0.05)
    raise AssertionError("the browser did not open its debugging port within 60 s")


@pytest.fixture(scope="session")
def page(browser: Browser, story: RunStory, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    """The full report in a wide, light window; a test that changes the window changes it back."""
    tab = browser.open(page_of(story, tmp_path_factory.mktemp("report") / "out"))
    yield tab
    tab.close()
