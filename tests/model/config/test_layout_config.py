import pytest

from model.config.layout_config import LayoutConfig, check_layout, check_optimizer
from model.config.model_config import ModelConfig

LLAMA = ModelConfig("llama", width=96, heads=12, kv_heads=6, mlp_width=240)


def test_layers_that_cannot_be_divided_are_told_with_the_numbers_that_can():
    with pytest.raises(ValueError, match=r"layout.tensor 4 does not divide the model's kv_heads 6; .*: 1, 2, 3, 6"):
        check_layout(LayoutConfig(tensor=4), LLAMA, (4, 4), 8, 8)
    check_layout(LayoutConfig(tensor=3), LLAMA, (3, 3), 8, 8)


def test_family_without_a_plan_is_told_those_that_have_one():
    with pytest.raises(ValueError, match=r"pretrain.layout.tensor 2: family bert has no plan for it, gpt2 and llama have"):
        check_layout(LayoutConfig(tensor=2), ModelConfig("bert"), (2, 2), 8, 8, "pretrain.")


def test_every_number_of_workers_of_an_elastic_training_must_be_divisible():
    with pytest.raises(
        ValueError, match=r"layout.tensor 2 does not divide 3 processes, which workers \[2, 4\] allows: set workers to one number"
    ):
        check_layout(LayoutConfig(tensor=2), LLAMA, (2, 4), 8, 8)
    with pytest.raises(
        ValueError, match=r"layout.tensor 2 does not divide 1 process: set workers to a multiple of 2, or tensor to one of 1"
    ):
        check_layout(LayoutConfig(tensor=2), LLAMA, (1, 1), 8, 8)


def test_shards_need_equally_many_passes():
    with pytest.raises(ValueError, match=r"layout.shards: 3 processes have unequal shares of 8 rows, .*: set micro_rows to 2"):
        check_layout(LayoutConfig(shards=True), LLAMA, (3, 3), 8, 1)
    check_layout(LayoutConfig(shards=True), LLAMA, (1, 4), 8, 2)
    check_layout(LayoutConfig(shards=True), LLAMA, (1, 1), 8, 1)


def test_optimizers_that_need_whole_matrices_are_refused_where_matrices_are_divided():
    with pytest.raises(ValueError, match=r"layout.tensor 2: optimizer.kind muon needs whole matrices"):
        check_optimizer(LayoutConfig(tensor=2), "muon")
    with pytest.raises(ValueError, match=r"layout.shards: optimizer.kind adafactor needs whole matrices"):
        check_optimizer(LayoutConfig(shards=True), "adafactor")
    check_optimizer(LayoutConfig(shards=True), "muon")
    check_optimizer(LayoutConfig(shards=True, tensor=2), "lion")
