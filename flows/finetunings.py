"""Fine-tunings of a recipe, up to the models that are scored and registered: the part of the DAGs that they share."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flows.stages import FINETUNE, HEAD, Builder, Handle
from tasks.artifacts import Artifact, Examples, FinetunedModel
from tasks.finetune.config import FinetuneConfig
from tasks.finetune.heads import Head


@dataclass(frozen=True)
class Tuned:
    """A model, and the examples that it learned from and is judged on."""

    label: str  # in labels of stages: "areas"; of one head of several "both, areas"
    name: str  # in the registry: "areas", "both-areas"
    examples: str
    model: Handle[FinetunedModel]


def tune(
    run: Builder,
    tunings: Sequence[FinetuneConfig],
    base: Handle[Artifact],
    tokenizer: Handle[Artifact],
    examples: Mapping[str, Handle[Examples]],
) -> list[Tuned]:
    """A model for each fine-tuning; for one with several sets of examples a model for each of its heads."""
    tuned: list[Tuned] = []
    for tuning in tunings:
        sets = tuple(examples[name] for name in tuning.sets)
        model = run.stage(FINETUNE, tuning, tuning.name, base=base, tokenizer=tokenizer, examples=sets)
        if len(tuning.sets) == 1:
            tuned.append(Tuned(tuning.name, tuning.name, tuning.sets[0], model))
            continue
        for name in tuning.sets:
            label = f"{tuning.name}, {name}"
            head = run.stage(HEAD, Head(name), label, model=model)
            tuned.append(Tuned(label, tuning.models[name], name, head))
    return tuned
