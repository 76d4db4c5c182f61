"""Whether a training fits, and what would."""

from pathlib import Path

import pytest

from flows.recipe import Recipe
from tasks.cluster import ClusterConfig
from tasks.planning.fitting import LIBRARY_BYTES, fit_of
from tasks.planning.hardware import hardware_of
from tasks.planning.training_work import TrainingWork, pretraining_work
from tests.earlier_runs import finetuning, machine, pretraining
from tests.flows.recipe_text import load_recipe

FULL = str(Path(__file__).parents[3] / "configs" / "full.yaml")
HERE = machine()


def full(*overrides: str) -> tuple[TrainingWork, ClusterConfig]:
    recipe = load_recipe(Recipe, FULL, ["cluster.device_memory=6GB", *overrides])
    return pretraining_work(recipe.pretraining, recipe.model, recipe.tokenizer.vocab_size, recipe.shards.context), recipe.cluster


def test_training_that_does_not_fit_names_its_largest_part_and_three_settings_that_do() -> None:
    work, cluster = full()
    fit = fit_of(work, hardware_of(work, cluster, HERE), HERE)
    assert (fit.verdict, fit.largest, fit.is_refused) == ("does not fit", "activations", True)
    assert len(fit.nearest) == 3
    for setting in fit.nearest:
        changed, _ = full(*setting.keys)
        again = fit_of(changed, hardware_of(changed, cluster, HERE), HERE)
        assert again.peak == setting.peak, setting
        assert again.verdict == "fits", setting


def test_training_that_fits_has_no_settings_to_change() -> None:
    work = pretraining()
    fit = fit_of(work, hardware_of(work, ClusterConfig(), HERE), HERE)
    assert (fit.verdict, fit.nearest, fit.room) == ("fits", (), HERE.memory)


def test_workers_of_one_machine_share_its_memory() -> None:
    work = pretraining(workers=4)
    assert hardware_of(work, ClusterConfig(), HERE).memory == HERE.memory // 4


def test_memory_that_nobody_told_is_not_judged() -> None:
    work = pretraining(workers=8, gpus_per_worker=1)
    fit = fit_of(work, hardware_of(work, ClusterConfig(), HERE), HERE)
    assert (fit.verdict, fit.is_refused, fit.nearest) == ("not known", False, ())


@pytest.mark.parametrize("settings", [{"freeze": "trunk"}, {"lora": {"rank": 4}}])
def test_frozen_weights_have_no_gradients_and_moments(settings: dict) -> None:
    whole, frozen = (finetuning(**chosen).memory("float32", False) for chosen in ({}, settings))
    assert frozen.weights == whole.weights
    assert frozen.gradients < 0.1 * whole.gradients
    assert frozen.optimizer < 0.1 * whole.optimizer


def test_peak_counts_the_libraries_of_the_process() -> None:
    work = pretraining()
    assert fit_of(work, hardware_of(work, ClusterConfig(), HERE), HERE).peak == work.memory("float32", False).peak + LIBRARY_BYTES


@pytest.mark.parametrize(
    ("optimizer", "least", "most"),
    [({}, 8, 8), ({"state_dtype": "bfloat16"}, 4, 4), ({"kind": "lion"}, 4, 4), ({"kind": "muon"}, 5, 7), ({"kind": "adafactor"}, 0, 0)],
)
def test_moments_are_those_of_the_optimizer(optimizer: dict, least: int, most: int) -> None:
    work = pretraining(optimizer=optimizer)
    assert least * work.parameters <= work.memory("float32", False).optimizer <= most * work.parameters
