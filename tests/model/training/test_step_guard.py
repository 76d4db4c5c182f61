import math

import pytest
import torch

from model.config.training_config import FaultConfig
from model.training.step_guard import StepGuard


def judged(guard: StepGuard, loss: float, norm: float = 1.0) -> bool:
    return bool(guard.judge(torch.tensor(loss), torch.tensor(norm)).takes)


def warm(losses: list[float], window: int = 8, deviations: float = 6.0) -> StepGuard:
    guard = StepGuard(FaultConfig(window=window, deviations=deviations), torch.device("cpu"))
    assert all(judged(guard, loss) for loss in losses)
    return guard


def test_bound_is_the_mean_and_six_deviations_of_the_window():
    losses = [9.0, 2.0, 2.4, 2.0, 2.4, 2.0, 2.4, 2.0, 2.4]  # the first has left the window of 8: mean 2.2, deviation 0.2
    bound = 2.2 + 6 * 0.2
    assert judged(warm(losses), bound - 1e-3)
    assert not judged(warm(losses), bound + 1e-3)


def test_nothing_is_judged_before_half_the_window_was_seen():
    assert judged(warm([1.0] * 3), 100.0)
    assert not judged(warm([1.0] * 4), 100.0)


def test_smooth_curve_bears_a_tenth_of_a_nat_and_three_times_the_norm():
    assert judged(warm([2.0] * 8), 2.09)
    assert not judged(warm([2.0] * 8), 2.11)
    assert judged(warm([2.0] * 8), 2.0, norm=2.9)
    assert not judged(warm([2.0] * 8), 2.0, norm=3.1)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_skipped_from_the_first_step_on_and_leaves_the_window_as_it_was(value: float):
    guard = StepGuard(FaultConfig(), torch.device("cpu"))
    assert not judged(guard, value)
    assert not judged(guard, 1.0, norm=abs(value))
    assert all(math.isinf(bound) for bound in guard.judge(torch.tensor(1.0), torch.tensor(1.0)).bounds.tolist())
    assert torch.isfinite(guard.state()["values"]).all()


def test_gradient_of_zero_is_taken():
    assert judged(warm([1.0] * 8), 1.0, norm=0.0)


def test_level_that_has_changed_for_good_is_let_in_within_ten_steps():
    guard = warm([2.0, 2.1] * 64, window=128)
    skipped = [not judged(guard, 2.6) for _ in range(20)]
    assert skipped[0]
    assert 1 < sum(skipped) < 10
    assert not any(skipped[10:])


def test_forgotten_window_lets_anything_finite_pass():
    guard = warm([2.0] * 8)
    guard.forget()
    assert judged(guard, 9.0)


def test_steps_skipped_in_a_row_are_counted_anew_after_one_that_was_taken():
    guard = warm([2.0] * 8)
    counts = [int(guard.judge(torch.tensor(loss), torch.tensor(1.0)).in_a_row) for loss in (9.0, math.nan, 2.0, 9.0)]
    assert counts == [1, 2, 0, 1]


def test_normal_noise_is_never_skipped():
    generator = torch.Generator().manual_seed(1)
    guard = StepGuard(FaultConfig(), torch.device("cpu"))
    noise = torch.randn(3000, 2, generator=generator)
    assert all(bool(guard.judge(3 + 0.1 * one[0], (0.3 * one[1]).exp()).takes) for one in noise)


def test_state_comes_back_and_one_of_another_window_is_refused():
    guard, other = warm([2.0, 2.4] * 8), StepGuard(FaultConfig(window=8), torch.device("cpu"))
    other.load(guard.state())
    for loss in (2.1, 9.0, 3.4):
        one, two = (each.judge(torch.tensor(loss), torch.tensor(1.0)) for each in (guard, other))
        assert torch.equal(one.bounds, two.bounds)
        assert bool(one.takes) == bool(two.takes)
    with pytest.raises(ValueError, match="faults.window was 8 and is now 16; set it back"):
        StepGuard(FaultConfig(window=16), torch.device("cpu")).load(guard.state())
