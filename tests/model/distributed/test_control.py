from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist

from model.distributed.control import Control, _timeout


def test_process_that_is_alone_sums_and_gathers_what_it_has() -> None:
    control = Control()
    assert control.sums(1.5, 2) == [1.5, 2]
    (alone,) = control.gathered(torch.tensor([3]))
    assert alone.tolist() == [3]


def test_wait_is_bounded_as_that_of_the_default_group(tmp_path: Path) -> None:
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/rendezvous", rank=0, world_size=1, timeout=timedelta(seconds=77))
    try:
        assert _timeout(torch.device("cpu")) == timedelta(seconds=77)
        assert Control().sums(1.0) == [1.0]
    finally:
        dist.destroy_process_group()
