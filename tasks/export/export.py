"""Export: a model as a Hugging Face folder that others can use, published only with a certificate that nothing was lost."""

import json
import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Literal

from tasks.artifacts import Manifest, Workspace, describe, file_digest, fingerprint, read_manifest
from tasks.errors import UserError
from tasks.export.certificate import CLOSE, Check, compare, compare_logits, compare_weights, fixed_prompts, gather, read_logits
from tasks.export.foreign_check import PACKAGE, gather_foreign, is_installed
from tasks.export.model_card import find_artifact, read_origin, write_card
from tasks.inference.folder_settings import (
    GENERATION,
    SpecialTokens,
    folder_settings,
    read_json,
    special_tokens_of,
    write_generation_settings,
)
from tasks.inference.folder_writing import write_tokenizer
from tasks.inference.saved_models import check_folder, load
from tasks.inference.task_file import read_task
from tasks.ledger import Ledger, StageOutcome
from tasks.settings import Json
from tasks.tokenizer.encoding import vocabulary_size

if TYPE_CHECKING:
    import tokenizers
    import torch

    from model.nn.models import Model

Dtype = Literal["float32", "bfloat16"]
PADDING_ROWS = 1_024  # of a vocabulary, at most; more is no padding but another tokenizer's vocabulary
KEPT_FILES = ("task.json", "objective.json")


class UnequalError(Exception):
    """The folder that was written does not say what the model says."""

    def __init__(self, checks: list[Check]) -> None:
        super().__init__("; ".join(f"{check.name}: {check.told or check.found}" for check in checks if not check.is_fine))
        self.checks = checks


@dataclass(frozen=True)
class Exported:
    """A published folder."""

    folder: Path
    manifest: Manifest
    checks: tuple[Check, ...]


@dataclass(frozen=True)
class _Opened:
    """A model that can be exported, with what goes beside it."""

    source: Path
    artifact: Path | None  # that holds it, where it was made here
    model: "Model"
    tokenizer: "tokenizers.Tokenizer"
    size: int  # tokens
    padding: int  # rows of the vocabulary behind them
    special_tokens: SpecialTokens
    settings: Mapping[str, object]  # ids and labels for config.json


def export_model(source: Path, target: Path, dtype: Dtype, allow_pickle: bool, workspace: Workspace) -> Exported:
    """Write the model in the folder `source` to the new or empty folder `target`, load it anew, compare, and publish it.

    Where it came from is looked up in `workspace`. Raises UserError for a target that holds something and for a model that
    no class of transformers computes, and UnequalError, with nothing left at `target`, where what was loaded anew differs.
    """
    started = time.monotonic()
    _check_target(target)
    opened = _open(source, allow_pickle, find_artifact(source, workspace))
    prompts = fixed_prompts(opened.tokenizer, opened.size, opened.model.trunk.config.context, opened.special_tokens.pad)
    checks = [_check_adapter(opened, prompts), _cut(opened, prompts)]
    rounding = _round(opened, prompts) if dtype == "bfloat16" else 0.0
    partial = _begin(target)
    try:
        _write(opened, partial, dtype)
        checks += _compare(opened, partial, prompts)
        if not all(check.is_fine for check in checks):
            raise UnequalError(checks)
        (partial / "certificate.json").write_text(_certificate(prompts, checks), encoding="utf-8")
        write_card(partial, source, read_origin(opened.artifact), opened.model, opened.padding, dtype, checks)
        manifest = _manifest(opened, partial, dtype, checks, rounding, time.monotonic() - started)
        _publish(partial, target, manifest)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return Exported(target, manifest, tuple(checks))


def certify(source: Path) -> tuple[bool, str]:
    """Whether the model of a folder, written and loaded anew by Wordmill, says what it said; and what was found, in words."""
    try:
        opened = _open(source, allow_pickle=False, artifact=None, is_for_others=False)
        prompts = fixed_prompts(opened.tokenizer, opened.size, opened.model.trunk.config.context, opened.special_tokens.pad)
        _cut(opened, prompts)
        with TemporaryDirectory(prefix="wordmill-") as folder:
            _write(opened, Path(folder), "float32")
            checks = _compare_anew(opened, Path(folder), prompts)
    except UserError as error:
        return False, str(error)
    wrong = [f"{check.name}: {check.told or check.found}" for check in checks if not check.is_fine]
    return not wrong, "; ".join(wrong) or f"written and loaded anew, the same on {len(prompts)} prompts"


def _check_target(target: Path) -> None:
    if target.exists() and not target.is_dir():
        raise UserError(f"DIR {target}: a file, expected a new or empty folder. Fix: name another.")
    if target.is_dir() and any(target.iterdir()):
        names = ", ".join(sorted(path.name for path in target.iterdir())[:4])
        raise UserError(f"DIR {target}: not empty (it holds {names}). Fix: name a new folder, or empty this one.")


