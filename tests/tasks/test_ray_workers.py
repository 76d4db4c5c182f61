"""Trainings on Ray workers of one small cluster: lost workers, collectives that hang, nodes that are taken away, requests to stop."""

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

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
from model.training.curve import CurvePoint, read_curve
from model.training.events import read_events
from tasks.artifacts import Tokenizer, TokenShards
from tasks.cluster import ClusterConfig, Launcher, LostWorkers, Training, WorkerCount, Workers, child_environment
from tasks.pretrain.config import PretrainConfig, Pretraining
from tasks.pretrain.pretrain import pretrain_model
from tasks.ray_workers import is_lost_peer, worker_fault
from tasks.settings import Json
from tasks.tokenizer.encoding import SPECIAL_TOKENS
from tasks.training_entry import Asking, Entry

if TYPE_CHECKING:
    from ray.cluster_utils import Cluster

VOCAB, CONTEXT, CHECKPOINTS = 61, 16, 4
STEPS = 12
GLOO = "[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:5435"
RAY_CLI = Path(sys.executable).with_name("ray")


def test_error_of_a_collective_that_cannot_end_counts_as_a_lost_worker() -> None:
    from torch.distributed import DistBackendError

    caused = ValueError("no loss")
    caused.__cause__ = RuntimeError(GLOO)
    assert is_lost_peer(RuntimeError(GLOO))
    assert is_lost_peer(DistBackendError("NCCL communicator was aborted"))
    assert is_lost_peer(caused)
    assert isinstance(worker_fault({0: RuntimeError(GLOO), 1: type("ActorDiedError", (Exception,), {})("gone")}), LostWorkers)


def test_error_of_ours_is_no_lost_worker() -> None:
    assert not is_lost_peer(RuntimeError("shapes do not match"))
    assert not is_lost_peer(ZeroDivisionError())
    assert isinstance(worker_fault({0: RuntimeError(GLOO), 1: ZeroDivisionError("a bug")}), RuntimeError)


# ---------------------------------------------------------------------------------------------------------------------
# Entries that run on the workers: a step is one collective, and a checkpoint the number of steps.


def take_steps(job: dict[str, Json], asking: Asking) -> None:
    """Until the file `enough` is there. Where the job says so, rank 1 hangs once before its fifth step."""
    import torch
    import torch.distributed as dist

    out = Path(str(job["out"]))
    rank, world, kept = dist.get_rank(), dist.get_world_size(), out / "kept"
    step = int(kept.read_text()) if kept.exists() else 0
    dist.barrier()
    with asking() as asked:
        while True:
            if rank == 1 and step == 4 and job["hangs"] and not (out / "hung").exists():
                (out / "hung").touch()
                time.sleep(600)
            wishes = torch.tensor([int(asked.stop()), int(asked.save()), int((out / "enough").exists())])
            dist.all_reduce(wishes)
            stops, saves, is_enough = (bool(wish) for wish in wishes)
            step += 1
            if rank == 0:
                with (out / "steps").open("a") as file:
                    file.write(f"{step} {world}\n")
                if stops or saves:
                    kept.write_text(f"{step}")
            if stops:
                raise InterruptedError(f"stopped at step {step}")
            if is_enough:
                return
            time.sleep(0.05)


def fail_on_one(job: dict[str, Json], asking: Asking) -> None:
    import torch.distributed as dist

    with (Path(str(job["out"])) / "tries").open("a") as file:
        file.write(f"{dist.get_rank()}\n")
    with asking():
        if dist.get_rank() == 1:
            raise ZeroDivisionError("a bug")
        dist.barrier()


def taken(out: Path) -> list[tuple[int, int]]:
    """(step, workers) of each step, in order."""
    path = out / "steps"
    lines = path.read_text().splitlines() if path.exists() else []
    return [(int(step), int(world)) for step, world in (line.split() for line in lines)]


@pytest.fixture(scope="module")
def cluster() -> "Iterator[Cluster]":
    """A head with a worker's place, and a node with another, which tests may take away."""
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        for name, value in child_environment("").items():
            patch.setenv(name, value)
        made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False, "object_store_memory": 80 * 2**20})
        yield made
        made.shutdown()


@pytest.fixture
def two_nodes(cluster: "Cluster") -> "Cluster":
    if not cluster.worker_nodes:
        cluster.add_node(num_cpus=1, object_store_memory=80 * 2**20)
    return cluster


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "stage" / "0123.partial"
    folder.mkdir(parents=True)
    return folder


def meanwhile(act: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=act, daemon=True)
    thread.start()
    return thread


