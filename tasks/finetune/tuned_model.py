"""Tuned model: a head on a base, what of the two learns, and how they are saved."""

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import BeforeValidator, Field

from model.config.lora_config import LoraConfig
from tasks.errors import UserError
from tasks.examples.kinds.kind import LabelledExamples
from tasks.examples.pair_rows import surround_sources
from tasks.inference.folder_settings import answer_ends, read_json, write_generation_settings
from tasks.inference.folder_writing import write_tokenizer
from tasks.inference.task_file import ModelTask, read_task, write_task
from tasks.tokenizer.encoding import TextIds, vocabulary_size
from tasks.tokenizer.told_tokens import copied

if TYPE_CHECKING:
    import tokenizers
    from torch import Tensor, nn

    from model.config.training_config import Precision
    from model.nn.freezing import FreezePattern
    from model.nn.models import Model, OneHead, Trunk
    from model.nn.transformer import EncoderDecoder

PRESETS = ("trunk", "all but embeddings")
TOP = re.compile(r"all but top ([1-9][0-9]{0,3})")

logger = logging.getLogger(__name__)


def _spelled_out(freeze: object) -> object:
    """A preset by its name becomes a list of one; "none" an empty one."""
    if not isinstance(freeze, str):
        return freeze
    if freeze not in ("none", *PRESETS) and not TOP.fullmatch(freeze):
        raise ValueError(
            f"freeze {freeze!r}: expected none, {', '.join(PRESETS)}, all but top N (layers), or a list of patterns over parameter names"
        )
    return () if freeze == "none" else (freeze,)


Pattern = Annotated[str, Field(min_length=1)]
Freeze = Annotated[tuple[Pattern, ...], BeforeValidator(_spelled_out)]


@dataclass(frozen=True)
class Base:
    """What a fine-tuning starts from."""

    trunk: "Trunk | EncoderDecoder"
    model: "Model | None"  # with its head; None where the folder has a trunk alone, or a head of a kind unknown here
    pooler: "Mapping[str, Tensor]"  # BERT's, which its masked model has no use for; empty where there is none
    task: ModelTask | None = None  # that it was tuned for

    @property
    def kind(self) -> str:
        """What it is, in words."""
        return f"a {self.trunk.config.family} trunk alone" if self.model is None else f"a {type(self.model).__name__}"


def open_base(folder: Path, tokenizer: "tokenizers.Tokenizer", place: str) -> Base:
    """The base model. UserError, naming `place`, where it cannot be read or has fewer tokens than the tokenizer."""
    from model.huggingface.huggingface import load_folder, load_pooler, load_trunk

    try:
        source = load_folder(folder)
    except ValueError as error:
        logger.info("%s: its trunk alone is tried: %s", place, error)
        source = None
    try:
        trunk = load_trunk(folder) if source is None else source.trunk
        base = Base(trunk, source, load_pooler(folder) if trunk.config.family == "bert" else {}, read_task(folder))
    except ValueError as error:
        raise UserError(f"{place}: {error}") from error
    if vocabulary_size(tokenizer) > base.trunk.vocab_size:
        raise UserError(
            f"{place}: the tokenizer has {vocabulary_size(tokenizer)} tokens, the base model {base.trunk.vocab_size}. "
            "Fix: give the tokenizer that the model was trained with."
        )
    return base


def with_head(base: Base, examples: LabelledExamples, tokens: int, seed: int, place: str) -> "Model":
    """The base itself for instructions, its trunk under a new head for classes. UserError for a base that does not fit.

    To an encoder-decoder the prompt is the source, the response the target. A language model with fewer than `tokens` tokens gets
    rows for the others.
    """
    import torch

    from model.nn.models import LanguageModel, Seq2SeqModel
    from model.nn.vocabulary_size import resize_vocabulary

    torch.manual_seed(seed)
    if examples.head.kind != "language":
        return _with_new_head(base, examples, place)
    if isinstance(base.model, Seq2SeqModel):
        return base.model
    if not isinstance(base.model, LanguageModel):
        raise UserError(
            f"{place}: {examples.kind.name} examples need a language model or an encoder-decoder, but the base is {base.kind}. "
            "Fix: start from a model that writes."
        )
    resize_vocabulary(base.model, max(base.trunk.vocab_size, tokens), seed)
    return base.model


