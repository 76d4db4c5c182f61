"""One training step in a process of its own: peak_memory.py CONFIG_JSON VOCABULARY ROWS PRECISION RECOMPUTED -> bytes it took."""

import sys
import tempfile
from pathlib import Path

import torch

from model.config.heads import IGNORED
from model.config.layout_config import RECOMPUTED, Recomputed
from model.config.model_config import ModelConfig, model_config_from_json
from model.config.training_config import FaultConfig, OptimizerConfig, TrainingConfig
from model.data.batches import Batch
from model.distributed.control import Control
from model.nn.models import LanguageModel, MaskedLanguageModel, Seq2SeqModel, set_compute_dtype, set_recomputed
from model.optim.optimizer import build_optimizer
from model.training.checkpoint import TrainingState
from model.training.saver import Saver
from model.training.step_guard import StepGuard


def resident(kind: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(kind)) * 1024


def make_batch(config: ModelConfig, vocab_size: int, rows: int) -> Batch:
    ids = torch.randint(vocab_size, (rows, config.context))
    targets = ids.clone()
    if not config.is_causal:
        targets[torch.rand(targets.shape) > 0.15] = IGNORED
    decoder_ids = ids.clone() if config.family == "seq2seq" else None
    return Batch(ids, targets, torch.full((rows,), config.context), decoder_ids=decoder_ids)


def train(config: ModelConfig, vocab_size: int, rows: int, dtype: torch.dtype, kind: Recomputed, steps: int) -> None:
    if config.family == "seq2seq":
        model = Seq2SeqModel(config, vocab_size)
    else:
        model = LanguageModel(config, vocab_size) if config.is_causal else MaskedLanguageModel(config, vocab_size)
    set_compute_dtype(model, dtype)
    set_recomputed(model, kind)
    optimizer = build_optimizer(model, OptimizerConfig())
    batch = make_batch(config, vocab_size, rows)
    state = TrainingState(0, 0, "", "", 1, 1, 1, "", "cpu", "", rows)
    folder = tempfile.TemporaryDirectory()
    saver = Saver(Path(folder.name), TrainingConfig(), Control(), is_writer=True)
    for _ in range(steps):
        loss = model.loss(batch)
        (loss.nats / loss.count).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        saver.save(model, optimizer, StepGuard(FaultConfig(), torch.device("cpu")), state, waits=True)
    folder.cleanup()


def main() -> None:
    text, vocab_size, rows, precision, chosen = sys.argv[1:]
    kind = RECOMPUTED[[str(kind) for kind in RECOMPUTED].index(chosen)]
    torch.set_num_threads(1)
    config, dtype = model_config_from_json(text), torch.bfloat16 if precision == "bfloat16" else torch.float32
    small = ModelConfig(config.family, layers=1, width=64, heads=2, context=64)
    train(small, 512, 2, dtype, kind, 1)  # libraries load and compile what they need
    before = resident("VmRSS")
    train(config, int(vocab_size), int(rows), dtype, kind, 2)
    print(resident("VmHWM") - before)


if __name__ == "__main__":
    main()
