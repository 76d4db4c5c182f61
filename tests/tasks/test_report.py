"""The report, as a reader sees it: opened in headless Chromium through its DevTools protocol."""

import base64
import hashlib
import json
import math
import random
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from types import MappingProxyType
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.sync.client import connect
from websockets.sync.connection import Connection

from tasks.ledger import Ledger
from tasks.report import wording
from tasks.report.markup import visible
from tasks.report.page import ReportConfig, write_report
from tasks.report.palette import LIGHT_AND_DARK
from tasks.report.stage_graph import places
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
NO_ROWS = Ledger()


def stage(
    label: str,
    status: Literal["ran", "cached"],
    seconds: float,
    inputs: tuple[str, ...],
    ledger: Ledger = NO_ROWS,
    figures: Mapping[str, float] = MappingProxyType({}),
    notes: Mapping[str, str] = MappingProxyType({}),
) -> StageStory:
    name = label.replace(": ", "-").replace(" ", "-")
    mark = hashlib.sha256(label.encode()).hexdigest()[:16]
    return StageStory(name, label, status, seconds, mark, inputs, ledger, dict(figures), dict(notes))


def make_stages() -> tuple[StageStory, ...]:
    clean_drops = {"too_short": 312, "repeated_lines": 88, "mostly_digits": 41, "not_a_language": 29, "generated": 12}
    clean_bytes = {"too_short": 41_000, "repeated_lines": 402_113, "mostly_digits": 118_000, "not_a_language": 96_250,
                   "generated": 51_400}  # fmt: skip
    ingest = Ledger(5_204, 5_197, 13_121_448, 13_104_210, 0, 0, {"undecodable": 7}, {"undecodable": 17_238})
    clean = Ledger(5_197, 4_715, 13_104_210, 12_380_036, 0, 15_411, clean_drops, clean_bytes)
    unique = Ledger(4_715, 4_391, 12_380_036, 11_377_794, 0, 0, {"exact_copy": 201, "near_copy": 123},
                    {"exact_copy": 640_112, "near_copy": 362_130})  # fmt: skip
    corpus = Ledger(4_391, 4_386, 11_377_794, 11_362_012, 0, 0, {"holds_test_text": 5}, {"holds_test_text": 15_782})
    examples = Ledger(rows_in=1_204, rows_out=1_200, dropped={"no_label": 4})
    shards = Ledger(rows_out=13_200, bytes_in=11_362_012, bytes_out=11_361_301, tokens_out=3_379_200,
                    dropped_bytes={"incomplete_train_row": 711})  # fmt: skip
    examples_read = ("examples-areas", "examples-purity")
    return (
        stage("ingest", "cached", 0.6, (), ingest, {"files": 5204}, {"source": "python standard library"}),
        stage("clean", "cached", 2.4, ("ingest",), clean),
        stage("deduplicate", "cached", 3.1, ("clean",), unique, {"clusters": 188}),
        stage("examples: areas", "cached", 0.3, (), examples),
        stage("examples: purity", "cached", 0.3, (), examples),
        stage("decontaminate", "ran", 1.2, ("deduplicate", *examples_read), corpus),
        stage("train tokenizer", "ran", 6.8, ("decontaminate",), Ledger(rows_out=4_096)),
        stage("write shards", "ran", 1.9, ("decontaminate", "train-tokenizer"), shards),
        stage(
            "pretrain",
            "ran",
            163.0,
            ("write-shards", "train-tokenizer"),
            figures={"parameters": 3_145_728, "loss": 2.61},
        ),
        stage("finetune: areas", "ran", 21.4, ("pretrain", "examples-areas")),
        stage("finetune: purity", "ran", 19.8, ("pretrain", "examples-purity")),
        stage("evaluate: base", "ran", 9.6, ("pretrain", "decontaminate")),
        stage("evaluate: areas", "ran", 4.1, ("finetune-areas", "examples-areas")),
        stage("evaluate: purity", "ran", 3.9, ("finetune-purity", "examples-purity")),
    )