def _with_new_head(base: Base, examples: LabelledExamples, place: str) -> "Model":
    """The trunk, and of the head what fits as well, as ModernBERT's dense layer and BERT's pooler, and scores of labels known before."""
    from model.nn.models import model_with

    config = base.trunk.config
    try:
        model = model_with(config, base.trunk.vocab_size, examples.head)
    except ValueError as error:
        raise UserError(
            f"{place}: {examples.kind.name} on a base of family {config.family}: {error}. Fix: start from a decoder or an encoder."
        ) from error
    model.trunk.load_state_dict(base.trunk.state_dict())
    known = {**base.pooler, **({} if base.model is None else base.model.state_dict())}
    for name, tensor in model.state_dict().items():
        if name.startswith("head.") and not name.startswith("head.score."):
            if name in known and known[name].shape == tensor.shape:
                tensor.copy_(known[name])
    _carry_scores(base, model, examples)
    return model


def _carry_scores(base: Base, model: "OneHead", examples: LabelledExamples) -> None:
    """Of a base that was tuned for the same kind: what scores a label that it knows, by name. Other labels begin anew."""
    from model.nn.models import MultiTask

    if base.model is None or isinstance(base.model, MultiTask) or base.task is None or base.task.kind != examples.kind.name:
        return
    if (base.model.spec.kind, base.model.spec.problem) != (model.spec.kind, model.spec.problem):
        return
    before = {name: number for number, name in enumerate(base.task.labels or ("",))}  # a choice has one score, which has no name
    now, known = examples.kind.names(examples.labels) or ("",), base.model.state_dict()
    for name, tensor in model.state_dict().items():
        if name.startswith("head.score.") and name in known:
            for row, label in enumerate(now):
                if label in before:
                    tensor[row].copy_(known[name][before[label]])


def choose_what_learns(model: "Model", freeze: Freeze, lora: LoraConfig | None, grew: bool, place: str) -> str:
    """Freezes by preset, patterns or adapters; returns, and logs, the table of what came of it. UserError where nothing could learn.

    Beside adapters learn a new head, and the embedding where the vocabulary `grew`.
    """
    from model.distributed.device import process_rank
    from model.nn.freezing import apply_patterns, freezing_table, table_lines
    from model.nn.lora import apply_lora

    try:
        if lora is not None:
            apply_lora(model, lora)
        apply_patterns(model, _freeze_patterns(model, freeze) if lora is None else _beside_adapters(model, grew))
    except ValueError as error:
        raise UserError(f"{place}: {error}") from error
    for name, head in _heads(model).items():
        if not any(parameter.requires_grad for part in (model.trunk, head) for parameter in part.parameters()):
            raise UserError(
                f"{place}: freeze is {', '.join(freeze)}, which is all that {name} has (a tied head is the embedding): nothing could "
                "learn. Fix: set freeze to none."
            )
    told = "\n".join(table_lines(freezing_table(model)))
    if process_rank()[0] == 0:
        logger.info("%s: what learns\n%s", place, told)
    return told


def keep_frozen_in_bfloat16(model: "Model", precision: "Precision", place: str) -> None:
    """Frozen matrices in the dtype of the products. UserError where that is another."""
    import torch

    from model.distributed.device import choose_device, choose_precision
    from model.nn.freezing import store_frozen

    family = model.trunk.config.family
    if model.trunk.config.is_recurrent:
        raise UserError(f"{place}: frozen_weights is bfloat16, but the cells of {family} compute in float32. Fix: leave it out.")
    if choose_precision(precision, choose_device()) != torch.bfloat16:
        raise UserError(
            f"{place}: frozen_weights is bfloat16, but precision {precision} is float32 on this device. "
            "Fix: leave it out, or set precision to bfloat16."
        )
    store_frozen(model, torch.bfloat16)


@dataclass(frozen=True)
class Origin:
    """The folders that a tuned model comes from."""

    base: Path
    tokenizer: Path


def save_tuned(
    model: "OneHead", tokenizer: "tokenizers.Tokenizer", special: TextIds, task: ModelTask, origin: Origin, folder: Path
) -> None:
    """The Hugging Face folder. Its tokenizer adds to a text what the model has learned to see around it."""
    from model.huggingface.huggingface import save_folder

    extra = special_tokens(special)
    if task.labels:
        extra["id2label"] = dict(enumerate(task.labels))
    if task.is_chat:
        extra["eos_token_id"] = answer_ends(origin.base, tokenizer)
    save_folder(folder, model, extra)
    _surround(model, tokenizer, special)
    _write_beside(model, tokenizer, special, task, origin, folder)
    write_task(task, folder)


def _write_beside(
    model: "OneHead", tokenizer: "tokenizers.Tokenizer", special: TextIds, task: ModelTask, origin: Origin, folder: Path
) -> None:
    """The tokenizer and, where texts are written, how."""
    shape = model.trunk.config
    write_tokenizer(tokenizer, origin.tokenizer, folder, shape.context, task, shape.family == "seq2seq")
    if task.is_chat:
        ids = {**special_tokens(special), "eos_token_id": answer_ends(origin.base, tokenizer)}
        write_generation_settings(origin.base, folder, {**read_json(folder / "config.json"), **ids})


