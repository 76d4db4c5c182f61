"""Pretraining on token shards: the loop of model/training/training.py, on Ray Train workers or in one process."""

import json
import shutil
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from model.config.model_config import ModelConfig
from model.config.objective_config import ObjectiveConfig, check_context, check_pair
from model.config.training_config import (
    BestConfig,
    ContextPhase,
    FaultConfig,
    MixturePhase,
    OptimizerConfig,
    Precision,
    ProfileConfig,
    TrainingConfig,
)
from model.nn.word_vectors import vector_width
from model.training.curve import read_curve
from model.training.figures import training_figures
from model.training.interruption import Signals
from model.training.left_out import read_left_out
from model.training.record import recording
from tasks.artifacts import PretrainedModel, Tokenizer, TokenShards, canonical, file_digest
from tasks.cluster import Launch, Training, WorkerCount, Workers
from tasks.errors import UserError
from tasks.inference.objective_file import bits_per_byte, write_objective
from tasks.ledger import Ledger, StageOutcome
from tasks.pretrain.audit import audit_stream, write_audit
from tasks.pretrain.checkpoint_place import place_of
from tasks.pretrain.continued import TOKENIZER_FILES, continued_model, continued_story
from tasks.pretrain.job import PretrainJob, write_job
from tasks.pretrain.start import FoundStart, check_tokenizer
from tasks.pretrain.start_config import StartConfig
from tasks.pretrain.training_rows import open_stream
from tasks.settings import PLACEMENT, Json, Later, Placement, Section, given_path
from tasks.tokenizer.encoding import decode_text, load_tokenizer, text_ids
from tasks.tokenizer.objective_symbols import objective_symbols
from tasks.tokenizer.word_table import JIEBA, segmenter, word_table, words_digests
from tasks.training_entry import Asking

if TYPE_CHECKING:
    import tokenizers

    from model.data.batches import Batches
    from model.data.row_stream import RowStream
    from model.objectives.objectives import PretrainableModel


class PretrainConfig(Section):
    """How long and how fast to learn. The global batch is fixed in tokens, whatever the number of workers."""

    revision: Literal[4] = 4
    steps: int = Field(default=1000, ge=1, description="optimizer steps")
    batch_tokens: int = Field(default=16_384, ge=1, description="tokens of one optimizer step over all workers")
    micro_rows: int = Field(default=8, ge=1, description="rows of one forward pass on one worker, at most")
    optimizer: OptimizerConfig = OptimizerConfig()
    objective: ObjectiveConfig = ObjectiveConfig()
    document_mask: bool | None = Field(
        default=None,
        description="attention and states stop at document ends, where positions restart; null: true, but for seq2seq, "
        "which reads a row as one text, and where training is compiled",
    )
    mixture: tuple[MixturePhase, ...] = Field(
        default=(), description="weights of the groups that shards.group_by made, by step; none: every row once an epoch"
    )
    curriculum: tuple[ContextPhase, ...] = Field(
        default=(), description="shorter sequences in early steps: divisors of shards.context, by step"
    )
    window_groups: int | None = Field(
        default=None, ge=1, description="row groups that are shuffled together; null: all rows, for mapped files"
    )
    word_vectors: Annotated[str | None, Placement()] = Field(
        default=None, description="word2vec or GloVe file of initial embeddings; its content is the identity"
    )
    start: Annotated[StartConfig | None, Later()] = Field(
        default=None, description="the checkpoint of another pretraining to begin at; none: fresh weights"
    )
    evaluate_every: int = Field(default=100, ge=1, description="steps between validation losses")
    evaluate_batches: int = Field(default=4, ge=1, description="global batches of the validation rows, from the first")
    checkpoint_every: int = Field(default=200, ge=1, description="steps between checkpoints")
    keep_checkpoints: int = Field(default=2, ge=1, description="newest of these kept")
    keep_every: int | None = Field(
        default=None, ge=1, description="steps between checkpoints kept for good; a multiple of checkpoint_every"
    )
    best: BestConfig | None = Field(default=None, description="the best checkpoint is kept too; patience ends a run that gets no better")
    faults: FaultConfig = Field(default=FaultConfig(), description="which steps are skipped, and when a run goes back")
    norms_every: Annotated[int | None, Placement()] = Field(
        default=None, ge=1, description="steps between norms of gradients and activations by layer"
    )
    profile: Annotated[ProfileConfig | None, Placement()] = Field(
        default=None, description="steps that torch's profiler records: {steps: [from, to]}"
    )
    checkpoint_place: Annotated[str | None, Placement()] = Field(
        default=None,
        min_length=1,
        description="folder or address (s3://…) where whole checkpoints are copied too: a machine that lost its disk goes on from there",
    )
    log_every: int = Field(default=10, ge=1, description="steps between figures")
    precision: Precision = Field(default="auto", description="of matrix products; auto probes the processor; weights: float32")
    compile: bool = Field(
        default=False, description="torch.compile: takes a minute, faster on GPUs; shapes must not change with each batch"
    )
    seed: int = Field(default=1, ge=0, description="of weights, row order and dropout")
    workers: Annotated[WorkerCount, Placement()] = Field(
        default=0,
        description="Ray Train workers: 0, this machine without Ray; a number; or [least, most], of which as many as there is room for, "
        "and after a loss those that are left",
    )
    gpus_per_worker: Annotated[float, Placement()] = Field(default=0, ge=0, description="1 on GPU machines")
    threads: Annotated[int, Placement()] = Field(default=0, ge=0, description="CPU threads per worker; 0: torch's choice")

    @property
    def placement(self) -> Workers:
        """Where it trains."""
        return Workers.of(self.workers, self.gpus_per_worker, self.threads)


