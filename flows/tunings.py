"""Fine-tunings in a recipe: whether their names and examples go together, and the model suits them."""

from collections import Counter
from collections.abc import Sequence

from model.config.layout_config import check_recomputed, check_tensor
from model.config.model_config import DECODERS, RECURRENT, ModelConfig
from tasks.examples.kinds.table import KINDS, AnyExamples
from tasks.finetune.config import FinetuneConfig
from tasks.promotion.names import registry_names
from tasks.promotion.register_config import RegisterConfig


def check_tunings(examples: Sequence[AnyExamples], finetune: Sequence[FinetuneConfig]) -> None:
    """Names are unique and every fine-tuning names examples that exist; ValueError otherwise."""
    for section, names in (("examples", [e.name for e in examples]), ("finetune", [f.name for f in finetune])):
        twice = [name for name, count in Counter(names).items() if count > 1]
        if twice:
            raise ValueError(f"{section}: the name {twice[0]!r} is used twice; give each entry its own")
    known = [entry.name for entry in examples]
    for tuning in finetune:
        for name in tuning.sets:
            if name not in known:
                raise ValueError(f"finetune {tuning.name}: examples {name!r} is none of: {', '.join(known) or 'none at all'}")
    makers = Counter(name for tuning in finetune for name in tuning.models.values())
    for name, count in makers.items():
        if count > 1:
            raise ValueError(f"finetune: two models would be called {name!r}, one of them a head; rename a fine-tuning")


def names_of(
    register: RegisterConfig, name: str, examples: Sequence[AnyExamples], finetune: Sequence[FinetuneConfig], has_base: bool
) -> dict[str, str]:
    """Model -> registry name, the base's key being BASE; ValueError where two would meet under one."""
    kinds = {entry.name: KINDS[entry.kind] for entry in examples}
    writes = {model: kinds[of].writes for tuning in finetune for of, model in tuning.models.items()}
    return registry_names(name, register.names, writes, has_base)


def check_model_fits(model: ModelConfig, examples: Sequence[AnyExamples], finetune: Sequence[FinetuneConfig]) -> None:
    """ValueError for a model that cannot have what a fine-tuning asks: texts of one that does not write, several heads, a layout."""
    kinds = {entry.name: KINDS[entry.kind] for entry in examples}
    writers = (*DECODERS, *RECURRENT, "seq2seq")
    for tuning in finetune:
        check_tensor(tuning.layout.tensor, model, f"finetune {tuning.name}: ")
        check_recomputed(model, tuning.layout.activation_checkpointing, f"finetune {tuning.name}: ")
        if len(tuning.sets) > 1 and model.family == "seq2seq":
            raise ValueError(
                f"finetune {tuning.name}: several heads need one trunk, but model.family is seq2seq, which has two stacks; give each "
                f"of the examples {', '.join(tuning.sets)} an entry of its own"
            )
        written = [kinds[name].name for name in tuning.sets if kinds[name].writes]
        if written and model.family not in writers:
            raise ValueError(
                f"finetune {tuning.name}: {written[0]} examples need a model that writes, but model.family is {model.family}; leave the "
                f"entry out, or set model.family to {', '.join(writers)}"
            )
