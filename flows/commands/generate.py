"""`wordmill generate`: what it prints, for every kind of model."""

import sys
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from tasks.errors import UserError

if TYPE_CHECKING:
    import tokenizers
    import torch

    from model.inference.generate import Token
    from model.inference.sampling import Sampling
    from model.nn.models import LanguageModel, MaskedLanguageModel, Model, MultipleChoice, Seq2SeqModel
    from tasks.inference.generation import Chunk
    from tasks.inference.task_file import ModelTask

ALTERNATIVES = 3  # that --log-probs shows beside each token
DRAWN = frozenset({"temperature", "top_k", "top_p", "min_p", "repetition_penalty", "seed", "stop", "log_probs", "stream"})


@dataclass(frozen=True)
class Asked:
    """The command line."""

    prompt: str
    count: int
    max_tokens: int
    temperature: float
    top_k: int
    top_p: float
    min_p: float
    repetition_penalty: float
    seed: int
    stops: tuple[str, ...]
    log_probs: bool
    beams: int
    stream: bool | None  # None: on a terminal
    dtype: Literal["float32", "bfloat16"]
    given: Collection[str]  # names of the options that were spelled out

    def sampling(self, folder: Path) -> "Sampling":
        """For the model of `folder`, which knows what ends a text. UserError for a setting out of bounds."""
        from model.inference.sampling import Sampling
        from tasks.inference.folder_settings import told_ends

        try:
            return Sampling(
                self.max_tokens, self.temperature, self.top_k, self.top_p, self.min_p, self.repetition_penalty, self.seed, told_ends(folder)
            )
        except ValueError as error:
            raise UserError(f"generate: {error}") from error

    def is_live(self) -> bool:
        """Whether text is shown as it comes."""
        return self.count == 1 and (sys.stdout.isatty() if self.stream is None else self.stream)


def answer(folder: Path, asked: Asked) -> None:
    """Prints what the model of `folder` makes of the prompt. UserError, naming the option, for one that does not suit it."""
    from model.nn.models import LanguageModel, MaskedLanguageModel, MultipleChoice, Seq2SeqModel, SequenceClassifier, TokenClassifier
    from tasks.inference.saved_models import load
    from tasks.inference.task_file import read_task

    if asked.count < 1:
        raise UserError(f"count {asked.count}: expected 1 or more")
    if asked.stream and asked.count > 1:
        raise UserError("--stream: shows one text as it comes. Fix: leave out --count, or --stream.")
    model, tokenizer = load(folder)
    task = read_task(folder)
    if isinstance(model, LanguageModel):
        _refuse(asked, model, {"beams"})
        _continue(model, tokenizer, folder, asked, is_chat=task is not None and task.is_chat)
    elif isinstance(model, Seq2SeqModel):
        _translate(model, tokenizer, folder, asked)
    elif isinstance(model, MaskedLanguageModel):
        _refuse(asked, model, DRAWN | {"beams", "max_tokens", "dtype"})
        _fill(model, tokenizer, asked)
    elif isinstance(model, SequenceClassifier | TokenClassifier):
        _refuse(asked, model, DRAWN | {"beams", "max_tokens", "dtype", "count"})
        _label(model, tokenizer, folder, task, asked)
    elif isinstance(model, MultipleChoice):
        _refuse(asked, model, DRAWN | {"beams", "max_tokens", "dtype", "count"})
        _choose(model, tokenizer, asked)
    else:
        raise UserError(f"MODEL is a {type(model).__name__}: it cannot answer a single prompt. Fix: give another model.")


def _refuse(asked: Asked, model: "Model", unsuited: Collection[str], why: str = "") -> None:
    for name in sorted(set(asked.given) & set(unsuited)):
        option = name.replace("_", "-")
        raise UserError(f"--{option}: a {type(model).__name__} has no use for it{why}. Fix: leave it out.")


def _continue(model: "LanguageModel", tokenizer: "tokenizers.Tokenizer", folder: Path, asked: Asked, is_chat: bool) -> None:
    from model.inference.prepared_model import for_inference
    from tasks.inference.generation import stream_text

    sampling = asked.sampling(folder)
    ready = for_inference(model, _dtype(asked), asked.count)
    chunks = stream_text(
        ready, tokenizer, asked.prompt, asked.count, sampling, asked.stops, is_chat, ALTERNATIVES if asked.log_probs else None
    )
    _show(chunks, "" if is_chat else asked.prompt, tokenizer, asked)


