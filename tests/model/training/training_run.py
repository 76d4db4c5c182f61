"""One small run with dropout, in a process of its own: `python training_run.py SHARD CHECKPOINTS STOP_STEP`.

Prints every loss exactly, then a digest of the weights.
"""

import hashlib
import sys
from pathlib import Path

import torch

from model.config.model_config import ModelConfig
from model.config.training_config import OptimizerConfig, TrainingConfig
from model.data.batches import PretrainBatches
from model.data.row_stream import RowStream
from model.data.shard_reader import TokenRows
from model.nn.models import LanguageModel
from model.training.curve import CurvePoint
from model.training.record import Watch, ignore_event
from model.training.training import train


def main(shard: str, checkpoints: str, stop_step: str) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(11)
    reached: list[int] = []

    def report(figures: CurvePoint) -> None:
        reached.append(figures.step)
        validation = None if figures.validation_loss is None else figures.validation_loss.hex()
        print(figures.step, figures.loss.hex(), figures.gradient_norm.hex(), validation)

    class StopAfter:
        def stop(self) -> bool:
            return len(reached) + 1 == int(stop_step)

        def save(self) -> bool:
            return False

    rows = TokenRows.open([shard])
    model = LanguageModel(ModelConfig(layers=2, width=32, heads=4, context=rows.context, dropout=0.2), rows.vocab_size)
    batches = PretrainBatches(RowStream({"all": rows}, 8, seed=3))
    training = TrainingConfig(
        steps=8, batch_rows=8, micro_rows=4, evaluate_every=3, evaluate_batches=2, checkpoint_every=100, log_every=1, seed=3
    )
    result = train(
        model,
        batches,
        batches,
        training,
        OptimizerConfig(warmup_steps=2),
        Path(checkpoints),
        "data",
        Watch(report, ignore_event),
        StopAfter(),
    )
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode() + tensor.cpu().numpy().tobytes())
    print(result.step, result.finished, result.tokens, digest.hexdigest())


if __name__ == "__main__":
    main(*sys.argv[1:])
