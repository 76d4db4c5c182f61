"""Start settings: the checkpoint of another pretraining that one begins at, and what it takes over."""

from typing import Annotated

from pydantic import Field, field_validator, model_validator

from model.training.start import Counts
from tasks.settings import Placement, Section


class StartConfig(Section):
    """Where a pretraining begins. The checkpoint's content is the identity, not the place where it lies."""

    from_: Annotated[str, Placement()] = Field(
        alias="from",
        min_length=1,
        description="a pretraining: its fingerprint, or the first digits; or the folder of an artifact or of a checkpoint",
    )
    step: Annotated[int | None, Placement()] = Field(default=None, ge=1, description="of a checkpoint that was kept; null: the newest")
    counts: Counts = Field(
        default="on", description="on: steps, schedule, data and random states go on; anew: they begin again, with these weights"
    )
    keeps_moments: bool = Field(default=True, description="the optimizer's moments are taken too")

    @field_validator("from_", mode="before")
    @classmethod
    def _is_text(cls, given: object) -> object:
        """YAML takes a fingerprint of digits alone for a number."""
        if isinstance(given, int | float):
            raise ValueError(f"found the number {given}; put a fingerprint of digits alone in quotes")
        return given

    @model_validator(mode="after")
    def _goes_on_whole(self) -> "StartConfig":
        if self.counts == "on" and not self.keeps_moments:
            raise ValueError("counts on goes on with the optimizer's moments: set counts to anew, or leave keeps_moments out")
        return self