@dataclass(frozen=True)
class Pretraining:
    """The two recipe sections that this stage follows, and the checkpoint that `pretrain.start` means."""

    model: ModelConfig | None  # None: that of the base, which it goes on from
    pretrain: PretrainConfig
    start: FoundStart | None = field(default=None, metadata={PLACEMENT: True})  # its content enters by `pretraining_digests`

    @property
    def begun_from(self) -> dict[str, str]:
        """The pretraining whose checkpoint it begins at, as an input; what that one learned lives on in this one."""
        return {} if self.start is None or self.start.fingerprint is None else {"start": self.start.fingerprint}

    @property
    def shape(self) -> ModelConfig:
        """The model's; of a base that of its folder (`with_base`)."""
        assert self.model is not None, "a continued pretraining has the shape of its base"
        return self.model

    def with_base(self, base: PretrainedModel | None) -> "Pretraining":
        """With the shape of the base, where there is one."""
        from model.huggingface.huggingface import read_model_config

        return self if base is None else replace(self, model=read_model_config(base.path / "model"))

    @property
    def masks_documents(self) -> bool:
        """`document_mask` with the default resolved."""
        chosen = self.pretrain.document_mask
        return self.shape.family != "seq2seq" and not self.pretrain.compile if chosen is None else chosen


def check_objective(config: Pretraining, context: int) -> None:
    """Raises ValueError, with the fix, for a model and an objective on rows of `context` tokens that do not go together."""
    check_pair(config.shape, config.pretrain.objective)
    check_context(config.shape, config.pretrain.objective, context)
    if config.shape.family == "seq2seq" and config.pretrain.document_mask:
        raise ValueError(
            "pretrain.document_mask: seq2seq reads a row as one text; leave it out, and set shards.packing to documents "
            "to have a document a row"
        )
    if config.pretrain.compile and config.pretrain.document_mask:
        raise ValueError(
            "pretrain.compile: packed documents change their shapes with every batch, and each would be compiled anew; "
            "set pretrain.document_mask to false, or compile to false"
        )


def training_config(config: PretrainConfig, context: int) -> TrainingConfig:
    """The loop's settings: the batch in rows of `context` tokens."""
    return TrainingConfig(
        steps=config.steps,
        batch_rows=max(1, config.batch_tokens // context),
        micro_rows=config.micro_rows,
        evaluate_every=config.evaluate_every,
        evaluate_batches=config.evaluate_batches,
        checkpoint_every=config.checkpoint_every,
        keep_checkpoints=config.keep_checkpoints,
        keep_every=config.keep_every,
        log_every=config.log_every,
        seed=config.seed,
        precision=config.precision,
        compile=config.compile,
        faults=config.faults,
        best=config.best,
        fresh_steps=tuple(sorted({phase.from_step for phase in (*config.mixture, *config.curriculum) if phase.from_step})),
        norms_every=config.norms_every,
        profile=config.profile,
    )


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
        told = continued_story(stream, config.pretrain.steps)
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

    from model.distributed.device import choose_precision, process_rank
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
        write_audit(audit_stream(rows, result.step, job.shards / "documents-train.parquet", left_out, job.begun_at), out / "audit.json")
        targets, size = validation_text(held, training.evaluate_batches, tokenizer)
        device = next(model.parameters()).device
        figures = {
            "step": result.step,
            "loss": result.loss,
            "validation_loss": result.validation_loss,
            "tokens": result.tokens,
            "parameters": sum(p.numel() for p in model.parameters()),
            "embeddings_from_vectors": filled,
            "precision": str(choose_precision(training.precision, device)).removeprefix("torch."),
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