def special_tokens(special: TextIds) -> dict[str, object]:
    """What config.json says of the tokens around a text."""
    return {"bos_token_id": special.bos, "eos_token_id": special.eos, "pad_token_id": special.pad}


def save_adapters(
    model: "Model",
    lora: LoraConfig,
    tokenizer: "tokenizers.Tokenizer",
    special: TextIds,
    tasks: Mapping[str, ModelTask],
    origin: Origin,
    folder: Path,
) -> None:
    """The adapters in PEFT's form, with what stands beside the model; then adds them to the model's matrices.

    Of several heads, each with the adapters in a folder of its name.
    """
    from model.huggingface.lora_files import save_adapter
    from model.nn.lora import merge
    from model.nn.models import MultiTask, with_one_head

    several = isinstance(model, MultiTask)
    for name, task in tasks.items():
        target, part = (folder / name, with_one_head(model, name)) if several else (folder, model)
        save_adapter(target, part, lora, str(origin.base))
        around = copied(tokenizer)
        _surround(part, around, special)
        _write_beside(part, around, special, task, origin, target)
    merge(model)


def _surround(model: "OneHead", tokenizer: "tokenizers.Tokenizer", special: TextIds) -> None:
    """Makes the tokenizer put around a text what stands there in the rows that the model has learned from."""
    from tokenizers import processors

    kind, shape = model.spec.kind, model.trunk.config
    if shape.family == "seq2seq":
        surround_sources(tokenizer)
    elif kind == "language":  # a conversation: its template has all that stands around, and with it stands a second start
        tokenizer.post_processor = processors.TemplateProcessing(single="$A", pair="$A $B")
    elif kind == "choice":
        _surround_rows(tokenizer, special, special.eos != special.pad, separates=True)
    else:
        has_end = special.eos != special.pad if kind == "sequence" else not shape.is_causal
        plain = tokenizer.encode("a", add_special_tokens=False).ids
        if tokenizer.encode("a").ids != [special.bos, *plain, *([special.eos] if has_end else [])]:
            _surround_rows(tokenizer, special, has_end, separates=False)


def _surround_rows(tokenizer: "tokenizers.Tokenizer", special: TextIds, has_end: bool, separates: bool) -> None:
    """As `text_row` and `word_row` have it, and if it `separates`, `choice_row`."""
    from tokenizers import processors

    start, end = tokenizer.id_to_token(special.bos), tokenizer.id_to_token(special.eos)
    assert start is not None
    assert end is not None
    tail = f" {end}" if has_end else ""
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{start} $A{tail}",
        pair=f"{start} $A {end} $B{tail}" if separates else f"{start} $A $B{tail}",
        special_tokens=list({start: (start, special.bos), end: (end, special.eos)}.values()),
    )


def _freeze_patterns(model: "Model", freeze: Freeze) -> tuple["FreezePattern", ...]:
    """The preset, or the recipe's own patterns, over this model's parameters."""
    from model.nn.freezing import FreezePattern, embeddings_patterns, top_patterns, trunk_patterns

    if freeze == ("trunk",):
        return trunk_patterns()
    if freeze == ("all but embeddings",):
        return embeddings_patterns(model)
    if len(freeze) == 1 and (match := TOP.fullmatch(freeze[0])):
        return top_patterns(model, int(match[1]))
    return tuple(FreezePattern(pattern.removeprefix("!"), trains=pattern.startswith("!")) for pattern in freeze)


def _heads(model: "Model") -> "dict[str, nn.Module]":
    """The model's head, or heads, by the name of the module."""
    from model.nn.models import MultiTask

    if isinstance(model, MultiTask):
        return {f"heads.{name}": head for name, head in model.heads.items()}
    return {"head": model.head}


def _beside_adapters(model: "Model", grew: bool) -> tuple["FreezePattern", ...]:
    """New heads learn; the base's own, and the embedding, where the vocabulary grew."""
    from model.nn.freezing import FreezePattern
    from model.nn.heads import LanguageHead

    heads = _heads(model)
    own = [name for name, head in heads.items() if isinstance(head, LanguageHead)]
    learning = [f"{name}.*" for name in heads if name not in own]
    if grew:
        names = [name for name, _ in model.named_parameters()]
        learning += [name for name in ("trunk.embedding.weight", *(f"{name}.weight" for name in own)) if name in names]
    return tuple(FreezePattern(name, trains=True) for name in learning)
