"""Trainings in processes of their own and on Ray: what they hand back, and what becomes of a lost worker."""

import json
import os
import signal
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tokenizers
from tokenizers.models import BPE

from model.config.model_config import ModelConfig
from model.config.training_config import OptimizerConfig
from model.data.shard_format import SEGMENT_FIELDS
from model.data.shard_writer import write_token_shard
from model.training.curve import CurvePoint, append_point, read_curve
from tasks.artifacts import Tokenizer, TokenShards
from tasks.cluster import ClusterConfig, Launcher, LostWorkers, Training, Workers
from tasks.errors import UserError, machine_fault
from tasks.pretrain.pretrain import PretrainConfig, Pretraining, pretrain_model
from tasks.settings import Json
from tasks.tokenizer.encoding import SPECIAL_TOKENS
from tasks.training_entry import Asking, Entry
from tests.curve_points import point

VOCAB, CONTEXT, CHECKPOINTS = 61, 16, 4
STEPS = 12


def refuse(job: dict[str, Json], asking: Asking) -> None:
    raise UserError(f"the input {job['name']} is at fault")


def fail(job: dict[str, Json], asking: Asking) -> None:
    raise ZeroDivisionError("a bug")


def vanish(job: dict[str, Json], asking: Asking) -> None:
    os._exit(7)


def be_killed(job: dict[str, Json], asking: Asking) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def leave_half_a_verdict(job: dict[str, Json], asking: Asking) -> None:
    out = Path(str(job["out"]))
    (out.parents[1] / "logs" / "stage-0123.job.error").touch()
    os._exit(2)


def write_points(job: dict[str, Json], asking: Asking) -> None:
    for step in (1, 2, 3):
        append_point(Path(str(job["out"])), point(step, step / 2))


def sleep_long(job: dict[str, Json], asking: Asking) -> None:
    (Path(str(job["out"])) / "started").touch()
    time.sleep(600)


@pytest.fixture
def launcher(tmp_path: Path) -> Launcher:
    return Launcher(ClusterConfig(), tmp_path / "logs")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "stage" / "0123.partial"
    folder.mkdir(parents=True)
    return folder


def launch(
    launcher: Launcher, entry: Entry, out: Path, follow: Callable[[CurvePoint], None] = lambda _: None
) -> None:
    launcher.launch(Training(entry, {"out": str(out), "name": "x"}, out, Workers(0, 0, 0)), follow)


def test_points_of_a_training_are_handed_on_in_order(launcher: Launcher, out: Path) -> None:
    found: list[CurvePoint] = []
    launch(launcher, write_points, out, found.append)
    assert found == [point(step, step / 2) for step in (1, 2, 3)]


def test_points_that_an_earlier_run_wrote_are_not_handed_on_again(launcher: Launcher, out: Path) -> None:
    launch(launcher, write_points, out)
    found: list[CurvePoint] = []
    launch(launcher, write_points, out, found.append)
    assert [one.step for one in found] == [1, 2, 3]


def test_fault_of_the_input_comes_back_as_it_was(launcher: Launcher, out: Path) -> None:
    with pytest.raises(UserError, match="^the input x is at fault$"):
        launch(launcher, refuse, out)


def test_bug_comes_back_with_the_end_of_the_log(launcher: Launcher, out: Path) -> None:
    with pytest.raises(RuntimeError, match=r"(?s)ZeroDivisionError: a bug; log: .*\.log\n.*Traceback"):
        launch(launcher, fail, out)


def test_process_that_vanished_is_worth_another_try(launcher: Launcher, out: Path) -> None:
    with pytest.raises(LostWorkers, match="ended with code 7"):
        launch(launcher, vanish, out)


def test_process_that_the_system_killed_is_told_with_what_to_lower(launcher: Launcher, out: Path) -> None:
    with pytest.raises(LostWorkers, match=r"was killed, most often because memory ran out\. Fix: lower its micro_rows, or concurrency"):
        launch(launcher, be_killed, out)


