"""Head extraction: one head of a multi-task model, which with the trunk is a model like any other."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from tasks.artifacts import FinetunedModel
from tasks.finetune.tuned_model import Origin, save_tuned
from tasks.inference.task_file import read_head_tasks
from tasks.ledger import Ledger, StageOutcome
from tasks.tokenizer.encoding import load_tokenizer, text_ids


@dataclass(frozen=True)
class Head:
    """Which one."""

    examples: str  # the set of examples that it learned from
    revision: int = 3  # raised when equal inputs would give another output


def take_head(config: Head, model: FinetunedModel, out: Path) -> StageOutcome:
    """Write model/ with task.json, and adapter/ where there were adapters: what a fine-tuning on these examples alone writes."""
    from model.huggingface.huggingface import load_folder
    from model.nn.models import MultiTask, with_one_head

    folder = model.path / "model"
    several, tokenizer = load_folder(folder), load_tokenizer(folder)
    assert isinstance(several, MultiTask)
    task = read_head_tasks(folder)[config.examples]
    single = with_one_head(several, config.examples)
    save_tuned(single, tokenizer, text_ids(tokenizer, f"head {task.name}"), task, Origin(folder, folder), out / "model")
    if (model.path / "adapter").is_dir():
        shutil.copytree(model.path / "adapter" / config.examples, out / "adapter")
    parameters = sum(parameter.numel() for parameter in single.parameters())
    return StageOutcome(Ledger(rows_out=1), (), {"parameters": float(parameters)}, {"kind": task.kind})
