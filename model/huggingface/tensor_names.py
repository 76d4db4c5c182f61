"""Tensor names: which tensor of ours is which of a folder's, and how it lies there.

C channels, H query heads, G key and value heads, D channels a head, M channels inside the MLP, V vocabulary, K classes.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from model.huggingface.decoder_config import LLAMA_TYPES
from model.huggingface.folder_config import OWN_TYPE, FolderDescription
from model.huggingface.trunk_tensors import Shape, StoredTensor, one, trunk_tensors, with_bias


@dataclass(frozen=True)
class Copy:
    """A stored tensor that repeats another, because the model ties them."""

    name: str
    original: str


PREFIXES = {"gpt2": "transformer.", "bert": "bert.", OWN_TYPE: "trunk."}  # of the trunk's tensors; "model." elsewhere
BUFFERS = {  # beginnings and ends of names that hold nothing learned, or belong to heads that this code has not
    "gpt2": ("", (".attn.bias", ".attn.masked_bias")),
    "bert": ("cls.seq_relationship.", (".embeddings.position_ids",)),
    "marian": ("", (".embed_positions.weight", "final_logits_bias")),  # checked by model/huggingface/stored_weights.py
    **dict.fromkeys(LLAMA_TYPES, ("", (".rotary_emb.inv_freq",))),
}


def stored_trunk(described: FolderDescription, own: Iterable[tuple[str, Shape]]) -> list[StoredTensor]:
    """Every tensor of the trunk, once. `own`: those of the model here, for a folder of our own form."""
    if described.model_type == OWN_TYPE:
        return [one(name, name, *shape) for name, shape in own if name.startswith("trunk.")]
    return trunk_tensors(described.model_type, described.model, described.vocab_size)


def stored_tensors(described: FolderDescription, own: Iterable[tuple[str, Shape]]) -> list[StoredTensor]:
    """Every tensor of trunk and head, once; a tied head is not stored."""
    if described.model_type == OWN_TYPE:
        return [one(name, name, *shape) for name, shape in own]
    return [*trunk_tensors(described.model_type, described.model, described.vocab_size), *_head_tensors(described)]


def copies(described: FolderDescription) -> list[Copy]:
    """Tensors that some programs store though the model ties them to others."""
    if described.model_type == OWN_TYPE:
        return []
    if described.model_type == "bert":
        return [
            Copy("cls.predictions.decoder.weight", "bert.embeddings.word_embeddings.weight"),
            Copy("cls.predictions.decoder.bias", "cls.predictions.bias"),
        ]
    if described.model_type == "modernbert":
        return [Copy("decoder.weight", "model.embeddings.tok_embeddings.weight")]
    if described.model_type == "marian":
        names = ("lm_head.weight", "model.encoder.embed_tokens.weight", "model.decoder.embed_tokens.weight")
        return [Copy(name, "model.shared.weight") for name in names]
    original = "transformer.wte.weight" if described.model_type == "gpt2" else "model.embed_tokens.weight"
    return [Copy("lm_head.weight", original)] if described.model.tie_embeddings else []


def is_ignored(name: str, model_type: str) -> bool:
    """Whether a stored tensor tells nothing that this code reads: masks, frequencies, BERT's other heads and its pooler."""
    if model_type == "bert" and name.startswith("bert.pooler."):
        return True
    start, ends = BUFFERS.get(model_type, ("", ()))
    return (start != "" and name.startswith(start)) or name.endswith(ends)


def current_name(name: str) -> str:
    """The name of today for one that the first BERT files have."""
    for old, new in ((".LayerNorm.gamma", ".LayerNorm.weight"), (".LayerNorm.beta", ".LayerNorm.bias")):
        if name.endswith(old):
            return name.removesuffix(old) + new
    return name


def _head_tensors(described: FolderDescription) -> list[StoredTensor]:
    config, head, C, V = described.model, described.head, described.model.width, described.vocab_size
    if head in ("language", "seq2seq"):
        return [] if config.tie_embeddings else [one("head.weight", "lm_head.weight", V, C)]
    if head == "masked":
        if described.model_type == "modernbert":
            return [*_modernbert_transform(C), one("head.bias", "decoder.bias", V)]
        return [
            *with_bias("head.transform", "cls.predictions.transform.dense", C, C),
            *with_bias("head.transform_norm", "cls.predictions.transform.LayerNorm", C),
            one("head.bias", "cls.predictions.bias", V),
        ]
    K = 1 if head == "choice" else len(described.labels)
    if described.model_type == "modernbert":
        return [*_modernbert_transform(C), *with_bias("head.score", "classifier", K, C)]
    if described.model_type == "bert":
        pooler = [] if head == "tokens" else with_bias("head.pooler", "bert.pooler.dense", C, C)
        return [*pooler, *with_bias("head.score", "classifier", K, C)]
    if head == "sequence":
        return [one("head.score.weight", "score.weight", K, C)]
    return with_bias("head.score", "classifier" if config.family == "gpt2" else "score", K, C)


def _modernbert_transform(C: int) -> list[StoredTensor]:
    return [
        one("head.transform.weight", "head.dense.weight", C, C),
        one("head.transform_norm.weight", "head.norm.weight", C),
    ]
