"""Fine-tunings of a recipe, from what they start from to the models that are scored and registered: the part that DAGs share."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flows.stages import BASE, CHAMPION, FINETUNE, HEAD, Builder, Handle
from tasks.artifacts import Artifact, Examples, FinetunedModel, PretrainedModel
from tasks.finetune.base_model import BaseConfig
from tasks.finetune.config import FinetuneConfig
from tasks.finetune.heads import Head
from tasks.promotion.champion import ChampionConfig


@dataclass(frozen=True)
class Tuned:
    """A model, and the examples that it learned from and is judged on."""

    label: str  # in labels of stages: "areas"; of one head of several "both, areas"
    name: str  # in the registry: "areas", "both-areas"
    examples: str
    model: Handle[FinetunedModel]


def take_start(run: Builder, start: ChampionConfig | BaseConfig) -> Handle[PretrainedModel]:
    """The model that a training starts from: the registry's, or a folder's."""
    return run.stage(BASE, start) if isinstance(start, BaseConfig) else run.stage(CHAMPION, start)


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