def until(holds: Callable[[], object], seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def launch(launcher: Launcher, entry: Entry, out: Path, workers: Workers, **job: Json) -> None:
    launcher.launch(Training(entry, {"out": str(out), **job}, out, workers), lambda _: None)


@pytest.mark.timeout(240)
def test_collective_that_hangs_is_begun_again_and_a_stop_saves_the_step_that_was_on_its_way(
    tmp_path: Path, out: Path, two_nodes: "Cluster"
) -> None:
    launcher = Launcher(ClusterConfig(address=two_nodes.address, collective_seconds=5), tmp_path / "logs")

    def save_and_stop() -> None:
        until(lambda: taken(out).count((1, 2)) == 2 and taken(out)[-1][0] >= 8)  # the second group
        launcher.save()
        until(lambda: (out / "kept").exists())
        launcher.stop()

    meanwhile(save_and_stop)
    with pytest.raises(InterruptedError, match="the run was stopped"):
        launch(launcher, take_steps, out, Workers(2, 0, 1), hangs=True)
    steps = [step for step, _ in taken(out)]
    assert steps[:4] == [1, 2, 3, 4]
    assert steps[4:] == [*range(1, steps[-1] + 1)]
    assert int((out / "kept").read_text()) == steps[-1]
    assert not [*(tmp_path / "logs" / "ray").glob("0123*")]  # requests of this run are not the next one's


@pytest.mark.timeout(240)
def test_error_of_one_worker_ends_the_training_while_the_other_waits_for_it_and_is_not_tried_again(tmp_path: Path, out: Path) -> None:
    launcher = Launcher(ClusterConfig(), tmp_path / "logs")
    with pytest.raises(RuntimeError, match="ZeroDivisionError: a bug"):
        launch(launcher, fail_on_one, out, Workers(2, 0, 1))
    assert sorted((out / "tries").read_text().split()) == ["0", "1"]


@pytest.mark.timeout(240)
def test_node_that_is_about_to_be_taken_away_costs_no_step(tmp_path: Path, out: Path, two_nodes: "Cluster") -> None:
    (node,) = two_nodes.worker_nodes
    launcher = Launcher(ClusterConfig(address=two_nodes.address), tmp_path / "logs")
    notice = ["--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "spot", "--deadline-remaining-seconds", "100"]

    def take_away() -> None:
        until(lambda: len(taken(out)) > 4)
        place = [f"--address={two_nodes.address}", f"--node-id={node.node_id}"]
        subprocess.run([str(RAY_CLI), "drain-node", *place, *notice], check=True)
        until(lambda: taken(out)[-1][1] == 1)
        two_nodes.remove_node(node, allow_graceful=False)
        (out / "enough").touch()

    thread = meanwhile(take_away)
    launch(launcher, take_steps, out, Workers(2, 0, 1, least=1), hangs=False)
    thread.join()
    assert [step for step, _ in taken(out)] == [*range(1, len(taken(out)) + 1)]
    assert {world for _, world in taken(out)} == {2, 1}


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


def train(
    tmp_path: Path,
    name: str,
    inputs: tuple[TokenShards, Tokenizer],
    cluster: ClusterConfig,
    workers: WorkerCount,
    follow: Callable[[CurvePoint], None] = lambda _: None,
    dropout: float = 0.1,
) -> list[CurvePoint]:
    """The curve of one small training; rows go one by one, so that there is time to strike."""
    config = Pretraining(
        ModelConfig(layers=2, width=32, heads=2, context=CONTEXT, dropout=dropout),
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
            workers=workers,
            threads=1,
        ),
    )
    out = tmp_path / name / "0123.partial"
    out.mkdir(parents=True)
    launcher = Launcher(cluster, tmp_path / "logs" / name)

    pretrain_model(config, *inputs, out, lambda training: launcher.launch(training, follow))
    return read_curve(out)


def losses(curve: list[CurvePoint]) -> list[tuple[float | None, ...]]:
    return [(one.step, one.loss, one.gradient_norm, one.validation_loss) for one in curve]


def ray_workers() -> list[psutil.Process]:
    return [child for child in psutil.Process().children(recursive=True) if "RayTrainWorker" in " ".join(child.cmdline())]


def strike(struck: list[int], kill: Callable[[], object], figures: CurvePoint) -> None:
    """Once, after the first checkpoint."""
    if not struck and figures.step > CHECKPOINTS:
        struck.append(figures.step)
        kill()


def kill_one_worker() -> None:
    max(ray_workers(), key=lambda worker: worker.pid).send_signal(signal.SIGKILL)


@pytest.mark.timeout(280)
def test_training_that_lost_a_ray_worker_ends_with_the_losses_of_one_that_did_not(
    tmp_path: Path, shards: TokenShards, tokenizer: Tokenizer, two_nodes: "Cluster"
) -> None:
    place, struck = ClusterConfig(address=two_nodes.address), list[int]()
    whole = train(tmp_path, "whole", (shards, tokenizer), place, 2)
    found = train(tmp_path, "struck", (shards, tokenizer), place, 2, partial(strike, struck, kill_one_worker))
    assert struck
    assert struck[0] < STEPS
    assert len(whole) == STEPS
    assert losses(found) == losses(whole)


@pytest.mark.timeout(280)
def test_training_goes_on_with_fewer_workers_on_the_same_batches_when_a_node_is_lost(
    tmp_path: Path, shards: TokenShards, tokenizer: Tokenizer, two_nodes: "Cluster"
) -> None:
    (node,) = two_nodes.worker_nodes
    struck, worlds = list[int](), list[int]()

    def lose_node() -> None:
        worlds.append(len(ray_workers()))
        two_nodes.remove_node(node, allow_graceful=False)

    alone = train(tmp_path, "alone", (shards, tokenizer), ClusterConfig(), 0, dropout=0.0)
    place = ClusterConfig(address=two_nodes.address)
    fewer = train(tmp_path, "fewer", (shards, tokenizer), place, (1, 2), partial(strike, struck, lose_node), dropout=0.0)
    started = [event.processes for event in read_events(tmp_path / "fewer" / "0123.partial") if event.kind == "started"]
    assert worlds == [2]
    assert started == [2, 1]
    assert [one.batch_digests for one in fewer] == [one.batch_digests for one in alone]
    assert all(one.batch_digests for one in alone)
    assert [one.loss for one in fewer] == pytest.approx([one.loss for one in alone], rel=1e-4)
