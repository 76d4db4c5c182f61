"""A run to tell: as a first recipe makes it, with hostile text in it."""

import hashlib
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from model.training.curve import CurvePoint
from model.training.events import Event
from model.training.left_out import LeftOut
from tasks.corpus.mixture import MixtureRow
from tasks.evaluate.inspection import Inside, LayerView, MapView, TokenView
from tasks.histogram import Histogram
from tasks.ledger import Ledger, Receipt
from tasks.lineage.step_trace import StepDocument
from tasks.lineage.training_cost import Restart
from tasks.lineage.trainings import Reached
from tasks.pretrain.audit import Audit, Share
from tasks.pretrain.audit_measures import Repeats, SharedDocuments, Spread
from tasks.prices import Prices
from tasks.report.facts import (
    DroppedSample,
    InsideStory,
    ModelStory,
    RunStory,
    Sample,
    SkipStory,
    SpikeStory,
    StageStory,
    TrainingStory,
)
from tasks.report.page import ReportConfig, write_report
from tasks.scores import ScoreRow
from tasks.shards.packing_table import PackingRow
from tasks.tokenizer.tokenizer_quality import FitRow, TokenizerQuality
from tests.curve_points import point

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
    fingerprint = hashlib.sha256(label.encode()).hexdigest()[:16]
    return StageStory(name, label, status, seconds, fingerprint, inputs, ledger, dict(figures), dict(notes))


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
        points.append(point(step, loss, rate, validation, 41_000 + 900 * math.sin(step)))
    return tuple(points)


def score(subject: str, model: str, task: str, metric: str, value: float, margin: float | None, n: int) -> ScoreRow:
    low, high = (math.nan, math.nan) if margin is None else (value - margin, value + margin)
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


