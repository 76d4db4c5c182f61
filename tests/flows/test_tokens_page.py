"""What docs/tokens.md shows works as it stands there: its commands, its settings, its code."""

import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import yaml

from flows.cli import cli
from tasks.pretrain.config import PretrainConfig
from tasks.shards.shards import ShardsConfig

if TYPE_CHECKING:
    from tests.flows.conftest import Built

PAGE = (Path(__file__).parents[2] / "docs" / "tokens.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    found = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    return [text for name, text in found if name == language]


COMMANDS = [shlex.split(line)[1:] for block in blocks("") for line in block.splitlines() if line.startswith("wordmill ")]


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_command_is_understood(arguments: list[str]) -> None:
    name, *rest = arguments
    cli.commands[name].make_context(name, rest)


def test_settings_are_accepted() -> None:
    (settings,) = map(yaml.safe_load, blocks("yaml"))
    assert ShardsConfig.model_validate(settings["shards"]).group_by == "language"
    assert [phase.from_step for phase in PretrainConfig.model_validate(settings["pretrain"]).curriculum] == [0, 5000]


def test_shards_open_and_decode_as_shown(built: "Built", tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path))
    code = blocks("python")[0].replace("workspace/shards/*", str(built.folder("shards")))
    names: dict[str, object] = {}
    exec(code, names)
    ids = names["ids"]
    assert isinstance(ids, np.ndarray)
    assert (ids.dtype, ids.shape) == (np.uint16, (33,))


def test_loader_works_on_its_own_as_shown(built: "Built") -> None:
    code = blocks("python")[1].replace("workspace/shards/<fingerprint>", str(built.folder("shards")))
    names: dict[str, object] = {}
    exec(code, names)
    batch, loader = names["batch"], iter(names["loader"])  # type: ignore[call-overload]
    assert batch.ids.shape == (64, 32)  # type: ignore[attr-defined]
    assert next(loader).ids.shape == (8, 32)
