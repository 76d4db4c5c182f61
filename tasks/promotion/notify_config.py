"""Notification settings: which webhook is told of a night, and of which nights. The address itself stands in no recipe."""

import re
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from tasks.settings import Placement, Section

FROM_ENVIRONMENT, FROM_BLOCK = "env", "secret"
REFERENCE = re.compile(rf"{FROM_ENVIRONMENT}:[A-Za-z_][A-Za-z0-9_]*|{FROM_BLOCK}:[a-z0-9][a-z0-9-]*")

NO_REFERENCE = (  # never with what was found: whoever has the address may write to it
    "expected env:NAME or secret:BLOCK, found something else (not repeated here: a webhook's address is a password). Fix: put the "
    "address into an environment variable of the worker and write webhook: env:NAME, or into a Secret block of Prefect and write "
    "webhook: secret:BLOCK"
)


class NotifyConfig(Section):
    """Who is told of a night."""

    webhook: Annotated[str | None, Placement()] = Field(
        default=None,
        description="env:NAME, an environment variable, or secret:BLOCK, a Secret block of Prefect, that holds the webhook's address; "
        "none: nobody is told",
    )
    when: Annotated[Literal["always", "decided", "failed"], Placement()] = Field(
        default="decided",
        description="always: of each night; decided: not of those with nothing new; failed: only of those that came to no decision "
        "though there was something new",
    )

    @model_validator(mode="before")
    @classmethod
    def _is_a_section(cls, values: object) -> object:
        if isinstance(values, str):
            raise ValueError(NO_REFERENCE)
        return values

    @field_validator("webhook", mode="before")
    @classmethod
    def _is_a_reference(cls, value: object) -> object:
        if value is not None and not (isinstance(value, str) and REFERENCE.fullmatch(value)):
            raise ValueError(NO_REFERENCE)
        return value
