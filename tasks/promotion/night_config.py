"""Night settings: how much of what the champion learned before is learned again, and when new rows are too unlike it."""

from typing import Literal

from pydantic import Field

from tasks.promotion.drift import DriftConfig
from tasks.promotion.notify_config import NotifyConfig
from tasks.settings import Section


class NightConfig(Section):
    """How a fine-tuning on new rows alone goes about it."""

    revision: Literal[1] = 1
    replay: float = Field(
        default=0.25, ge=0, le=0.9, description="share of the optimizer steps for what was learned before: examples, and text; 0: none"
    )
    drift: DriftConfig = DriftConfig()
    notify: NotifyConfig = NotifyConfig()