def make_curve(steps: int, start: float, end: float, every: int, peak: float) -> tuple[CurvePoint, ...]:
    noise, points = random.Random(SEED), list[CurvePoint]()
    for step in range(0, steps, 2):
        part = step / steps
        loss = end + (start - end) * math.exp(-7 * part) + noise.gauss(0, 0.02 * start)
        rate = peak * min(1.0, step / (0.05 * steps)) * (0.5 + 0.5 * math.cos(math.pi * part))
        validation = loss + 0.04 if step % every == 0 else None
        points.append(CurvePoint(step, loss, rate, validation, 41_000 + 900 * math.sin(step)))
    return tuple(points)


def score(subject: str, model: str, task: str, metric: str, value: float, margin: float | None, n: int) -> ScoreRow:
    low, high = (None, None) if margin is None else (value - margin, value + margin)
    return ScoreRow(model, "demo", task, metric, value, low, high, n, SEED, subject)


SCORES = (
    score("base", "base", "bits_per_byte", "bits_per_byte", 1.82, 0.03, 128),
    score("base", "unigram", "bits_per_byte", "bits_per_byte", 4.90, 0.04, 128),
    score("areas", "areas", "classification", "accuracy", 0.823, 0.046, 240),
    score("areas", "areas", "classification", "macro_f1", 0.791, 0.051, 240),
    score("areas", "majority", "classification", "accuracy", 0.304, 0.060, 240),
    score("areas", "majority", "classification", "macro_f1", 0.067, None, 240),
    score("purity", "purity", "classification", "accuracy", 0.917, 0.036, 240),
    score("purity", "majority", "classification", "accuracy", 0.588, 0.062, 240),
    score("base", "previous run", "bits_per_byte", "bits_per_byte", 1.91, 0.03, 128),
    score("areas", "previous run", "classification", "accuracy", 0.811, 0.048, 240),
)
SAMPLES = (
    Sample("pretrain", "def read_lines(path):", '\n    """Read the lines of a file and return them as a list."""\n'
           "    with open(path) as file:\n        return [line.strip() for line in file]\n\n\ndef read_words(path):"),
    Sample("pretrain", "import ", "os\nimport sys\nimport re\n\n__all__ = ['Error', 'open', 'close', 'get', 'set']\n"),
    Sample("pretrain", "class Queue:\n", HOSTILE),
    Sample("base", "\u4e2d\u6587\uff1a", "\u8fd9\u662f\u4e00\u4e2a\u6a21\u578b\u7684\u8f93\u51fa\u3002\x00\x1b[31m"),
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
            (" " * 32, "NotImplementedError", "__init__(self, ", "\n        return ", "<script>"),
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

    def __init__(self, socket: Connection) -> None:
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
        tab.wait("document.documentElement?.dataset.drawn && document.readyState === 'complete'")
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
        is_phone = width < 500
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=is_phone)

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
             "--disable-background-networking", "--disable-component-update", "--disable-sync",
             "--disable-dev-shm-usage", "--remote-debugging-port=0", f"--user-data-dir={profile}", "about:blank"],
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


def page_of(story: RunStory, folder: Path) -> Path:
    """The report of a story, written into a new folder."""
    folder.mkdir()
    write_report(ReportConfig(currency_per_hour=0.12), story, folder)
    return folder / "report.html"


