"""The report, as a reader sees it: opened in headless Chromium through its DevTools protocol."""

import base64
import json
import math
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.sync.client import ClientConnection, connect

from tasks.ledger import Ledger
from tasks.report import wording
from tasks.report.diagrams import places
from tasks.report.page import ReportConfig, render, visible, write_report
from tasks.report.palette import LIGHT_AND_DARK
from tasks.report.story import (
    CurvePoint,
    DroppedSample,
    ModelStory,
    RunStory,
    Sample,
    ScoreRow,
    StageStory,
    TokenizerStory,
)

HOSTILE = "<script>document.title = 'owned'; fetch('https://example.com')</script><img src=x onerror=alert(1)>"
SEED = 7


def make_stages() -> tuple[StageStory, ...]:
    clean_drops = {"too_short": 312, "repeated_lines": 88, "mostly_digits": 41, "not_a_language": 29, "generated": 12}
    clean_bytes = {"too_short": 41_000, "repeated_lines": 402_113, "mostly_digits": 118_000, "not_a_language": 96_250,
                   "generated": 51_400}  # fmt: skip
    ingest = Ledger(5_204, 5_197, 13_121_448, 13_104_210, 0, 0, {"undecodable": 7}, {"undecodable": 17_238})
    clean = Ledger(5_197, 4_715, 13_104_210, 12_380_036, 0, 15_411, clean_drops, clean_bytes)
    unique = Ledger(4_715, 4_391, 12_380_036, 11_377_794, 0, 0, {"exact_copy": 201, "near_copy": 123},
                    {"exact_copy": 640_112, "near_copy": 362_130})  # fmt: skip
    corpus = Ledger(4_391, 4_386, 11_377_794, 11_362_012, 0, 0, {"holds_test_text": 5}, {"holds_test_text": 15_782})
    examples = Ledger(1_204, 1_200, 402_000, 400_800, 0, 0, {"no_label": 4}, {"no_label": 1_200})
    return (
        StageStory("ingest", "ingest", "cached", 0.6, "3f0a91c2d4e5b6a7", (), ingest, {"files": 5204}, {"source": "python standard library"}),
        StageStory("clean", "clean", "cached", 2.4, "9b1c55e0a2f34d18", ("ingest",), clean),
        StageStory("deduplicate", "deduplicate", "cached", 3.1, "77d0e4b1c9a8f263", ("clean",), unique, {"clusters": 188}),
        StageStory("examples-areas", "examples: areas", "cached", 0.3, "aa10bb20cc30dd40", (), examples),
        StageStory("examples-purity", "examples: purity", "cached", 0.3, "ab11bc21cd31de41", (), examples),
        StageStory("decontaminate", "decontaminate", "ran", 1.2, "c0ffee1234567890",
                   ("deduplicate", "examples-areas", "examples-purity"), corpus),
        StageStory("tokenizer", "train tokenizer", "ran", 6.8, "d1e2f3a4b5c6d7e8", ("decontaminate",), Ledger(rows_out=4_096)),
        StageStory("shards", "write shards", "ran", 1.9, "0123456789abcdef", ("decontaminate", "tokenizer"), Ledger(rows_out=13_200)),
        StageStory("pretrain", "pretrain", "ran", 163.0, "fedcba9876543210", ("shards", "tokenizer"), Ledger(),
                   {"parameters": 3_145_728, "tokens_per_second": 41_210.4, "validation_loss": 2.6143}),
        StageStory("finetune-areas", "finetune: areas", "ran", 21.4, "1a2b3c4d5e6f7081", ("pretrain", "examples-areas")),
        StageStory("finetune-purity", "finetune: purity", "ran", 19.8, "2b3c4d5e6f708192", ("pretrain", "examples-purity")),
        StageStory("evaluate", "evaluate", "ran", 9.6, "3c4d5e6f708192a3", ("pretrain", "decontaminate")),
        StageStory("evaluate-areas", "evaluate: areas", "ran", 4.1, "4d5e6f708192a3b4", ("finetune-areas", "examples-areas")),
        StageStory("evaluate-purity", "evaluate: purity", "ran", 3.9, "5e6f708192a3b4c5", ("finetune-purity", "examples-purity")),
    )  # fmt: skip


