import copy
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from model.config.training_config import OptimizerConfig
from model.optim.optimizer import build_optimizer, step_where
from tests.model.processes import run_processes

TIMEOUT_SECONDS = 120  # of each process; 5 s on a quiet machine
PROCESSES = 2
CONFIGS = {
    "muon": OptimizerConfig(kind="muon", learning_rate=0.02),
    "muon in bfloat16": OptimizerConfig(kind="muon", learning_rate=0.02, state_dtype="bfloat16"),
    "adamw in bfloat16": OptimizerConfig(learning_rate=0.02, state_dtype="bfloat16"),
    "lion": OptimizerConfig(kind="lion", learning_rate=0.001),
    "sgd": OptimizerConfig(kind="sgd", learning_rate=0.1),
}


def small_model() -> nn.ModuleDict:
    """Layers where a trunk's are; 5 and 13 rows do not divide by two."""
    torch.manual_seed(3)
    layers = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 13), nn.Tanh(), nn.Linear(13, 5), nn.Tanh(), nn.Linear(5, 5))
    return nn.ModuleDict({"trunk": layers})


def trained(model: nn.ModuleDict, config: OptimizerConfig) -> list[torch.Tensor]:
    """The whole weights after steps of which the second is skipped."""
    optimizer = build_optimizer(model, config)
    for number in range(4):
        inputs = torch.randn(8, 6, generator=torch.Generator().manual_seed(number))
        model["trunk"](inputs).square().sum().backward()
        step_where(optimizer, torch.tensor(number != 1))
        optimizer.zero_grad()
    return [parameter.full_tensor() if isinstance(parameter, DTensor) else parameter.detach() for parameter in model.parameters()]


def work(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=PROCESSES)
    mesh = init_device_mesh("cpu", (PROCESSES,))
    found: dict[str, list[torch.Tensor]] = {}
    for name, config in CONFIGS.items():
        whole, divided = small_model(), copy.deepcopy(small_model())
        for layer in divided["trunk"]:
            fully_shard(layer, mesh=mesh)
        fully_shard(divided["trunk"], mesh=mesh)
        found[f"{name}, replicated"] = trained(whole, config)
        found[f"{name}, sharded"] = trained(divided, config)
    torch.save(found, folder / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the processes left what they trained."""
    folder = tmp_path_factory.mktemp("several")
    run_processes(work, (folder,), PROCESSES, TIMEOUT_SECONDS)
    return folder


@pytest.mark.parametrize("layout", ["replicated", "sharded"])
@pytest.mark.parametrize("name", CONFIGS)
def test_two_processes_take_the_steps_of_one(several: Path, name: str, layout: str):
    alone = trained(small_model(), CONFIGS[name])
    first, second = (torch.load(several / f"{rank}.pt")[f"{name}, {layout}"] for rank in range(PROCESSES))
    for one, ours, others in zip(alone, first, second, strict=True):
        assert torch.equal(ours, others)
        assert torch.allclose(one, ours, atol=1e-5)