def _translate(model: "Seq2SeqModel", tokenizer: "tokenizers.Tokenizer", folder: Path, asked: Asked) -> None:
    from model.inference.prepared_model import for_inference
    from tasks.inference.generation import stream_translation, target_start

    start = target_start(folder, tokenizer)
    if "beams" in asked.given:
        _refuse(asked, model, DRAWN, " beside --beams, which draws nothing")
        _search(for_inference(model, _dtype(asked), asked.beams), tokenizer, start, asked)
        return
    sampling = asked.sampling(folder)
    ready = for_inference(model, _dtype(asked), asked.count)
    shown = ALTERNATIVES if asked.log_probs else None
    chunks = stream_translation(ready, tokenizer, asked.prompt, start, asked.count, sampling, asked.stops, shown)
    _show(chunks, "", tokenizer, asked)


def _search(model: "Seq2SeqModel", tokenizer: "tokenizers.Tokenizer", start: int, asked: Asked) -> None:
    from model.inference.beam_search import Beams
    from tasks.inference.generation import search_translation

    try:
        beams = Beams(asked.beams, asked.max_tokens)
    except ValueError as error:
        raise UserError(f"generate: {error}") from error
    if asked.count > asked.beams:
        raise UserError(f"count {asked.count}: {asked.beams} beams find no more than {asked.beams} texts. Fix: more --beams.")
    found = search_translation(model, tokenizer, asked.prompt, start, beams)[: asked.count]
    for number, (text, score) in enumerate(found, 1):
        if asked.count > 1:
            click.echo(click.style(f"--- {number} --- {score:.3f} nats a token", dim=True))
        click.echo(text)


def _fill(model: "MaskedLanguageModel", tokenizer: "tokenizers.Tokenizer", asked: Asked) -> None:
    from tasks.inference.mask_filling import fill_masks

    for filling in fill_masks(model, tokenizer, asked.prompt, asked.count):
        click.echo(filling.text if asked.count == 1 else f"{filling.probability:7.2%}  {filling.text}")


def _label(model: "Model", tokenizer: "tokenizers.Tokenizer", folder: Path, task: "ModelTask | None", asked: Asked) -> None:
    from model.nn.models import SequenceClassifier
    from tasks.inference.labelling import NO_LABEL, label_text, labels_of, word_labeller

    labeller = word_labeller(model, tokenizer, folder, task)
    if labeller is not None:
        for word in labeller.label(asked.prompt):
            told = f"{'':7}  {NO_LABEL}" if word.label is None else f"{word.label.probability:7.2%}  {word.label.name}"
            click.echo(f"{told}  {word.word}")
        return
    assert isinstance(model, SequenceClassifier)
    for label in label_text(model, tokenizer, labels_of(folder, task, model.head.score.out_features), asked.prompt):
        click.echo(label.name if label.probability is None else f"{label.probability:7.2%}  {label.name}")


def _choose(model: "MultipleChoice", tokenizer: "tokenizers.Tokenizer", asked: Asked) -> None:
    from tasks.inference.labelling import choose_text

    for choice in choose_text(model, tokenizer, asked.prompt):
        click.echo(f"{choice.probability:7.2%}  {choice.name}")


def _show(chunks: "Iterator[Chunk]", prompt: str, tokenizer: "tokenizers.Tokenizer", asked: Asked) -> None:
    """As it comes, or whole; behind each text its tokens, if asked."""
    texts: list[list[str]] = [[prompt] for _ in range(asked.count)]
    tokens: list[list[Token]] = [[] for _ in range(asked.count)]
    is_live = asked.is_live()
    if is_live:
        click.echo(prompt, nl=False)
    for chunk in chunks:
        texts[chunk.row].append(chunk.text)
        if chunk.token is not None:
            tokens[chunk.row].append(chunk.token)
        if is_live and chunk.text:
            click.echo(chunk.text, nl=False)
    if is_live:
        click.echo()
    for number, text in enumerate(texts, 1):
        if asked.count > 1:
            click.echo(click.style(f"--- {number} ---", dim=True))
        if not is_live:
            click.echo("".join(text))
        if asked.log_probs:
            for token in tokens[number - 1]:
                click.echo(_token_line(tokenizer, token))


def _token_line(tokenizer: "tokenizers.Tokenizer", token: "Token") -> str:
    """Nats, the token, and the likeliest instead of it."""

    def spelled(number: int) -> str:
        return repr(tokenizer.decode([number], skip_special_tokens=False))

    others = ", ".join(f"{spelled(number)} {value:.2f}" for number, value in token.alternatives)
    return f"{token.log_probability or 0.0:8.3f}  {spelled(token.id):<16} likeliest: {others}"


def _dtype(asked: Asked) -> "torch.dtype":
    import torch

    return torch.bfloat16 if asked.dtype == "bfloat16" else torch.float32