def make_curve(steps: int, start: float, end: float, every: int, peak: float) -> tuple[CurvePoint, ...]:
    points: list[CurvePoint] = []
    for step in range(0, steps, 2):
        part = step / steps
        loss = end + (start - end) * math.exp(-7 * part) + 0.05 * math.sin(step * 12.9898)
        rate = peak * min(1.0, step / (0.05 * steps)) * (0.5 + 0.5 * math.cos(math.pi * part))
        validation = loss + 0.08 if step % every == 0 else None
        points.append(CurvePoint(step, loss, rate, validation, 41_000 + 900 * math.sin(step)))
    return tuple(points)


SCORES = (
    ScoreRow("pretrain", "quick", "held_out_modules", "bits_per_byte", 1.82, 1.79, 1.85, 128, SEED),
    ScoreRow("unigram", "quick", "held_out_modules", "bits_per_byte", 4.90, 4.86, 4.94, 128, SEED),
    ScoreRow("previous run", "quick", "held_out_modules", "bits_per_byte", 1.91, 1.88, 1.94, 128, SEED),
    ScoreRow("finetune: areas", "quick", "areas", "accuracy", 0.823, 0.774, 0.866, 240, SEED),
    ScoreRow("majority", "quick", "areas", "accuracy", 0.304, 0.246, 0.367, 240, SEED),
    ScoreRow("previous run", "quick", "areas", "accuracy", 0.811, 0.760, 0.856, 240, SEED),
    ScoreRow("finetune: areas", "quick", "areas", "macro_f1", 0.791, 0.738, 0.840, 240, SEED),
    ScoreRow("majority", "quick", "areas", "macro_f1", 0.067, None, None, 240, SEED),
    ScoreRow("finetune: purity", "quick", "purity", "accuracy", 0.917, 0.875, 0.948, 240, SEED),
    ScoreRow("majority", "quick", "purity", "accuracy", 0.588, 0.525, 0.650, 240, SEED),
)
SAMPLES = (
    Sample("pretrain", "def read_lines(path):", '\n    """Read the lines of a file and return them as a list."""\n'
           "    with open(path) as file:\n        return [line.strip() for line in file]\n\n\ndef read_lines_or_none(path):"),
    Sample("pretrain", "import ", "os\nimport sys\nimport re\n\n__all__ = ['Error', 'open', 'close', 'get', 'set']\n"),
    Sample("pretrain", "class Queue:\n", HOSTILE),
    Sample("pretrain", "\u4e2d\u6587\uff1a", "\u8fd9\u662f\u4e00\u4e2a\u6a21\u578b\u7684\u8f93\u51fa\u3002\x00\x1b[31m"),
)  # fmt: skip
DROPPED = (
    DroppedSample("clean", "too_short", "# empty on purpose\n"),
    DroppedSample("clean", "too_short", '"""Namespace."""\n'),
    DroppedSample("clean", "repeated_lines", "    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,\n" * 12),
    DroppedSample("deduplicate", "near_copy", "def _main():\n    import sys\n    sys.exit(main(sys.argv[1:]))\n" * 4),
    DroppedSample("decontaminate", "holds_test_text", HOSTILE),
)


@pytest.fixture(scope="module")
def story() -> RunStory:
    """A run as a first recipe makes it, with a hostile generation in it."""
    return RunStory(
        title="demo: a model of the standard library",
        recipe_name="demo",
        flow_run="curious-otter",
        started="2026-03-02T09:14:07+00:00",
        seconds=250.2,
        stages=make_stages(),
        model=ModelStory(3_145_728, 6_720_000, "4 layers, 192 channels, 6 heads"),
        tokenizer=TokenizerStory(
            4_096, 37, {"code": 3.41, "en": 3.87, "zh": 1.92},
            ("                                ", "NotImplementedError", "__init__(self, ", "\n        return ", "<script>"),
        ),
        curves={
            "pretrain": make_curve(3_000, 8.3, 2.6, 250, 1e-3),
            "finetune: areas": make_curve(400, 2.2, 0.4, 50, 3e-4),
            "finetune: purity": make_curve(400, 0.9, 0.2, 50, 3e-4),
        },
        scores=SCORES,
        samples=SAMPLES,
        dropped=DROPPED,
        environment={"machine": "x86_64, Linux 6.1", "processor": "AMD EPYC 9654", "cores": "2", "memory": "24.0 GB",
                     "device": "cpu"},
        versions={"python": "3.11.7", "torch": "2.13.0", "ray": "2.60.0", "tokenizers": "0.23.1", "pyarrow": "25.0.0"},
        processor_seconds=431.0,
        configuration="name: demo\nmodel:\n  layers: 4\n  # </pre><script>no</script>\n" + "long: " + "x" * 300 + "\n",
        links={"MLflow": "http://127.0.0.1:5000/#/experiments/1", "odd": "javascript:alert(1)"},
    )  # fmt: skip


