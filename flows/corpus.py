"""Corpus DAG: raw text in, what models learn from and are judged on out."""

from collections.abc import Mapping

from flows.recipe import CorpusRecipe, CorpusSections
from flows.stages import ANNOTATE, DECONTAMINATE, DEDUPLICATE, EXAMPLES, INGEST, QUALITY, REPORT, SELECT, Builder, Handle, Outcome
from tasks.artifacts import Corpus, Examples, PretrainedModel


def build_corpus(
    run: Builder, recipe: CorpusSections, base: Handle[PretrainedModel] | None = None
) -> tuple[Handle[Corpus], Mapping[str, Handle[Examples]]]:
    """The corpus, and the labelled examples it was kept clear of, by name; also of what a `base` that learns it is judged on."""
    raw = run.stage(INGEST, recipe.ingest)
    quality = None if recipe.quality is None else run.stage(QUALITY, recipe.quality)
    clean = run.stage(ANNOTATE, recipe.clean.annotate, raw=raw, quality=quality)
    selection = run.stage(SELECT, recipe.clean.select, clean=clean)
    unique = run.stage(DEDUPLICATE, recipe.deduplicate, clean=clean, selection=selection)
    examples = {entry.name: run.stage(EXAMPLES, entry, entry.name) for entry in recipe.examples}
    corpus = run.stage(DECONTAMINATE, recipe.decontaminate, clean=clean, unique=unique, examples=tuple(examples.values()), base=base)
    return corpus, examples


def corpus(run: Builder, recipe: CorpusRecipe) -> Outcome:
    """Raw text in, a corpus and its report out."""
    built, _ = build_corpus(run, recipe)
    report = run.stage(REPORT, recipe.report, base=built, scores=())
    return Outcome((), (), report)
