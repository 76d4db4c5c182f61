"""Registration settings: the name that a model gets, when it may become the champion, how long a silent registry is waited for."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from tasks.settings import Placement, Section

Promote = Literal["better", "always", "never"]
RegistryName = Annotated[str, Field(pattern=r"^[\w.-]+$")]


class RegisterConfig(Section):
    """Under which name a model is registered, and when it becomes the champion."""

    revision: Literal[2] = 2
    name: RegistryName = Field(default="wordmill", description="of the base; a fine-tuned model has one of its own")
    names: dict[str, RegistryName] = Field(default={}, description="a fine-tuned model's name -> its registry name")
    promote: Promote = Field(default="better", description="when the champion alias moves: better, as the section gate has it")
    wait_seconds: Annotated[int, Placement()] = Field(default=120, ge=1, description="for an MLflow that takes no answer, at most")

    @model_validator(mode="before")
    @classmethod
    def _refuse_moved_key(cls, values: object) -> object:
        """What lay here before there was a gate is refused with what to write instead."""
        if isinstance(values, dict) and "min_improvement" in values:
            raise ValueError(f"min_improvement: moved to gate.margin. Write gate: {{margin: {values['min_improvement']}}}")
        return values
