"""Multi-task heads on one trunk, one for each set of examples: put on it, saved together, and taken apart again."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.errors import UserError
from tasks.examples.kinds.kind import LabelledExamples
from tasks.finetune.tuned_model import Base, Origin, special_tokens, with_head
from tasks.inference.folder_settings import answer_ends, write_generation_settings
from tasks.inference.folder_writing import write_tokenizer
from tasks.inference.task_file import ModelTask, write_head_tasks
from tasks.tokenizer.encoding import TextIds

if TYPE_CHECKING:
    import tokenizers

    from model.nn.models import Model, MultiTask


def with_heads(base: Base, examples: Mapping[str, LabelledExamples], tokens: int, seed: int, place: str) -> "MultiTask":
    """The base's trunk under a head for each set of examples; each begins as it would alone: see `with_head`."""
    from model.nn.models import MultiTask

    if base.trunk.config.family == "seq2seq":
        raise UserError(
            f"{place}: several heads need one trunk, but an encoder-decoder has two stacks. Fix: give each of the examples "
            f"{', '.join(examples)} an entry of its own, or start from a decoder or an encoder."
        )
    heads = {name: with_head(base, one, tokens, seed, place).get_submodule("head") for name, one in examples.items()}
    model = MultiTask(base.trunk.config, base.trunk.vocab_size, {name: one.head for name, one in examples.items()})
    model.trunk.load_state_dict(base.trunk.state_dict())
    for name, head in heads.items():
        model.head_for(name).load_state_dict(head.state_dict())
    return model


def save_heads(
    model: "Model", tokenizer: "tokenizers.Tokenizer", special: TextIds, tasks: Mapping[str, ModelTask], origin: Origin, folder: Path
) -> None:
    """The folder of all heads, in Wordmill's own form, with tasks.json; a head that is taken from it finds all that it needs."""
    from model.huggingface.huggingface import save_folder

    save_folder(folder, model, special_tokens(special))
    write_tokenizer(tokenizer, origin.tokenizer, folder, model.trunk.config.context, None, is_pair=False)
    if any(task.is_chat for task in tasks.values()):
        ids = {**special_tokens(special), "eos_token_id": answer_ends(origin.base, tokenizer)}
        write_generation_settings(origin.base, folder, ids)
    write_head_tasks(tasks, folder)