@pytest.fixture(scope="module")
def page(browser: Browser, story: RunStory, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    """The full report in a wide, light window; a test that changes the window changes it back."""
    tab = browser.open(page_of(story, tmp_path_factory.mktemp("report") / "out"))
    yield tab
    tab.close()


DRAWN = """[...document.querySelectorAll('.chart')].map(chart => ({
  id: chart.id,
  marks: chart.querySelectorAll('.point path, .points path, path.js-line, .sankey-link, .sankey-node').length,
  width: chart.querySelector('svg.main-svg')?.clientWidth ?? 0,
  room: chart.clientWidth,
}))"""

FAINT = """(() => {
  const channels = text => text.match(/[\\d.]+/g).map(Number);
  const linear = part => (part /= 255) <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
  const light = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
  const ground = element => {
    for (let at = element; at; at = at.parentElement) {
      const found = channels(getComputedStyle(at).backgroundColor);
      if (found.length === 3 || found[3] === 1) return found;
    }
    return [255, 255, 255];
  };
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const faint = [];
  while (texts.nextNode()) {
    const element = texts.currentNode.parentElement;
    if (!texts.currentNode.data.trim() || !element.checkVisibility()) continue;
    const style = getComputedStyle(element);
    const [one, two] = [light(channels(element.closest('svg') ? style.fill : style.color)), light(ground(element))];
    const contrast = (Math.max(one, two) + 0.05) / (Math.min(one, two) + 0.05);
    if (contrast < 4.5) faint.push(`${texts.currentNode.data.trim()}: ${contrast.toFixed(2)}`);
  }
  return faint;
})()"""


def test_page_loads_without_a_complaint_or_a_request(page: Tab) -> None:
    assert page.complaints() == []
    assert [url for url in page.requests() if not url.startswith("file:")] == []
    assert len(page.requests()) == 1  # the page itself


def test_every_chart_has_drawn_marks_and_fits_its_card(page: Tab) -> None:
    charts = page.value(DRAWN)
    assert {chart["id"] for chart in charts} >= {
        "stages",
        "times",
        "flow",
        "fit",
        "curve-0",
        "curve-2",
        "score-0",
        "score-3",
    }
    assert [chart["id"] for chart in charts if not chart["marks"]] == []
    assert [chart["id"] for chart in charts if chart["width"] > chart["room"]] == []


def test_text_is_readable_on_light_and_on_dark(page: Tab) -> None:
    assert page.value(FAINT) == []
    page.prefer("dark")
    page.wait("document.documentElement.dataset.drawn === 'dark'")
    assert page.value("getComputedStyle(document.body).backgroundColor") == "rgb(16, 18, 22)"
    assert page.value(FAINT) == []
    page.prefer("light")
    page.wait("document.documentElement.dataset.drawn === 'light'")


def test_button_turns_the_theme_and_the_charts_with_it(page: Tab) -> None:
    fill = "getComputedStyle(document.querySelector('#times .point path')).fill"
    before = page.value(fill)
    page.value("document.getElementById('theme').click()")
    assert page.value("document.documentElement.dataset.drawn") == "dark"
    assert page.value(fill) != before
    page.value("document.getElementById('theme').click()")
    assert page.value(fill) == before


def test_phone_shows_everything_without_scrolling_sideways(page: Tab) -> None:
    page.resize(390)
    page.wait("document.querySelector('#times svg.main-svg').clientWidth < 390")
    assert page.value("document.documentElement.scrollWidth") <= 390
    charts = page.value(DRAWN)
    assert [chart["id"] for chart in charts if not chart["marks"] or chart["width"] > chart["room"]] == []
    spill = "[...document.querySelectorAll('body *')].filter(e => !e.closest('.scroll, svg, details')"
    assert page.value(spill + " && e.getBoundingClientRect().right > 391).map(e => e.outerHTML.slice(0, 80))") == []
    page.resize(1280)
    page.wait("document.querySelector('#times svg.main-svg').clientWidth > 900")


def test_print_is_light_and_fits_the_paper_even_from_a_dark_screen(page: Tab) -> None:
    page.value("document.documentElement.dataset.theme = 'dark'; dispatchEvent(new Event('beforeprint'))")
    assert page.value("document.documentElement.dataset.drawn") == "light"
    assert page.value("getComputedStyle(document.querySelector('.card')).backgroundColor") == "rgb(255, 255, 255)"
    assert max(chart["width"] for chart in page.value(DRAWN)) <= 720
    page.value("dispatchEvent(new Event('afterprint')); document.documentElement.removeAttribute('data-theme')")


def test_markup_in_text_is_shown_not_run(page: Tab) -> None:
    assert page.value("document.title") == "demo: a model of the standard library"
    shown = (
        "[...document.querySelectorAll('pre')].filter(pre => pre.textContent.includes('<script>document.title')).length"
    )
    assert page.value(shown) == 2  # in a sample and in an excerpt
    assert page.value("document.querySelectorAll('script').length") == 4
    assert page.value("document.querySelectorAll('pre script, pre img, code script').length") == 0
    assert page.value("[...document.links].filter(link => link.protocol === 'javascript:').length") == 0


def test_injected_script_would_be_refused_by_the_page_itself(page: Tab) -> None:
    page.value("document.body.appendChild(Object.assign(document.createElement('script'), {text: 'window.owned = 1'}))")
    assert page.value("typeof window.owned") == "undefined"


def test_verdict_and_tiles_name_the_figures_that_matter(page: Tab) -> None:
    text = page.value("document.querySelector('header').innerText").replace(wording.GAP, " ")
    assert "13.1 MB of text became a model of 3.15 M parameters in 4 min 10 s, 5 of 14 stages reused" in text
    assert "1.82 bits per byte on held-out text; the unigram model needs 4.90" in text
    assert "beats always giving the commonest answer on 2 of 2 tasks" in text
    assert "Of 2 scores that the previous run has too, 1 is clearly better and none is clearly worse" in text
    assert "86.6 % of 13.1 MB" in text
    assert page.value("[...document.querySelectorAll('.tile dt')].map(label => label.innerText)") == [
        "text kept", "documents", "parameters", "training tokens", "base: bits per byte", "areas: accuracy",
        "purity: accuracy", "wall time", "cost",
    ]  # fmt: skip


def test_tables_have_headers_and_sections_headings(page: Tab) -> None:
    assert page.value(
        "[...document.querySelectorAll('table')].every(table => table.querySelector('thead th[scope=col]'))"
    )
    assert page.value("[...document.querySelectorAll('section')].every(one => one.querySelector('h2'))")
    assert page.value("[...document.querySelectorAll('.chart')].every(chart => chart.getAttribute('aria-label'))")


def test_run_with_everything_reused_and_nothing_trained_leaves_sections_out(
    browser: Browser, story: RunStory, tmp_path: Path
) -> None:
    stages = tuple(replace(stage, status="cached") for stage in story.stages[:4])
    small = RunStory(story.title, "demo", "", story.started, 0.8, stages)
    tab = browser.open(page_of(small, tmp_path / "out"))
    assert tab.complaints() == []
    assert tab.value("[...document.querySelectorAll('h2')].map(h => h.id)") == ["run", "corpus", "dropped", "origin"]
    assert {chart["id"] for chart in tab.value(DRAWN) if chart["marks"]} == {"stages", "times", "flow"}
    verdict = tab.value("document.querySelector('.verdict').innerText").replace(wording.GAP, " ")
    assert verdict == "13.1 MB of text was prepared. All of it was built before and reused; this run took 0.8 s."
    tab.close()


def test_run_without_any_stage_still_gives_a_page(tmp_path: Path) -> None:
    text = page_of(RunStory("empty", "empty", "", "2026-03-02T09:14:07", 0.1, ()), tmp_path / "out").read_text()
    assert "0 stages were completed" in text


def test_equal_stories_give_equal_pages(story: RunStory, tmp_path: Path) -> None:
    again = replace(story, stages=make_stages())
    assert page_of(story, tmp_path / "one").read_bytes() == page_of(again, tmp_path / "two").read_bytes()


def test_plotly_is_inside_once_and_the_story_is_json(story: RunStory, tmp_path: Path) -> None:
    page = page_of(story, tmp_path / "out").read_text()
    assert page.count("* plotly.js v") == 1
    assert len(page) < 6_000_000
    assert "<script src" not in page
    assert json.loads(json.dumps(asdict(story)))["recipe_name"] == "demo"


def test_numbers_that_are_missing_are_dashes(story: RunStory, tmp_path: Path) -> None:
    rows = (replace(SCORES[0], value=math.nan, ci_low=math.nan, ci_high=math.inf), *SCORES[1:])
    curves = {"pretrain": (CurvePoint(0, math.nan, 0.0), CurvePoint(1, None, 0.1, math.inf))}
    page = page_of(replace(story, scores=rows, curves=curves), tmp_path / "out").read_text()
    data = re.search(r'id="chart-data">(.*?)</script>', page, re.DOTALL)
    assert data is not None
    json.loads(data[1], parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert '<td class="number">–</td>' in page


def test_scores_of_two_evaluations_with_one_task_are_kept_apart() -> None:
    panels = wording.score_panels(SCORES)
    assert [wording.score_title(panel[0]) for panel in panels] == [
        "base: bits per byte", "areas: accuracy", "areas: macro f1", "purity: accuracy",
    ]  # fmt: skip
    assert [row.model for row in panels[0]] == ["base", "unigram", "previous run"]


@pytest.mark.parametrize(("low", "high", "expected"), [(0.7, 0.9, 1), (0.5, 0.7, 0), (0.3, 0.5, -1)])
def test_a_model_is_better_only_when_its_interval_leaves_the_baseline_out(
    low: float, high: float, expected: int
) -> None:
    row = replace(SCORES[2], value=(low + high) / 2, ci_low=low, ci_high=high)
    assert wording.advantage(row, replace(row, value=0.6)) == expected
    loss = replace(row, metric="bits_per_byte_en")
    assert wording.advantage(loss, replace(loss, value=0.6)) == -expected


def test_text_is_followed_from_stage_to_stage_but_not_into_those_that_only_consult_it() -> None:
    chain = [stage.name for stage in wording.corpus_chain(make_stages())]
    assert chain == ["ingest", "clean", "deduplicate", "decontaminate", "write-shards"]


def test_stage_stands_right_of_all_it_waits_for_and_the_text_runs_straight() -> None:
    stages = make_stages()
    placed = places(stages)
    for stage in stages:
        assert all(placed[name].depth < placed[stage.name].depth for name in stage.inputs)
    assert {placed[name].lane for name in ("ingest", "clean", "deduplicate", "decontaminate", "pretrain")} == {0}
    assert placed["examples-areas"].depth == placed["decontaminate"].depth - 1
    assert len(set(placed.values())) == len(stages)


@given(st.text(st.characters(codec=None)))
def test_any_text_becomes_storable_and_keeps_its_printable_part(text: str) -> None:
    shown = visible(text)
    assert shown.encode("utf-8").decode("utf-8") == shown
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", shown)
    printable = text.isprintable()
    assert shown == text or not printable


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (wording.bytes_text(1_200_000), "1.20 MB"),
        (wording.bytes_text(999_999), "1.00 MB"),
        (wording.bytes_text(842), "842 B"),
        (wording.bytes_text(-15_411), "−15.4 kB"),
        (wording.seconds_text(0.085), "85 ms"),
        (wording.seconds_text(3.4), "3.4 s"),
        (wording.seconds_text(59.96), "1 min 00 s"),
        (wording.seconds_text(250.2), "4 min 10 s"),
        (wording.seconds_text(7_500), "2 h 05 min"),
        (wording.short_count(3_145_728), "3.15 M"),
        (wording.share_text(1, 100_000), "< 0.1 %"),
        (wording.share_text(99_999, 100_000), "> 99.9 %"),
        (wording.score_text(-0.5), "−0.500"),
        (wording.figure_text(0.00003), "3.00e−05"),
        (wording.time_text("2026-03-02T09:14:07+02:00"), "2026-03-02 09:14 UTC+02:00"),
    ],
)
def test_number_is_written_the_one_way(written: str, expected: str) -> None:
    assert written.replace(wording.GAP, " ") == expected


@pytest.mark.parametrize("at", [0, 1], ids=["light", "dark"])
def test_flow_labels_are_readable_on_the_stream(at: int) -> None:
    ink, tint = LIGHT_AND_DARK["ink"][at], LIGHT_AND_DARK["tint"][at]
    light, dark = sorted((luminance(ink), luminance(tint)), reverse=True)
    assert (light + 0.05) / (dark + 0.05) >= 4.5


def luminance(color: str) -> float:
    """Relative luminance of #rrggbb, WCAG 2."""
    parts = [int(color[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
