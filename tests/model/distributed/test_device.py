from collections.abc import Iterator

import pytest
import torch

from model.distributed import device
from model.distributed.device import choose_precision, process_rank

CPU = torch.device("cpu")


def _cpu_multiplies_in_bfloat16(gain: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "_product_seconds", lambda dtype: 1.0 if dtype == torch.bfloat16 else gain)
    device._bfloat16_gain.cache_clear()


@pytest.mark.parametrize(("gain", "chosen"), [(0.03, torch.float32), (0.55, torch.float32), (1.9, torch.bfloat16), (6.0, torch.bfloat16)])
def test_auto_takes_bfloat16_only_on_a_cpu_that_multiplies_faster_in_it(monkeypatch: pytest.MonkeyPatch, gain: float, chosen: torch.dtype):
    _cpu_multiplies_in_bfloat16(gain, monkeypatch)
    assert choose_precision("auto", CPU) == chosen


@pytest.mark.parametrize("gain", [1.1, 1.3])
def test_a_run_goes_on_in_the_precision_it_began_with_where_the_measurement_is_near_the_limit(monkeypatch: pytest.MonkeyPatch, gain: float):
    _cpu_multiplies_in_bfloat16(gain, monkeypatch)
    assert choose_precision("auto", CPU, before=torch.bfloat16) == torch.bfloat16
    assert choose_precision("auto", CPU, before=torch.float32) == torch.float32


def test_a_run_that_moved_to_a_cpu_that_emulates_bfloat16_goes_on_in_float32(monkeypatch: pytest.MonkeyPatch):
    _cpu_multiplies_in_bfloat16(0.03, monkeypatch)
    assert choose_precision("auto", CPU, before=torch.bfloat16) == torch.float32


@pytest.fixture(autouse=True)
def _measured_anew() -> Iterator[None]:
    yield
    device._bfloat16_gain.cache_clear()


def test_asked_precision_is_taken():
    assert choose_precision("float32", CPU) == torch.float32
    assert choose_precision("bfloat16", CPU) == torch.bfloat16


def test_rank_comes_from_torchrun(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert process_rank() == (3, 4)
    monkeypatch.delenv("RANK")
    monkeypatch.delenv("WORLD_SIZE")
    assert process_rank() == (0, 1)


def test_gpu_without_bfloat16_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: False)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Tesla T4")
    with pytest.raises(ValueError, match="precision bfloat16: Tesla T4 has none; set it to float32, or to auto"):
        choose_precision("bfloat16", torch.device("cuda"))
    assert choose_precision("auto", torch.device("cuda")) == torch.float32
