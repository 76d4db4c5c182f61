"""Sides of a training step: Wordmill, nanoGPT and transformers, one shape, forward to zeroed gradients.

python -m benchmarks.model_sides SIDE SHAPE ROWS STEPS [NANOGPT]    # the peak memory of a process that does nothing else

Imports torch and model/ alone; the peers are imported where they are built.
"""

import contextlib
import importlib.util
import io
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.sides import Row, tell
from model.config.model_config import PRESETS, ModelConfig
from model.config.training_config import OptimizerConfig
from model.data.batches import Batch
from model.distributed.device import choose_precision
from model.distributed.parallel import Scored
from model.nn.float8 import use_float8
from model.nn.models import LanguageModel, set_compute_dtype
from model.optim.optimizer import build_optimizer

SEED = 20
OUR_MODES = ("ours", "ours-float32", "ours-float8")
NANOGPT_MODES = ("nanogpt", "nanogpt-autocast", "nanogpt-compiled", "nanogpt-compiled-autocast")  # the first is its default on a CPU
Step = Callable[[], Tensor]  # one optimizer step; the mean loss
ADAMW = OptimizerConfig()


@dataclass(frozen=True)
class Shape:
    """One model and its batch."""

    name: str
    model: ModelConfig
    vocab_size: int
    rows: int  # on a CPU; a GPU is filled

    @property
    def tokens(self) -> int:
        """Of a step."""
        return self.rows * self.model.context


SHAPES = {
    shape.name: shape
    for shape in (
        Shape("gpt2-small", ModelConfig("gpt2", layers=6, width=256, heads=4, context=256), 8192, 8),
        Shape("llama-small", ModelConfig("llama", layers=6, width=256, heads=4, context=256), 8192, 8),
        Shape("gpt2-tiny", ModelConfig("gpt2", layers=2, width=64, heads=2, context=64), 512, 2),
        Shape("llama-tiny", ModelConfig("llama", layers=2, width=64, heads=2, context=64), 512, 2),
        Shape("gpt2-124m", PRESETS["gpt2-124m"], 50304, 8),
        Shape("gpt2-350m", PRESETS["gpt2-350m"], 50304, 8),
        Shape("llama-1.3b", PRESETS["llama-1.3b"], 50304, 8),
    )
}


@dataclass(frozen=True)
class Machine:
    """Where a side runs, and how."""

    device: torch.device
    compiles: bool
    nanogpt: Path | None


def build(side: str, shape: Shape, machine: Machine) -> Step:
    """A side's step on one fixed batch. ValueError for a side that has no such shape."""
    torch.manual_seed(SEED)
    shifted = torch.randint(shape.vocab_size, (shape.rows, shape.model.context + 1)).to(machine.device)
    ids, targets = shifted[:, :-1].contiguous(), shifted[:, 1:].contiguous()
    if side in OUR_MODES:
        return _ours(side, shape, machine, ids, targets)
    if side in NANOGPT_MODES:
        return _nanogpt(shape, replace(machine, compiles=machine.compiles or "compiled" in side), ids, targets, "autocast" in side)
    if side == "transformers":
        return _transformers(shape, machine, ids)
    raise ValueError(f"side {side!r}: expected one of {', '.join((*OUR_MODES, *NANOGPT_MODES))}, transformers")


def _ours(side: str, shape: Shape, machine: Machine, ids: Tensor, targets: Tensor) -> Step:
    model = LanguageModel(shape.model, shape.vocab_size).to(machine.device).train()
    set_compute_dtype(model, choose_precision("float32" if side == "ours-float32" else "auto", machine.device))
    if side == "ours-float8":
        use_float8(model, machine.device)
    optimizer = build_optimizer(model, ADAMW)
    lengths = torch.full((len(ids),), ids.shape[1], device=machine.device)
    batch = Batch(ids, targets, lengths)
    scored = Scored(model)
    losses = torch.compile(scored) if machine.compiles else scored
    return _step(lambda: losses(batch)[0] / targets.numel(), optimizer)


