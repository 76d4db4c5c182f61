"""Table of example kinds: a line each. A new kind is a file here, its lines below, and one in tasks/evaluate/evaluate.py."""

from collections.abc import Iterable
from typing import Annotated

from pydantic import Field

from tasks.errors import UserError
from tasks.examples.kinds.classification import CLASSIFICATION, ClassificationConfig
from tasks.examples.kinds.instruction import INSTRUCTION, InstructionConfig
from tasks.examples.kinds.kind import Kind
from tasks.examples.kinds.multi_label import MULTI_LABEL, MultiLabelConfig
from tasks.examples.kinds.multiple_choice import MULTIPLE_CHOICE, ChoiceConfig
from tasks.examples.kinds.regression import REGRESSION, RegressionConfig
from tasks.examples.kinds.token_labels import TOKEN_LABELS, TokenLabelConfig

KINDS: dict[str, Kind] = {kind.name: kind for kind in (INSTRUCTION, CLASSIFICATION, MULTI_LABEL, REGRESSION, TOKEN_LABELS, MULTIPLE_CHOICE)}
AnyExamples = Annotated[
    InstructionConfig | ClassificationConfig | MultiLabelConfig | RegressionConfig | TokenLabelConfig | ChoiceConfig,
    Field(discriminator="kind"),
]


def kind_named(name: str, place: str) -> Kind:
    """The kind of that name. UserError, naming `place`, for a name that no kind has."""
    if name not in KINDS:
        raise UserError(f"{place}: found the kind {name!r}, expected one of {', '.join(KINDS)}.")
    return KINDS[name]


def kind_of(columns: Iterable[str], place: str) -> Kind:
    """The kind whose table has these columns, beside id and group. UserError, naming `place`, where no kind has them."""
    found = set(columns) - {"id", "group"}
    for kind in KINDS.values():
        if found == set(kind.columns):
            return kind
    known = "; ".join(f"{kind.name}: {', '.join(kind.columns)}" for kind in KINDS.values())
    raise UserError(f"{place}: columns {', '.join(sorted(found))} are of no kind of examples. Known: {known}.")
