"""Gate settings: what a challenger must be better at, by how much and how surely, and what it may not be worse at."""

from typing import Annotated, Literal

from pydantic import Field

from tasks.settings import Placement, Section


class Guard(Section):
    """A figure of a suite that a challenger may not be worse at."""

    suite: Annotated[str, Placement()] = Field(min_length=1, description="a suite's YAML file, as for wordmill evaluate")
    metric: str = Field(min_length=1, description="one of the figures that the suite yields")
    tolerance: float = Field(default=0.0, ge=0, description="by how much it may be worse, in the figure's own unit")


class GateConfig(Section):
    """The rule by which the champion alias moves."""

    revision: Literal[2] = 2
    margin: float = Field(default=0.0, ge=0, description="by how much the deciding figure must be better, in its own unit")
    confidence: float = Field(
        default=0.95, gt=0.5, lt=1, description="of all promotions under a name together: the share that is no work of luck, at the least"
    )
    min_items: int = Field(default=20, ge=2, description="items to judge on, or documents or groups of them; with fewer: cannot tell")
    general_tolerance: float | None = Field(
        default=0.05,
        ge=0,
        description="bits per byte that general held-out text may lose, against the champion and against the base that it came from; "
        "null: not asked",
    )
    task_tolerance: float | None = Field(
        default=0.02, ge=0, description="that the champion's other tasks may lose, each in its deciding figure; null: not asked"
    )
    guards: tuple[Guard, ...] = ()
    score_base: bool = Field(
        default=False, description="ask the model that a fine-tuning started from the deciding items too, and show it; it decides nothing"
    )
    max_items: int = Field(default=500, ge=2, description="items of each guard, those with the lowest hash")
    resamples: int = Field(default=10_000, ge=1_000, description="bootstrap draws")
    seed: int = Field(default=1, ge=0, lt=2**31, description="of the draws")