def _begin(target: Path) -> Path:
    """An empty folder beside the target, to be renamed."""
    partial = target.parent / f".{target.name}.{os.getpid()}.partial"
    try:
        partial.mkdir(parents=True)
    except OSError as error:
        raise UserError(f"DIR {target}: {error.strerror}. Fix: name a folder that you may write beside.") from error
    return partial


def _open(source: Path, allow_pickle: bool, artifact: Path | None, is_for_others: bool = True) -> _Opened:
    """The model. UserError where it `is_for_others` and none that they could read."""
    from model.huggingface.huggingface import foreign_obstacle

    check_folder(source, allow_pickle=allow_pickle)
    model, tokenizer = load(source, allow_pickle)
    obstacle = foreign_obstacle(model) if is_for_others else None
    if obstacle is not None:
        raise UserError(
            f"MODEL {source}: {obstacle}, so no Hugging Face folder can hold it. It stays as it is, and wordmill generate "
            "and evaluate go on using it there."
        )
    size, rows = vocabulary_size(tokenizer), model.trunk.vocab_size
    if not size <= rows <= size + PADDING_ROWS:
        raise UserError(
            f"MODEL {source}: tokenizer.json has {size} tokens, but the weights are for {rows}: these do not belong together. "
            "Fix: put the tokenizer there that the model was trained with."
        )
    settings = folder_settings(source, tokenizer, size)
    return _Opened(source, artifact, model, tokenizer, size, rows - size, special_tokens_of(settings), settings)


def _check_adapter(opened: _Opened, prompts: list[list[int]]) -> Check:
    """Whether the model says what its base says with the adapter beside it, where it was made so.

    UserError for an adapter or a base that cannot be read, or is that of another model.
    """
    from model.huggingface.lora_files import ADAPTER_CONFIG

    name, folder = "adapter, merged and not", (opened.artifact or opened.source) / "adapter"
    if not (folder / ADAPTER_CONFIG).is_file():
        return Check(name, "", None, 0.0, "it was not made by an adapter")
    try:
        base = read_json(folder / ADAPTER_CONFIG).get("base_model_name_or_path")
        if not isinstance(base, str) or not (Path(base) / "config.json").is_file():
            return Check(name, "", None, 0.0, f"its base is no longer at {base}" if isinstance(base, str) else "it names no base")
        unmerged = _unmerged(opened.source, Path(base), folder)
    except ValueError as error:
        raise UserError(
            f"MODEL {opened.source}: its adapter cannot be compared with what was merged: {error}. "
            f"Fix: put {folder} and its base back as they were, or run its recipe again."
        ) from error
    apart = _logits(unmerged, prompts, opened.special_tokens)
    merged = _logits(opened.model, prompts, opened.special_tokens)
    return compare_logits(name, merged, apart, is_exact=False)


def _unmerged(source: Path, base: Path, adapter: Path) -> "Model":
    """The model of `source` on its base's weights, with the adapter beside them. Raises ValueError for what does not fit."""
    from model.huggingface.huggingface import load_trunk
    from model.huggingface.lora_files import load_adapter

    (model, _), found = load(source), load_trunk(base)
    own, trunk = model.trunk.state_dict(), found.state_dict()
    if (found.config.family, trunk.keys()) != (model.trunk.config.family, own.keys()):
        raise ValueError(f"{base}: a trunk of family {found.config.family}, expected {model.trunk.config.family} with as many layers")
    grown = {"embedding.weight"} if trunk["embedding.weight"].shape[1:] == own["embedding.weight"].shape[1:] else set[str]()
    for name in own.keys() - grown:
        if trunk[name].shape != own[name].shape:
            raise ValueError(f"{base}: trunk.{name} has shape {list(trunk[name].shape)}, expected {list(own[name].shape)}")
    model.trunk.load_state_dict({name: trunk[name] if trunk[name].shape == tensor.shape else tensor for name, tensor in own.items()})
    load_adapter(adapter, model)
    return model.eval()


def _cut(opened: _Opened, prompts: list[list[int]]) -> Check:
    """Slices padding off the vocabulary, in place: no other logit may move by more than another order of sums explains."""
    from model.nn.models import LanguageModel, MaskedLanguageModel, Seq2SeqModel
    from model.nn.vocabulary_size import cut_vocabulary

    name = "padding, there and not"
    if not opened.padding:
        return Check(name, "", None, 0.0, "the vocabulary has none")
    padded = _logits(opened.model, prompts, opened.special_tokens)
    if isinstance(opened.model, LanguageModel | MaskedLanguageModel | Seq2SeqModel):
        padded = [part[..., : opened.size] for part in padded]
    cut_vocabulary(opened.model, opened.size)
    return compare_logits(name, padded, _logits(opened.model, prompts, opened.special_tokens), is_exact=False)


