import pytest
import torch

from model.distributed.device import choose_precision, process_rank

CPU = torch.device("cpu")


@pytest.mark.parametrize(("has_avx512", "has_amx"), [(False, False), (True, False), (False, True)])
def test_auto_takes_bfloat16_only_on_a_cpu_that_has_it(monkeypatch: pytest.MonkeyPatch, has_avx512: bool, has_amx: bool):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: has_avx512)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: has_amx)
    assert choose_precision("auto", CPU) == (torch.bfloat16 if has_avx512 or has_amx else torch.float32)


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
