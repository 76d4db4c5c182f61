"""The machine as manifests note it."""

from pathlib import Path

import pytest

from tasks import machine
from tasks.machine import Gpu, Machine, gpus_in


def test_gpus_are_read_from_what_nvidia_smi_prints() -> None:
    told = "NVIDIA H100 80GB HBM3, 81559\nNVIDIA, of two words, 40960\nNo devices were found\n"
    assert gpus_in(told) == (Gpu("NVIDIA H100 80GB HBM3", 81559 * 2**20), Gpu("NVIDIA, of two words", 40960 * 2**20))


def test_kind_counts_equal_gpus_and_leaves_the_memory_out() -> None:
    gpus = (Gpu("A", 1), Gpu("B", 1), Gpu("A", 1))
    assert Machine("Xeon", 4, 8, gpus).kind == {"processor": "Xeon", "cores": "4", "gpus": "2 x A, 1 x B"}
    assert Machine("Xeon", 4, 8).kind == {"processor": "Xeon", "cores": "4"}


def test_limits_of_a_container_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "job" / "step").mkdir(parents=True)
    (tmp_path / "own").write_text("0::/job/step\n")
    (tmp_path / "job" / "memory.max").write_text("1000000\n")
    (tmp_path / "job" / "step" / "memory.max").write_text("max\n")
    (tmp_path / "job" / "cpu.max").write_text("150000 100000\n")
    monkeypatch.setattr(machine, "CGROUPS", tmp_path)
    monkeypatch.setattr(machine, "OWN_CGROUP", tmp_path / "own")
    machine.this_machine.cache_clear()
    try:
        found = machine.this_machine()
    finally:
        machine.this_machine.cache_clear()
    assert found.memory == 1_000_000
    assert found.cores <= 2
