"""Pretraining on token shards: the loop of model/training/training.py, on Ray Train workers or in one process."""

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from model.config.objective_config import ObjectiveConfig
from model.nn.word_vectors import vector_width
from model.training.batch_steps import BatchSteps
from model.training.curve import read_curve
from model.training.figures import training_figures
from model.training.interruption import Signals
from model.training.left_out import read_left_out
from model.training.record import recording
from tasks.artifacts import PretrainedModel, Tokenizer, TokenShards, canonical, file_digest
from tasks.cluster import Launch, Training
from tasks.errors import UserError
from tasks.inference.objective_file import bits_per_byte, write_objective
from tasks.ledger import Ledger, StageOutcome
from tasks.pretrain.audit import audit_stream, write_audit
from tasks.pretrain.checkpoint_place import place_of
from tasks.pretrain.config import Pretraining, check_objective, training_config
from tasks.pretrain.continued import TOKENIZER_FILES, continued_model, continued_story
from tasks.pretrain.job import PretrainJob, write_job
from tasks.pretrain.start import check_tokenizer
from tasks.pretrain.training_rows import open_stream
from tasks.settings import Json, given_path
from tasks.tokenizer.encoding import decode_text, load_tokenizer, text_ids
from tasks.tokenizer.objective_symbols import objective_symbols
from tasks.tokenizer.word_table import JIEBA, segmenter, word_table, words_digests
from tasks.training_entry import Asking

if TYPE_CHECKING:
    import tokenizers

    from model.data.batches import Batches
    from model.data.row_stream import RowStream
    from model.objectives.objectives import PretrainableModel


def pretraining_digests(config: Pretraining) -> dict[str, str]:
    """What word vectors and Chinese words are read from, to enter the fingerprint. UserError where they cannot be used."""
    digests = words_digests(config.pretrain.objective)
    if config.start is not None:
        digests["start"] = config.start.digest
    if config.pretrain.word_vectors is None:
        return digests
    path = given_path(config.pretrain.word_vectors)
    if not path.is_file():
        raise UserError(f"pretrain.word_vectors: {path} is no file. Fix: correct the path, or leave the key out.")
    try:
        width = vector_width(path)
    except (ValueError, OSError) as error:
        raise UserError(f"pretrain.word_vectors: {error}. Expected word2vec's or GloVe's format.") from error
    if width != config.shape.width:
        raise UserError(
            f"pretrain.word_vectors: {path} has vectors of {width} numbers, but model.width is {config.shape.width}. "
            f"Fix: set model.width to {width}, or name other vectors."
        )
    return digests | {"word_vectors": file_digest(path)}


def pretrain_model(
    config: Pretraining, shards: TokenShards, tokenizer: Tokenizer, out: Path, launch: Launch, base: PretrainedModel | None = None
) -> StageOutcome:
    """Train on the shards, from the weights of `base` if there is one.

    A build that was killed goes on from its last whole checkpoint in `out`.
    """
    config = config.with_base(base)
    job = pretrain_job(config, shards, tokenizer, out, base)
    if config.start is not None:
        check_tokenizer(config.start, tokenizer.fingerprint, tokenizer.path)
    stream = open_stream(job, "train", shards.path)
    _check_before(config, stream, load_tokenizer(tokenizer.path))
    write_job(job, out)
    launch(Training(train_pretrain, job.to_json(), out, config.pretrain.placement))
    result = json.loads((out / "result.json").read_text())
    figures = {
        "loss": float(result["loss"]),
        "validation_loss": float(result["validation_loss"]),
        "parameters": float(result["parameters"]),
        "tokens": float(result["tokens"]),
        "steps": float(result["step"]),
        "tokens_per_second": max(point.tokens_per_second for point in read_curve(out)),
        "threads": float(config.pretrain.threads),
        **{name: float(result[name]) for name in ("skipped", "returns", "peak_flops")},
        **training_figures(out),
    }
    if result["best_step"] is not None:
        figures["best_step"] = float(result["best_step"])
    if config.pretrain.objective.kind == "causal" and result["validation_bytes"]:  # else the targets are not the text
        figures["validation_bits_per_byte"] = bits_per_byte(
            figures["validation_loss"] * result["validation_targets"], result["validation_bytes"]
        )
    if config.pretrain.word_vectors is not None:
        figures["embeddings_from_vectors"] = float(result["embeddings_from_vectors"])
    notes = {
        **{name: result[name] for name in ("precision", "device", "ended_early") if result[name]},
        **({} if config.start is None else {"start": config.start.told}),
    }
    if base is not None:
        told = continued_story(stream, config.pretrain.batch_steps.before(config.pretrain.steps))
        figures, notes = figures | told.figures, notes | told.notes
    return StageOutcome(ledger=Ledger(rows_out=1, tokens_out=int(result["tokens"])), figures=figures, notes=notes)


