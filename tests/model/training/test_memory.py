import sys
from pathlib import Path

import pytest
import torch

from model.training.memory import peak_memory_bytes


@pytest.mark.skipif(sys.platform != "linux", reason="compared with /proc")
def test_peak_is_what_the_system_says_in_bytes() -> None:
    block = torch.ones(20_000_000)
    lines = Path("/proc/self/status").read_text().splitlines()
    told = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024
    assert peak_memory_bytes(torch.device("cpu")) == pytest.approx(told, rel=0.05)
    assert told > block.nbytes
