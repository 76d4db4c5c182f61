from pathlib import Path

import pyarrow as pa
import pytest
import torch

from model.config.heads import HeadSpec
from model.config.model_config import ModelConfig
from model.config.training_config import OptimizerConfig, TrainingConfig
from model.data.batches import ExampleBatches
from model.data.task_batches import TaskBatches
from model.nn.models import MultiTask
from model.training.record import Watch, ignore_event
from model.training.training import train

KIND = pa.list_(pa.int32())


def topics(rows: int = 4) -> ExampleBatches:
    ids = [[5 + row, 6, 7] for row in range(8)]
    table = pa.table({"ids": pa.array(ids, KIND), "label": pa.array([row % 4 for row in range(8)], pa.int32())})
    return ExampleBatches(table, "class", rows, 1, context=16, pad_id=0)


def names(rows: int = 4) -> ExampleBatches:
    ids = [[5 + row, 6, 7, 8] for row in range(8)]
    table = pa.table({"ids": pa.array(ids, KIND), "targets": pa.array([[0, 1, 2, 0]] * 8, KIND)})
    return ExampleBatches(table, "token_class", rows, 1, context=16, pad_id=0)


def test_tasks_take_turns_by_weight_and_go_on_where_they_were():
    batches = TaskBatches({"topics": topics(), "names": names()}, {"topics": 3, "names": 1})
    turns = [batches.turn(step) for step in range(8)]
    assert [task for task, _ in turns].count("topics") == 6
    for task in ("topics", "names"):
        assert [ordinal for name, ordinal in turns if name == task] == list(range(6 if task == "topics" else 2))
    step = next(step for step, (task, ordinal) in enumerate(turns) if (task, ordinal) == ("topics", 3))
    assert torch.equal(batches.batch(step, 1, 3).ids, topics().batch(3, 1, 3).ids)


def test_batches_of_unlike_size_are_refused():
    with pytest.raises(ValueError, match="as many rows"):
        TaskBatches({"topics": topics(4), "names": names(2)}, {"topics": 1, "names": 1})


def test_one_trunk_learns_several_tasks_in_the_loop(tmp_path: Path):
    config = ModelConfig(layers=1, width=32, heads=4, context=16)
    torch.manual_seed(1)
    model = MultiTask(config, 20, {"topics": HeadSpec("sequence", 4), "names": HeadSpec("tokens", 3)})
    tasks = TaskBatches({"topics": topics(), "names": names()}, {"topics": 1, "names": 1})
    training = TrainingConfig(steps=120, batch_rows=4, log_every=20, evaluate_every=120, precision="float32")
    optimizer = OptimizerConfig(learning_rate=1e-2, warmup_steps=5, final_learning_rate=1e-3)
    result = train(model, tasks, tasks, training, optimizer, tmp_path, "data", Watch(lambda _: None, ignore_event))
    assert result.validation_loss is not None
    assert result.validation_loss < 0.1
