"""Asking both models: challenger and champion are judged on the same items, each set of them once."""

from dataclasses import dataclass, field
from pathlib import Path

from tasks.artifacts import FinetunedModel, PretrainedModel
from tasks.errors import UserError
from tasks.items import Asked, Judge
from tasks.memory import Memory
from tasks.promotion.champion import Rival
from tasks.promotion.comparing import Sheet


class Unscorable(Exception):
    """The champion cannot be scored, for this reason."""


@dataclass(frozen=True)
class Challenger:
    """The model that wants to be the champion."""

    artifact: PretrainedModel | FinetunedModel
    scores: Sheet  # of its own evaluation, with baselines
    memory: Memory | None
    examples: Path | None  # folder of what it was tuned on and is judged on; None: a pretrained model
    learned: str  # what people call those

    @property
    def folder(self) -> Path:
        """Weights, config, tokenizer."""
        return self.artifact.path / "model"


@dataclass(frozen=True)
class Asking:
    """Who is asked, by whom, and where the answers lie."""

    judge: Judge
    challenger: Path  # the model's folder
    rival: Rival | None
    out: Path
    base: Path | None = None  # the folder of the model that the challenger started from, where it is asked too
    _known: dict[tuple[str, Asked], Sheet] = field(default_factory=dict[tuple[str, Asked], Sheet])

    def of_challenger(self, asked: Asked) -> Sheet:
        """What the challenger makes of it. UserError where it can make nothing of it."""
        return self._ask("challenger", self.challenger, asked)

    def of_rival(self, asked: Asked) -> Sheet:
        """What the champion makes of it. Unscorable where that cannot be had."""
        assert self.rival is not None
        if self.rival.problem or self.rival.model is None:
            raise Unscorable(self.rival.problem or "its files are gone")
        try:
            return self._ask("champion", self.rival.model, asked)
        except UserError as error:
            raise Unscorable(f"{asked.label}: {error}") from error

    def of_base(self, asked: Asked) -> Sheet:
        """What the base makes of it. UserError where it can make nothing of it."""
        assert self.base is not None
        return self._ask("base", self.base, asked)

    def _ask(self, who: str, model: Path, asked: Asked) -> Sheet:
        if (who, asked) not in self._known:
            folder = self.out / "judged" / f"{len(self._known) + 1:02}-{who}"
            folder.mkdir(parents=True)
            self.judge(model, asked, folder)
            self._known[who, asked] = Sheet.read(folder)
        return self._known[who, asked]