class Browser:
    """One headless Chromium; every `open` is a fresh tab."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket, self._calls = socket, 0
        self.events: list[dict] = []

    def call(self, method: str, session: str = "", **params: object) -> dict:
        """The result of one DevTools command; events that arrive meanwhile are kept."""
        self._calls += 1
        message = {"id": self._calls, "method": method, "params": params}
        self._socket.send(json.dumps(message | ({"sessionId": session} if session else {})))
        while True:
            answer = json.loads(self._socket.recv(timeout=60))
            if answer.get("id") == self._calls:
                assert "error" not in answer, f"{method}: {answer}"
                return answer["result"]
            self.events.append(answer)

    def open(self, path: Path, width: int = 1280, scheme: str = "light") -> "Tab":
        """The page, drawn, in a window of this many CSS pixels."""
        self.events.clear()
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        tab = Tab(self, session, target)
        for domain in ("Page", "Runtime", "Log", "Network"):
            tab.call(f"{domain}.enable")
        tab.resize(width)
        tab.prefer(scheme)
        tab.call("Page.navigate", url=path.as_uri())
        tab.wait("document.documentElement.dataset.drawn && document.readyState === 'complete'")
        return tab


class Tab:
    """A page under test."""

    def __init__(self, browser: Browser, session: str, target: str) -> None:
        self._browser, self._session, self._target = browser, session, target

    def call(self, method: str, **params: object) -> dict:
        return self._browser.call(method, self._session, **params)

    def value(self, expression: str):
        """What a JavaScript expression gives in the page."""
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, f"{expression}: {result['exceptionDetails']}"
        return result["result"].get("value")

    def wait(self, condition: str) -> None:
        deadline = time.monotonic() + 30
        while not self.value(f"Boolean({condition})"):
            assert time.monotonic() < deadline, f"never true: {condition}; console: {self.complaints()}"
            time.sleep(0.05)

    def resize(self, width: int) -> None:
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 500)

    def prefer(self, scheme: str) -> None:
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def complaints(self) -> list[str]:
        """Console messages, uncaught exceptions and browser log entries, as text."""
        self.value("new Promise(done => setTimeout(done, 100))")
        kinds = ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")
        return [json.dumps(event["params"]) for event in self._browser.events if event.get("method") in kinds]

    def requests(self) -> list[str]:
        """Addresses of everything the page asked for."""
        sent = [event["params"] for event in self._browser.events if event.get("method") == "Network.requestWillBeSent"]
        return [params["request"]["url"] for params in sent if not params["request"]["url"].startswith("data:")]

    def screenshot(self, path: Path) -> None:
        image = self.call("Page.captureScreenshot", captureBeyondViewport=True, format="png")
        path.write_bytes(base64.b64decode(image["data"]))

    def close(self) -> None:
        self._browser.call("Target.closeTarget", targetId=self._target)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    names = ("chromium", "chromium-browser", "google-chrome")
    command = next((found for name in names if (found := shutil.which(name))), None)
    assert command, f"no browser: the report is tested in one of {names}. Fix: apt-get install chromium"
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        process = subprocess.Popen(
            [command, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
             "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
             "--remote-debugging-port=0", f"--user-data-dir={profile}", "about:blank"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
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


@pytest.fixture(scope="module")
def report(story: RunStory, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("report")
    write_report(ReportConfig(currency_per_hour=0.12), story, out)
    return out / "report.html"