def make_inside(layers: int) -> Inside:
    """Six tokens of which two were given, the hostile one likely and unlikely; two heads a layer, none of a recurrent model."""
    texts = ("<|bos|>", "def", " read", HOSTILE, "\u202e\n", "⟨E4 BB⟩")
    tokens = tuple(
        TokenView(
            text, None if at == 0 else (0.1, 0.7, 2.0, 4.0, 9.0)[at - 1],
            () if at == 0 else ((" the", 0.5), (HOSTILE, 0.25), ("", 0.0001)), (0.0, -0.4, 0.2, 1.1, 0.01, None)[at],
        )
        for at, text in enumerate(texts)
    )  # fmt: skip
    mean = tuple(tuple(1000 // (row + 1) if column <= row else 0 for column in range(6)) for row in range(6))
    maps = (MapView(None, mean), MapView(0, mean), MapView(1, mean))
    return Inside(2, 5, tokens, layers, 2 if layers else 0, tuple(LayerView(at, maps) for at in range(layers)))


INSIDES = (InsideStory("base", make_inside(3)), InsideStory("answers", make_inside(0)))
DROPPED = (
    DroppedSample("clean", "too_short", "# empty on purpose\n"),
    DroppedSample("clean", "too_short", '"""Namespace."""\n'),
    DroppedSample("clean", "repeated_lines", "    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,\n" * 12),
    DroppedSample("deduplicate", "near_copy", "def _main():\n    import sys\n    sys.exit(main(sys.argv[1:]))\n" * 4),
    DroppedSample("decontaminate", "holds_test_text", HOSTILE),
)


def make_fit() -> tuple[FitRow, ...]:
    """Three tokenizers on four slices, a hostile name among them; one slice has no words, one no Han."""
    slices = (("code", "stdlib", 640_112, 3.41), ("en", "docs", 481_007, 3.87), ("en", HOSTILE, 95_400, 3.52),
              ("zh", "docs", 73_250, 1.92))  # fmt: skip
    return tuple(
        FitRow(
            name, language, domain, 12, size, round(size / (factor * rate)), factor * rate,
            None if language == "zh" else 1.4 / factor, 1.31 / factor if language == "zh" else None, unknown, 0,
        )
        for language, domain, size, rate in slices
        for name, factor, unknown in (("this", 1.0, 0), ("gpt2", 0.71 if language == "zh" else 1.04, 0), (HOSTILE, 0.82, 9))
    )  # fmt: skip


def make_quality(fit: tuple[FitRow, ...] = (), **bytes_per_token: float) -> TokenizerQuality:
    """A tokenizer's figures."""
    longest = (" " * 32, "NotImplementedError", "__init__(self, ", "\n        return ", "<script>")
    return TokenizerQuality(
        4_096, "byte-level BPE", "tokenizers", "tiktoken, same ids", 48, 1_000_000, bytes_per_token, 37, 0, longest, fit
    )


PACKING = (
    PackingRow("train", "all", 4_266, 5_031, 13_200, 3_391_101, 512, 611, 0,
               Histogram((64, 128, 256, 512, 1_024, 2_048, 4_096), (211, 987, 1_402, 1_133, 422, 111)), 3_392_400),
    PackingRow("validation", "all", 120, 141, 370, 94_900, 31, 19, 0, Histogram((128, 256, 512), (50, 70)), 95_090),
)  # fmt: skip
AUDIT = Audit(
    3_000, 256, 64,
    (
        Share("group", "books", 0.625, 0.625, 120_000, 2_560_000, Spread(0.01, 0.73, 1.27)),
        Share("group", "web", 0.375, 0.375, 72_000, 1_536_000, Spread(0.01, 0.73, 1.27)),
        Share("source", "books", 0.625, 0.6251, 10_240, 2_560_411, Spread(0.02, 0.73, 1.27)),
        Share("source", HOSTILE, 0.375, 0.3749, 6_144, 1_535_589, Spread(3.4, 0.73, 1.27)),
        Share("language", "en", 0.81, 0.807, 14_233, 3_305_472, Spread(0.94, 0.73, 1.27)),
        Share("language", "zh", 0.19, 0.193, 4_012, 790_528, None),
    ),
    Repeats(192_000, 192_000, 0, 0, {"books": 14.5, "web": 14.6}),
    SharedDocuments(516_096, 411, 407.3),
    Histogram((64, 128, 256), (211, 987)),
    Histogram((1, 2, 4, 8), (9_101, 5_233, 2_050)),
)  # fmt: skip


def step_document(row: int, start: int, end: int, source: str, text: str, url: str | None = None) -> StepDocument:
    id_ = hashlib.sha256(text.encode()).hexdigest()[:20]
    return StepDocument(row, start, end, "all", 90 + row, id_, source, f"{source}/part-{row}.txt", url, "en", 7, 0,
                        end - start, end - start, text)  # fmt: skip


SPIKE = SpikeStory(
    "pretrain", 1_777, 7.82, 2.71, "wordmill trace 0123456789abcdef --step 1777",
    (
        step_document(0, 0, 120, "books", "It was the best of times, it was the worst of times. " * 9),
        step_document(0, 120, 257, HOSTILE, HOSTILE + "\u202e" + "x" * 300, "https://example.com/" + "a" * 200),
        step_document(1, 0, 257, "books", "0x00, " * 128, "javascript:alert(1)"),
    ),
)  # fmt: skip
UNTOLD_SPIKE = SpikeStory(
    "pretrain", 2_401, 4.9, 2.66, "wordmill trace 0123456789abcdef --step 2401", untold=f"the corpus is gone {HOSTILE}"
)


SKIPPED_DOCUMENTS = (
    step_document(0, 0, 257, "books", "\ufffd\x01\x02" * 70),
    step_document(1, 0, 90, HOSTILE, HOSTILE + "\u202e"),
)
SKIP = SkipStory(
    1_204,
    1_203,
    False,
    "loss 11.4, beyond 3.21: 9.8 deviations above the mean of the 128 steps before",
    "wordmill trace 0123456789abcdef --step 1204",
    tuple(f"wordmill forget {one.id} --reason 'step 1204 of pretrain 0123456789abcdef was skipped'" for one in SKIPPED_DOCUMENTS),
    SKIPPED_DOCUMENTS,
)
LEFT_OUT_SKIP = SkipStory(
    2_105, 2_104, True, f"loss nan, not finite {HOSTILE}", "wordmill trace 0123456789abcdef --data-step 2104",
    untold=f"the corpus is gone {HOSTILE}",
)  # fmt: skip
EVENTS = (
    Event("started", 0, "anew: 0 of 3000 steps are done; peak of each process: 91 GFLOP/s, the best product of two matrices in bfloat16",
          seconds=1.9, processes=2),
    *(Event("saved", step, f"step-{step:08d}", seconds=0.03 + step / 90_000, bytes=37_812_004, total_seconds=0.9)
      for step in range(200, 1_700, 200)),
    Event("skipped", 1_204, SKIP.told, loss=11.4, gradient_norm=40.2, data_step=1_203),
    Event("save failed", 1_800, "[Errno 28] No space left on device; the training goes on", seconds=0.2),
    Event("started", 1_600, "goes on from step-00001600: 1600 of 3000 steps are done", seconds=2.4, processes=1),
    Event("passed over", 1_800, "step-00001800: model.safetensors was altered: its SHA-256 is not the manifest's"),
    *(Event("skipped", step, LEFT_OUT_SKIP.told, loss=math.nan, data_step=step - 1) for step in range(2_105, 2_115)),
    Event("returned", 2_115, "to step 2000: the batches of data steps 2000 to 2113 are left out from now on", seconds=0.8),
    Event("ended early", 2_900, "validation_loss has not got better for 4 evaluations: 2.71 at step 2500"),
)  # fmt: skip
TRAINING = TrainingStory(
    "pretrain", "0123456789abcdef", EVENTS, (Restart(1_600, 1, 2.4, EVENTS[11].told, 240, 13.1),), (LeftOut(2_000, 2_000, 114),), 171.2, 1,
    (SKIP, LEFT_OUT_SKIP), (2_900, 2_800, 2_500), 113_400_000, Reached(2_500, 2.71), 182e9,
    ("../../pretrain/0123456789abcdef/profile/steps-10-13.json.gz",),
)  # fmt: skip


QUIET_TRAINING = TrainingStory(
    "finetune: areas", "fedcba9876543210", (Event("started", 0, "anew", seconds=0.4, processes=1),), (), (), 21.0, 0, (), (400,), 4_200_000,
    Reached(400, 0.44),
)  # fmt: skip


def with_norms(points: Sequence[CurvePoint]) -> tuple[CurvePoint, ...]:
    """Every tenth point with norms of five layers, and all with what a process measures of itself."""
    parts = ("embedding", *(f"layers.{number}" for number in range(5)), "norm", "head")
    told: list[CurvePoint] = []
    for at, one in enumerate(points):
        norms = {f"gradient_norm.{part}": (1 + number) * math.exp(-one.step / 900) for number, part in enumerate(parts)}
        norms |= {f"activation_norm.layers.{number}": 1 + number * (1 + one.step / 3_000) for number in range(5)}
        told.append(replace(
            one, norms=norms if at % 10 == 0 else None, mfu=0.41 + 0.01 * math.sin(at), data_wait=0.004, memory_bytes=1_240_000_000,
            tokens=2_240 * one.step, seconds=one.step * 0.05,
        ))  # fmt: skip
    return tuple(told)


def make_story() -> RunStory:
    """A run as a first recipe makes it, with a hostile generation in it."""
    return RunStory(
        title="demo: a model of the standard library",
        recipe_name="demo",
        flow_run="curious-otter",
        started="2026-03-02T09:14:07+00:00",
        seconds=250.2,
        stages=make_stages(),
        model=ModelStory(3_145_728, 6_720_000, "4 layers, 192 channels, 6 heads"),
        tokenizer=make_quality(make_fit(), code=3.41, en=3.87, zh=1.92),
        packing=PACKING,
        audit=AUDIT,
        spikes=(SPIKE, UNTOLD_SPIKE),
        trainings=(TRAINING, QUIET_TRAINING),
        curves={
            "pretrain": with_norms(make_curve(3_000, 8.3, 2.6, 250, 1e-3)),
            "finetune: areas": make_curve(400, 2.2, 0.4, 50, 3e-4),
            "finetune: purity": make_curve(400, 0.9, 0.2, 50, 3e-4),
        },
        scores=SCORES,
        samples=SAMPLES,
        insides=INSIDES,
        dropped=DROPPED,
        environment={"machine": "x86_64, Linux 6.1", "processor": "AMD EPYC 9654", "cores": "2", "memory": "24.0 GB",
                     "device": "cpu"},
        versions={"python": "3.11.7", "torch": "2.13.0", "ray": "2.60.0", "tokenizers": "0.23.1", "pyarrow": "25.0.0"},
        processor_seconds=431.0,
        configuration="name: demo\nmodel:\n  layers: 4\n  # </pre><script>no</script>\n" + "long: " + "x" * 300 + "\n",
        links={"MLflow": "http://127.0.0.1:5000/#/experiments/1", "odd": "javascript:alert(1)"},
    )  # fmt: skip


def make_corpus_story() -> RunStory:
    """A recipe that makes a corpus and no model; every stage of it, six languages, a source with a hostile name."""
    ingest = Ledger(1_993, 1_990, 27_777_088, 27_776_960, dropped={"not_text_type": 3}, dropped_bytes={"not_text_type": 128})
    annotate = Ledger(1_990, 1_989, 27_776_960, 19_568_286, repaired_bytes=8_200_000, dropped={"html_too_deep": 1},
                      dropped_bytes={"html_too_deep": 8_674})  # fmt: skip
    select = Ledger(1_989, 1_900, 19_568_286, 19_000_000, dropped={"gopher_words_min": 80, "min_chars": 9},
                    dropped_bytes={"gopher_words_min": 560_000, "min_chars": 8_286})  # fmt: skip
    unique = Ledger(1_900, 1_860, 19_000_000, 18_500_000, dropped={"near_copy": 40}, dropped_bytes={"near_copy": 500_000})
    corpus = Ledger(1_860, 1_859, 18_500_000, 18_490_000, dropped={"contaminated": 1},
                    dropped_bytes={"contaminated": 10_000})  # fmt: skip
    made = (
        stage("ingest", "ran", 11.2, (), ingest),
        stage("annotate", "ran", 23.7, ("ingest",), annotate),
        stage("select", "ran", 1.8, ("annotate",), select),
        stage("deduplicate", "ran", 4.8, ("annotate", "select"), unique),
        stage("decontaminate", "ran", 5.3, ("annotate", "deduplicate"), corpus),
    )
    receipts = (
        Receipt("Verdicts", "a", 1_000, 11),
        Receipt("Verdicts", "b", 989, 11),
        Receipt("Clusters", "c", 80, 10),
    )
    mixture = [
        MixtureRow("train", source, language, 100 + at, 1_500_000 - 100_000 * at)
        for source in ("books", HOSTILE)
        for at, language in enumerate(("en", "zh", "de", "fr", "id", "ja"))
    ]
    mixture.append(MixtureRow("validation", "books", "en", 40, 379_637))
    return RunStory(
        "mixed: corpus", "mixed", "", "2026-03-02T09:14:07+00:00", 46.8,
        tuple(replace(one, receipts=receipts) if one.name == "deduplicate" else one for one in made), tuple(mixture),
        dropped=(DroppedSample("select", "gopher_words_min", HOSTILE),),
    )  # fmt: skip


def page_of(story: RunStory, folder: Path) -> Path:
    """The report of a story, written into a new folder."""
    folder.mkdir()
    write_report(ReportConfig(), replace(story, cost=Prices(machine_hour=0.12).spent(story.seconds, 0.0)), folder)
    return folder / "report.html"