def test_verdict_that_a_full_disk_took_half_of_is_told_as_the_full_disk(
    launcher: Launcher, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(LostWorkers, match="ended with code 2"):
        launch(launcher, leave_half_a_verdict, out)
    monkeypatch.setattr("tasks.cluster.shutil.disk_usage", lambda path: SimpleNamespace(free=4096))
    with pytest.raises(OSError, match="No space left") as fault:
        launch(launcher, leave_half_a_verdict, out)
    assert "no space left on the disk" in str(machine_fault(fault.value))


def test_stop_ends_a_training_and_refuses_later_ones(launcher: Launcher, out: Path) -> None:
    stopper = threading.Thread(target=stop_once_started, args=(launcher, out / "started"))
    stopper.start()
    with pytest.raises(InterruptedError):
        launch(launcher, sleep_long, out)
    stopper.join()
    with pytest.raises(InterruptedError, match="being stopped"):
        launch(launcher, write_points, out)
    assert not [child for child in psutil.Process().children() if "tasks.training_process" in child.cmdline()]


def stop_once_started(launcher: Launcher, sign: Path) -> None:
    while not sign.exists():
        time.sleep(0.02)
    launcher.stop()


@pytest.fixture
def shards(tmp_path: Path) -> TokenShards:
    """One document a row, with what an artifact says of itself."""
    folder = tmp_path / "shards"
    entries = []
    for name, rows in (("train", 60), ("validation", 8)):
        tokens = np.random.default_rng(rows).integers(3, VOCAB, (rows, CONTEXT + 1)).astype(np.uint16)
        columns = [[[CONTEXT + 1]] * rows, [[row] for row in range(rows)], [[0]] * rows]
        path = folder / name / "all" / "shard-00000.parquet"
        path.parent.mkdir(parents=True)
        metadata = {"vocab_size": VOCAB, "tokenizer": "b" * 16, "packing": "documents", "bos": 0, "eos": 1, "pad": 2}
        write_token_shard(path, tokens, pa.table(columns, schema=pa.schema(SEGMENT_FIELDS)), metadata)
        entries.append({"path": path.relative_to(folder).as_posix(), "bytes": path.stat().st_size})
    documents = {"id": [f"{n:020x}" for n in range(60)], "source": ["s"] * 60, "language": ["en"] * 60}
    numbers = {"bytes": [60] * 60, "tokens": [CONTEXT + 1] * 60}
    pq.write_table(pa.table({**documents, **numbers}), folder / "documents-train.parquet")
    (folder / "manifest.json").write_text(json.dumps({"files": entries}))
    return TokenShards(str(folder), "a" * 16, figures={"context": float(CONTEXT)})


@pytest.fixture
def tokenizer(tmp_path: Path) -> Tokenizer:
    (tmp_path / "tokenizer").mkdir()
    vocabulary = {token: number for number, token in enumerate([*SPECIAL_TOKENS, *"abcdefgh"])}
    tokenizers.Tokenizer(BPE(vocabulary, [])).save(str(tmp_path / "tokenizer" / "tokenizer.json"))
    (tmp_path / "tokenizer" / "tokenizer_config.json").write_text("{}")
    return Tokenizer(str(tmp_path / "tokenizer"), "b" * 16)


def train_on_two_workers(
    tmp_path: Path, name: str, shards: TokenShards, tokenizer: Tokenizer, follow: Callable[[CurvePoint], None]
) -> list[tuple[float | None, ...]]:
    """Losses by step of one small training; rows go one by one, so that there is time to strike."""
    config = Pretraining(
        ModelConfig(layers=2, width=32, heads=2, context=CONTEXT, dropout=0.1),
        PretrainConfig(
            steps=STEPS,
            batch_tokens=64 * CONTEXT,
            micro_rows=1,
            log_every=1,
            evaluate_every=8,
            evaluate_batches=1,
            checkpoint_every=CHECKPOINTS,
            optimizer=OptimizerConfig(warmup_steps=2),
            precision="float32",
            workers=2,
            threads=1,
        ),
    )
    out = tmp_path / name / "0123.partial"
    out.mkdir(parents=True)
    launcher = Launcher(ClusterConfig(), tmp_path / "logs" / name)

    pretrain_model(config, shards, tokenizer, out, lambda training: launcher.launch(training, follow))
    return [(one.step, one.loss, one.gradient_norm, one.validation_loss) for one in read_curve(out)]


def ray_workers() -> list[psutil.Process]:
    return [child for child in psutil.Process().children(recursive=True) if "RayTrainWorker" in " ".join(child.cmdline())]


def kill_one_worker(killed: list[int], figures: CurvePoint) -> None:
    """Once, after the first checkpoint."""
    if not killed and figures.step > CHECKPOINTS:
        victim = max(ray_workers(), key=lambda worker: worker.pid)
        victim.send_signal(signal.SIGKILL)
        killed.append(figures.step)


@pytest.mark.timeout(280)
def test_training_that_lost_a_ray_worker_ends_with_the_losses_of_one_that_did_not(
    tmp_path: Path, shards: TokenShards, tokenizer: Tokenizer
) -> None:
    whole = train_on_two_workers(tmp_path, "whole", shards, tokenizer, lambda _: None)
    killed: list[int] = []
    struck = train_on_two_workers(tmp_path, "struck", shards, tokenizer, partial(kill_one_worker, killed))
    assert killed
    assert killed[0] < STEPS
    assert len(whole) == STEPS
    assert struck == whole