def pretrain_job(
    config: Pretraining, shards: TokenShards, tokenizer: Tokenizer, out: Path, base: PretrainedModel | None = None
) -> PretrainJob:
    """What the workers are told."""
    vectors = config.pretrain.word_vectors
    drawn: dict[str, Json] = {
        "mixture": [asdict(phase) for phase in config.pretrain.mixture],
        "curriculum": [asdict(phase) for phase in config.pretrain.curriculum],
        "window_groups": config.pretrain.window_groups,
        "objective": asdict(_with_whole_path(config.pretrain.objective)),
        "document_mask": config.masks_documents,
    }
    if base is not None:
        drawn["base"] = base.fingerprint
    identity = f"{shards.fingerprint} {canonical(drawn)}"
    training = training_config(config.pretrain, int(shards.figures["context"]))
    return PretrainJob(
        shards.path,
        shards.fingerprint,
        tokenizer.path,
        tokenizer.fingerprint,
        identity,
        out,
        None if vectors is None else given_path(vectors).absolute(),
        config.shape,
        config.pretrain.optimizer,
        training if config.start is None else config.start.with_fresh_data(training, identity),
        config.pretrain.mixture,
        config.pretrain.curriculum,
        config.pretrain.window_groups,
        _with_whole_path(config.pretrain.objective),
        config.masks_documents,
        None if config.start is None else config.start.start,
        place_of(config.pretrain.checkpoint_place, out),
        base=None if base is None else base.path / "model",
    )


def train_pretrain(told: dict[str, Json], asking: Asking = Signals) -> None:
    """Runs in each worker: does the job that it is told, leaves model, curve, audit and result in the job's `out`."""
    import torch

    from model.distributed.device import choose_device, process_rank
    from model.huggingface.huggingface import save_folder
    from model.objectives.objectives import new_model
    from model.training.mirror import Mirror
    from model.training.training import train

    job = PretrainJob.from_json(told)
    training, out = job.training, job.out
    rows, held = open_stream(job, "train", job.shards), open_stream(job, "validation", job.shards)
    tokenizer = load_tokenizer(job.tokenizer)
    torch.manual_seed(training.seed)
    if job.base is None:
        model = new_model(job.model, rows.header.vocab_size, job.objective)
    else:
        model = continued_model(job.base, job.tokenizer, job.objective, training.seed)
    filled = 0 if job.word_vectors is None else use_word_vectors(model, tokenizer, job.word_vectors)
    batches, judged = open_batches(job, rows, tokenizer), open_batches(job, held, tokenizer)
    try:
        with asking() as asked:
            result = train(
                model,
                batches,
                judged,
                training,
                job.optimizer,
                out / "checkpoints",
                job.identity,
                recording(out),
                asked,
                job.start,
                place=None if job.checkpoint_place is None else Mirror(job.checkpoint_place),
            )
    except FloatingPointError as error:
        raise UserError(f"pretrain: {error}") from error
    if not result.finished:
        raise InterruptedError(f"pretrain: stopped at step {result.step} of {training.steps}; it goes on from there")
    if process_rank()[0] == 0:
        special = text_ids(tokenizer, "pretrain")
        ids = {"bos_token_id": special.bos, "eos_token_id": special.eos, "pad_token_id": special.pad}
        save_folder(out / "model", model, ids)
        for path in (job.tokenizer / name for name in TOKENIZER_FILES):
            if path.is_file():
                shutil.copyfile(path, out / "model" / path.name)
        write_objective(out / "model", job.objective)
        left_out = read_left_out(out / "checkpoints")
        documents, batch_steps = job.shards / "documents-train.parquet", BatchSteps(training.step_batches)
        write_audit(audit_stream(rows, result.step, documents, left_out, job.begun_at, batch_steps), out / "audit.json")
        targets, size = validation_text(held, training.evaluate_batches, tokenizer)
        device = choose_device()
        figures = {
            "step": result.step,
            "loss": result.loss,
            "validation_loss": result.validation_loss,
            "tokens": result.tokens,
            "parameters": sum(p.numel() for p in model.parameters()),
            "embeddings_from_vectors": filled,
            "precision": result.precision,
            "device": str(device),
            "skipped": result.skipped,
            "returns": result.returns,
            "best_step": result.best_step,
            "peak_flops": result.peak_flops,
            "ended_early": f"after step {result.step}: nothing got better" if result.ended_early else "",
            "validation_targets": targets,
            "validation_bytes": size,
        }
        (out / "result.json").write_text(json.dumps(figures) + "\n")