def _round(opened: _Opened, prompts: list[list[int]]) -> float:
    """Rounds the weights to bfloat16, in place; by how much that moves a logit at most."""
    import torch

    exact = _logits(opened.model, prompts, opened.special_tokens)
    with torch.no_grad():
        for parameter in opened.model.parameters():
            parameter.copy_(parameter.to(torch.bfloat16))
    rounded = _logits(opened.model, prompts, opened.special_tokens)
    return max(float((one - two).abs().max()) for one, two in zip(exact, rounded, strict=True))


def _logits(model: "Model", prompts: list[list[int]], special_tokens: SpecialTokens) -> list["torch.Tensor"]:
    return [read_logits(model, prompt, special_tokens) for prompt in prompts]


def _write(opened: _Opened, folder: Path, dtype: Dtype) -> None:
    """Weights, configs and tokenizer."""
    from model.huggingface.huggingface import save_folder

    try:
        save_folder(folder, opened.model, opened.settings, dtype=dtype)
    except ValueError as error:
        raise UserError(f"MODEL {opened.source}: {error}") from error
    shutil.copymode(folder / "config.json", folder / "model.safetensors")  # safetensors lets only its writer read
    if (folder / GENERATION).is_file():
        write_generation_settings(opened.source, folder, opened.settings)
    shape = opened.model.trunk.config
    write_tokenizer(opened.tokenizer, opened.source, folder, shape.context, read_task(opened.source), shape.family == "seq2seq")
    for name in KEPT_FILES:
        if (opened.source / name).is_file():
            shutil.copyfile(opened.source / name, folder / name)


def _compare(opened: _Opened, folder: Path, prompts: list[list[int]]) -> list[Check]:
    """The model with what was written of it: as we read it, and as `transformers` does."""
    from model.huggingface.huggingface import head_of

    checks = _compare_anew(opened, folder, prompts)
    if not is_installed():
        return [*checks, Check(PACKAGE, "", None, 0.0, f"{PACKAGE} is not installed")]
    before = gather(opened.model, opened.tokenizer, prompts, opened.special_tokens)
    context = opened.model.trunk.config.context
    foreign = gather_foreign(folder, head_of(opened.model), prompts, context, opened.special_tokens)
    return checks + [_with_fix(check) for check in compare(PACKAGE, before, foreign, is_exact=False)]


def _compare_anew(opened: _Opened, folder: Path, prompts: list[list[int]]) -> list[Check]:
    """The model with what was written of it, as we read it."""
    before = gather(opened.model, opened.tokenizer, prompts, opened.special_tokens)
    anew, tokenizer = load(folder)
    after = gather(anew, tokenizer, prompts, opened.special_tokens)
    return [compare_weights("loaded anew", opened.model, anew), *compare("loaded anew", before, after, is_exact=True)]


def _with_fix(check: Check) -> Check:
    """What to do where the tokenizer of transformers differs; the number of the prompt is that of the text in TEXTS."""
    if check.is_fine or not check.name.endswith(": tokenizer"):
        return check
    fix = f"{PACKAGE} {version(PACKAGE)} reads tokenizer.json otherwise than tokenizers. Fix: update both, and open and save the tokenizer"
    return replace(check, told=f"{check.told}; {fix} anew with them")


def _certificate(prompts: list[list[int]], checks: list[Check]) -> str:
    told = {
        "prompts": prompts,
        "close": CLOSE,
        "checks": [{**asdict(check), "fine": check.is_fine} for check in checks],
    }
    return json.dumps(told, ensure_ascii=False, indent=1) + "\n"


def _manifest(opened: _Opened, folder: Path, dtype: Dtype, checks: list[Check], rounding: float, seconds: float) -> Manifest:
    """Of the folder, every file with its digest; what the certificate found is in its figures and notes."""
    origin = None if opened.artifact is None else read_manifest(opened.artifact)
    inputs = {"model": origin.fingerprint} if origin is not None else _digests(opened.source)
    config: dict[str, Json] = {"dtype": dtype, "rows": opened.size}
    figures = {check.name: check.found for check in checks if check.found is not None}
    if dtype == "bfloat16":
        figures["rounding to bfloat16: logits"] = rounding
    notes = {check.name: f"not checked: {check.told}" for check in checks if check.found is None}
    if is_installed():
        notes[PACKAGE] = f"checked with version {version(PACKAGE)}"
    outcome = StageOutcome(Ledger(rows_out=1), (), figures, {"certificate": "passed", **notes})
    return describe("export", fingerprint("export", config, inputs), config, inputs, folder, outcome, seconds)


def _digests(source: Path) -> dict[str, str]:
    files = [
        source / "config.json",
        source / "tokenizer.json",
        *sorted(source.glob("*.safetensors")),
        *source.glob("*.bin"),
    ]
    return {f"file {path.name}": file_digest(path) for path in files}


def _publish(folder: Path, target: Path, manifest: Manifest) -> None:
    """The manifest last, then one rename: a folder at `target` is whole."""
    (folder / "manifest.json").write_text(json.dumps(asdict(manifest), ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    if target.is_dir():
        target.rmdir()
    folder.rename(target)
