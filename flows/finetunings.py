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
    tasks: Sequence[FinetuneConfig],
    base: Handle[Artifact],
    tokenizer: Handle[Artifact],
    examples: Mapping[str, Handle[Examples]],
) -> list[Tuned]:
    """A model for each task; for one with several sets of examples a model for each of its heads."""
    tuned: list[Tuned] = []
    for task in tasks:
        sets = tuple(examples[name] for name in task.sets)
        model = run.stage(FINETUNE, task, task.name, base=base, tokenizer=tokenizer, examples=sets)
        if len(task.sets) == 1:
            tuned.append(Tuned(task.name, task.name, task.sets[0], model))
            continue
        for name in task.sets:
            label = f"{task.name}, {name}"
            head = run.stage(HEAD, Head(name), label, model=model)
            tuned.append(Tuned(label, task.models[name], name, head))
    return tuned
