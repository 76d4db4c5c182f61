import pytest
import torch

from model.config.model_config import ModelConfig
from model.nn.models import LanguageModel, SequenceClassifier
from model.training.budget import flops_per_token, trunk_flops_per_token
from model.training.peak import flops_of, measured_peak, of_data_sheet

CPU = torch.device("cpu")


def test_peak_of_a_cpu_is_measured_once_and_says_so() -> None:
    found = measured_peak(CPU, torch.float32)
    assert 1e8 < found.flops < 1e14
    assert found.told.startswith("1 thread of this CPU, float32: ")
    assert measured_peak(CPU, torch.float32) is found


@pytest.mark.parametrize(
    ("name", "dtype", "teraflops"),
    [
        ("NVIDIA H200", torch.bfloat16, 989.5),
        ("NVIDIA H100 PCIe", torch.bfloat16, 756.5),
        ("NVIDIA H100 80GB HBM3", torch.float32, 67),
        ("NVIDIA A100-SXM4-80GB", torch.bfloat16, 312),
        ("NVIDIA L4", torch.bfloat16, 121),
        ("NVIDIA L40S", torch.bfloat16, 362),
        ("NVIDIA GeForce RTX 4090", torch.bfloat16, 165.2),
        ("Tesla V100-SXM2-16GB", torch.float32, 15.7),
        ("Tesla T4", torch.float16, 65),
    ],
)
def test_gpu_that_is_known_has_the_peak_of_its_data_sheet(name: str, dtype: torch.dtype, teraflops: float) -> None:
    found = of_data_sheet(name, dtype)
    assert found is not None
    assert found.flops == teraflops * 1e12
    assert "data sheet" in found.told or "architecture" in found.told


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("NVIDIA H100 80GB HBM3 MIG 1g.10gb", torch.bfloat16),
        ("NVIDIA A10G", torch.bfloat16),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", torch.bfloat16),
        ("Tesla T4", torch.bfloat16),
        ("NVIDIA H200", torch.float64),
    ],
)
def test_gpu_without_a_data_sheet_that_fits_is_to_be_measured(name: str, dtype: torch.dtype) -> None:
    assert of_data_sheet(name, dtype) is None


def test_language_model_is_counted_as_the_budget_counts_it(tiny: ModelConfig) -> None:
    assert flops_of(LanguageModel(tiny, 61), 16.0) == pytest.approx(flops_per_token(tiny, 61, 16))


def test_of_another_head_the_trunk_alone_is_counted(tiny: ModelConfig) -> None:
    assert flops_of(SequenceClassifier(tiny, 61, 3), 16.0) == pytest.approx(trunk_flops_per_token(tiny, 16))


def test_what_is_frozen_has_a_forward_pass_only(tiny: ModelConfig) -> None:
    model = SequenceClassifier(tiny, 61, 3)
    whole = flops_of(model, 16.0)
    model.trunk.embedding.requires_grad_(False)
    model.trunk.stack.blocks[0].requires_grad_(False)
    half = flops_of(model, 16.0)  # activations of one layer of two, weights of that one
    model.trunk.requires_grad_(False)
    assert flops_of(model, 16.0) == pytest.approx(whole / 3, rel=0.02)  # the head's own weights are a few
    assert whole * (1 + 0.5) / 3 < half < whole * (1 + 0.5 + 0.5) / 3