def _nanogpt(shape: Shape, machine: Machine, ids: Tensor, targets: Tensor, autocasts: bool) -> Step:
    """Its model and its optimizer; on a GPU autocast and compiled, as its train.py does, on a CPU in the mode that is asked for."""
    if machine.nanogpt is None or shape.model.family != "gpt2":
        raise ValueError(f"nanogpt: has no {shape.name}, or no checkout was named")
    spec = importlib.util.spec_from_file_location("nanogpt_model", machine.nanogpt / "model.py")
    assert spec is not None
    assert spec.loader is not None
    theirs = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = theirs  # its dataclass asks there
    with contextlib.redirect_stdout(io.StringIO()):
        spec.loader.exec_module(theirs)
        model: nn.Module = theirs.GPT(
            theirs.GPTConfig(
                block_size=shape.model.context,
                vocab_size=shape.vocab_size,
                n_layer=shape.model.layers,
                n_head=shape.model.heads,
                n_embd=shape.model.width,
                dropout=0.0,
                bias=True,
            )
        ).to(machine.device)
        optimizer: torch.optim.Optimizer = model.configure_optimizers(  # type: ignore[operator]
            ADAMW.weight_decay, ADAMW.learning_rate, (ADAMW.beta1, ADAMW.beta2), machine.device.type
        )
    forward = torch.compile(model) if machine.compiles else model

    def loss() -> Tensor:
        with torch.autocast(machine.device.type, torch.bfloat16, enabled=autocasts or machine.device.type == "cuda"):
            return forward(ids, targets)[1]

    return _step(loss, optimizer)


def _transformers(shape: Shape, machine: Machine, ids: Tensor) -> Step:
    """Its model with its own loss and stock attention kernels; fused AdamW, its Trainer's default."""
    config = shape.model
    if config.family == "gpt2":
        from transformers import GPT2Config, GPT2LMHeadModel

        model: nn.Module = GPT2LMHeadModel(
            GPT2Config(
                vocab_size=shape.vocab_size,
                n_positions=config.context,
                n_embd=config.width,
                n_layer=config.layers,
                n_head=config.heads,
                resid_pdrop=0.0,
                embd_pdrop=0.0,
                attn_pdrop=0.0,
                use_cache=False,
                attn_implementation="sdpa",
            )
        )
    else:
        from transformers import LlamaConfig, LlamaForCausalLM

        model = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=shape.vocab_size,
                max_position_embeddings=config.context,
                hidden_size=config.width,
                num_hidden_layers=config.layers,
                num_attention_heads=config.heads,
                intermediate_size=config.hidden_width,
                tie_word_embeddings=True,
                use_cache=False,
                attn_implementation="sdpa",
            )
        )
    model = model.to(machine.device).train()
    optimizer = torch.optim.AdamW(model.parameters(), ADAMW.learning_rate, (ADAMW.beta1, ADAMW.beta2), fused=True)
    forward = torch.compile(model) if machine.compiles else model

    def loss() -> Tensor:
        with torch.autocast(machine.device.type, torch.bfloat16, enabled=machine.device.type == "cuda"):
            return forward(input_ids=ids, labels=ids).loss

    return _step(loss, optimizer)


def _step(loss: Step, optimizer: torch.optim.Optimizer) -> Step:
    def step() -> Tensor:
        mean = loss()
        mean.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return mean.detach()

    return step


def resident(kind: str) -> float:
    """Megabytes (10^6) of this process: VmRSS now, VmHWM at its peak. Linux alone tells."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(kind)) * 1024 / 1e6


def main() -> None:
    """The command above, on a CPU."""
    side, name, rows, steps, *nanogpt = sys.argv[1:]
    torch.set_num_threads(1)
    shape = replace(SHAPES[name], rows=int(rows))
    before, startup = resident("VmRSS"), time.process_time()
    step = build(side, shape, Machine(torch.device("cpu"), False, Path(nanogpt[0]) if nanogpt else None))
    losses = [step().item() for _ in range(int(steps))]
    facts: Row = {"peak": resident("VmHWM"), "imports": before, "first_loss": losses[0], "last_loss": losses[-1]}
    tell(shape.tokens * int(steps), time.process_time() - startup, startup, facts)


if __name__ == "__main__":
    main()
