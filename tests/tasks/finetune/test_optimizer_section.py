"""`optimizer` of a fine-tuning: the section of pretraining, with defaults of its own, in place of the keys of before."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from model.config.training_config import OptimizerConfig
from model.training.curve import read_curve
from tasks.artifacts import Examples, PretrainedModel, Tokenizer
from tasks.finetune.base_model import BaseConfig, take_base
from tasks.finetune.config import FinetuneConfig
from tasks.finetune.finetune import finetune
from tasks.finetune.job import FinetuneJob
from tests.tasks.foreign import write_bert
from tests.tasks.launch_here import here

pytestmark = pytest.mark.usefixtures("one_thread")


def config(**settings: object) -> FinetuneConfig:
    return FinetuneConfig.model_validate({"name": "areas", "examples": "areas", **settings})


def test_what_is_not_said_is_what_a_fine_tuning_takes() -> None:
    assert config().optimizer == OptimizerConfig(3e-4, 3e-4 * 0.1, warmup_steps=10, weight_decay=0.01)
    said = config(optimizer={"learning_rate": "2e-3", "decay": "linear", "clip_norm": 0.5}).optimizer
    assert said == OptimizerConfig(2e-3, 2e-4, 10, "linear", 0.01, clip_norm=0.5)
    assert config(optimizer={"learning_rate": 1e-3, "final_learning_rate": 0}).optimizer.final_learning_rate == 0


def test_whole_section_is_taken_as_it_stands() -> None:
    whole = OptimizerConfig(1e-3, 1e-5, 0, "constant", 0.1, beta2=0.999)
    assert config(optimizer=whole).optimizer == whole
    job = FinetuneJob(config(optimizer=whole), Path("b"), Path("t"), (), (), "", Path("o"))
    assert FinetuneJob.from_json(json.loads(json.dumps(job.to_json()))).config.optimizer == whole


@pytest.mark.parametrize(
    ("old", "told"),
    [
        ({"learning_rate": 1e-3}, "learning_rate: moved to optimizer.*optimizer: {learning_rate: 0.001}"),
        ({"learning_rate": 1e-3, "final_ratio": 0.5}, "optimizer: {learning_rate: 0.001, final_learning_rate: 0.0005}"),
        ({"final_ratio": 0.0}, "optimizer: {final_learning_rate: 0.0}"),
        ({"warmup_steps": 5, "weight_decay": 0.2}, "optimizer: {warmup_steps: 5, weight_decay: 0.2}"),
    ],
)
def test_key_of_before_is_refused_with_what_to_write(old: dict[str, float], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        config(**old)


def test_bad_rate_is_told_by_its_own_key() -> None:
    with pytest.raises(ValidationError, match=r"optimizer\.learning_rate"):
        config(optimizer={"learning_rate": "fast"})
    with pytest.raises(ValidationError, match=r"optimizer\.learning_rat\n"):
        config(optimizer={"learning_rat": 1})


def test_schedule_that_the_section_asks_for_is_followed(tmp_path: Path) -> None:
    base, out, examples = tmp_path / "base", tmp_path / "out", tmp_path / "examples"
    for folder in (base, out, examples):
        folder.mkdir()
    take_base(BaseConfig(folder=str(write_bert(tmp_path / "theirs"))), base)
    write_examples(examples)
    asked = config(steps=4, log_every=1, optimizer={"learning_rate": 1e-3, "decay": "constant", "warmup_steps": 2})
    finetune(asked, PretrainedModel(str(base), "0"), Tokenizer(str(base), "0"), (Examples(str(examples), "1"),), out, here)
    assert [point.learning_rate for point in read_curve(out)] == pytest.approx([5e-4, 1e-3, 1e-3, 1e-3])


def write_examples(folder: Path) -> None:
    rows = [{"id": str(n), "group": str(n), "text": f"a plum {n}", "label": "ab"[n % 2]} for n in range(20)]
    for split in ("train", "heldout"):
        pq.write_table(pa.Table.from_pylist(rows), folder / f"{split}.parquet")
    (folder / "labels.json").write_text('["a", "b"]')