def validation_text(stream: "RowStream", batches: int, tokenizer: "tokenizers.Tokenizer") -> tuple[int, int]:
    """Targets of the batches that are validated, and UTF-8 bytes of what they spell; a character cut by a row is three."""
    from model.config.heads import IGNORED
    from model.data.batches import PretrainBatches

    rows = [row[row != IGNORED].tolist() for batch in PretrainBatches(stream).evaluation(batches) for row in batch.targets]
    return sum(map(len, rows)), sum(len(decode_text(tokenizer, row).encode()) for row in rows)


def open_batches(job: PretrainJob, stream: "RowStream", tokenizer: "tokenizers.Tokenizer") -> "Batches":
    """The rows of a stream as the job's objective asks for them."""
    from model.data.batches import PretrainBatches
    from model.objectives.objectives import CorruptedBatches, Corruption

    model, objective, masks_documents = job.model, job.objective, job.document_mask
    is_changed = objective.kind != "causal"
    laid_out_anew = objective.kind in ("restore", "spans")  # so their documents end elsewhere
    plain = PretrainBatches(stream, masks_documents=masks_documents and not laid_out_anew)
    if not is_changed:
        return plain
    symbols = objective_symbols(tokenizer, objective, model, stream.context, stream.header.vocab_size)
    words = None if objective.unit == "token" else word_table(tokenizer, objective.words)
    return CorruptedBatches(plain, Corruption(objective, model, symbols, words, masks_documents), stream.seed)


def _check_before(config: Pretraining, stream: "RowStream", tokenizer: "tokenizers.Tokenizer") -> None:
    """Tells what is wrong before a worker is started: UserError."""
    try:
        check_objective(config, stream.context)
    except ValueError as error:
        raise UserError(f"pretrain: {error}.") from error
    if config.pretrain.objective.kind != "causal":
        objective_symbols(tokenizer, config.pretrain.objective, config.shape, stream.context, stream.header.vocab_size)
        segmenter(config.pretrain.objective.words)


def _with_whole_path(objective: ObjectiveConfig) -> ObjectiveConfig:
    """With the whole path of a dictionary, for workers that stand elsewhere."""
    if objective.words in (None, JIEBA):
        return objective
    return replace(objective, words=str(given_path(objective.words).absolute()))


def use_word_vectors(model: "PretrainableModel", tokenizer: "tokenizers.Tokenizer", path: Path) -> int:
    """Starts the embeddings of tokens that are words of the file with its vectors; returns how many. UserError for none."""
    from model.nn.word_vectors import initialize_embeddings, read_vectors, word_forms

    spellings = [tokenizer.decode([number], skip_special_tokens=False) for number in range(tokenizer.get_vocab_size())]
    wanted = {form for spelling in spellings for form in word_forms(spelling)}
    try:
        vectors = read_vectors(path, wanted)
    except ValueError as error:
        raise UserError(f"pretrain.word_vectors: {error}") from error
    filled = initialize_embeddings(model.trunk.embedding.weight, spellings, vectors)
    if not filled:
        raise UserError(f"pretrain.word_vectors: {path} has none of the tokenizer's {len(spellings)} tokens. Fix: name others.")
    return filled
