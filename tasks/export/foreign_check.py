"""Transformers check: the same prompts through `transformers`, where it is installed, on the folder that we wrote."""

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from tasks.export.certificate import TEXTS, WRITTEN, Evidence, choices, shown_target
from tasks.inference.folder_settings import SpecialTokens

if TYPE_CHECKING:
    import torch

    from model.huggingface.folder_config import Head

PACKAGE = "transformers"


class _Output(Protocol):
    logits: "torch.Tensor"


class _Model(Protocol):
    generation_config: object

    def __call__(self, **inputs: "torch.Tensor") -> _Output: ...

    def eval(self) -> "_Model": ...

    def generate(self, **inputs: object) -> "torch.Tensor": ...


class _Tokenizer(Protocol):
    def encode(self, text: str, add_special_tokens: bool) -> list[int]: ...

    def decode(self, ids: Sequence[int], skip_special_tokens: bool) -> str: ...


def is_installed() -> bool:
    """Whether `transformers` can be asked."""
    return find_spec(PACKAGE) is not None


def gather_foreign(folder: Path, head: "Head", prompts: Sequence[Sequence[int]], context: int, special_tokens: SpecialTokens) -> Evidence:
    """By `transformers`, in float32, from the folder alone."""
    import torch
    from transformers import AutoTokenizer

    read = cast("Callable[..., _Model]", _auto_class(head))
    model = read(folder, dtype=torch.float32, local_files_only=True).eval()
    tokenizer = cast("_Tokenizer", AutoTokenizer.from_pretrained(folder, local_files_only=True))
    with torch.no_grad():
        logits = tuple(_logits(model, head, prompt, special_tokens) for prompt in prompts)
        writes = head in ("language", "seq2seq")
        written = tuple(_written(model, head, prompt, context, special_tokens) for prompt in prompts) if writes else ()
    return Evidence(
        logits,
        written,
        tuple(tokenizer.decode(ids, skip_special_tokens=True) for ids in written),
        tuple(tuple(tokenizer.encode(text, add_special_tokens=False)) for text in TEXTS),
    )


def _auto_class(head: "Head") -> Callable[..., object]:
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    if head == "language":
        return transformers.AutoModelForCausalLM.from_pretrained
    if head == "masked":
        return transformers.AutoModelForMaskedLM.from_pretrained
    if head == "seq2seq":
        return transformers.AutoModelForSeq2SeqLM.from_pretrained
    if head == "sequence":
        return transformers.AutoModelForSequenceClassification.from_pretrained
    if head == "tokens":
        return transformers.AutoModelForTokenClassification.from_pretrained
    return transformers.AutoModelForMultipleChoice.from_pretrained


def _logits(model: _Model, head: "Head", prompt: Sequence[int], special_tokens: SpecialTokens) -> "torch.Tensor":
    import torch

    row = torch.tensor([list(prompt)])
    if head == "choice":
        row = choices(row)
    inputs = {"input_ids": row, "attention_mask": torch.ones_like(row)}
    if head == "seq2seq":
        inputs["decoder_input_ids"] = torch.tensor([shown_target(prompt, special_tokens)])
    return model(**inputs).logits.float()


def _written(model: _Model, head: "Head", prompt: Sequence[int], context: int, special_tokens: SpecialTokens) -> tuple[int, ...]:
    """Greedily, with no other setting of generation than where to begin and to end."""
    import torch
    from transformers import GenerationConfig

    row = torch.tensor([list(prompt)])
    begun = 1 if head == "seq2seq" else len(prompt)
    model.generation_config = GenerationConfig(
        max_new_tokens=min(WRITTEN, context // 2),
        do_sample=False,
        num_beams=1,
        bos_token_id=special_tokens.start,
        eos_token_id=sorted(special_tokens.ends) or None,
        pad_token_id=special_tokens.pad,
        decoder_start_token_id=special_tokens.start,
    )
    return tuple(model.generate(input_ids=row, attention_mask=torch.ones_like(row))[0, begun:].tolist())
