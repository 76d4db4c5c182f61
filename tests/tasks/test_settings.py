import math
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated

import pytest
from pydantic import Field, ValidationError

from tasks.settings import Placement, Section, identity


class Inner(Section):
    rate: float = 0.5
    threads: Annotated[int, Placement()] = 1


class Outer(Section):
    name: str = "x"
    inner: Inner = Inner()
    several: tuple[Inner, ...] = (Inner(),)
    where: Annotated[str, Placement()] = Field("here", description="bounded and placed")


@dataclass(frozen=True)
class Pair:
    left: Inner
    right: int


class Colour(Enum):
    RED = "red"


def test_placement_fields_are_left_out_at_every_depth() -> None:
    assert identity(Outer()) == {"name": "x", "inner": {"rate": 0.5}, "several": [{"rate": 0.5}]}


def test_dataclasses_enums_and_tuples_become_plain_json() -> None:
    assert identity((Pair(Inner(), 2), Colour.RED, {"b": 1, "a": None})) == [
        {"left": {"rate": 0.5}, "right": 2},
        "red",
        {"a": None, "b": 1},
    ]


@pytest.mark.parametrize("number", [0.1, 1e-300, -0.0, 1.7976931348623157e308, 2**80])
def test_numbers_are_kept_exactly(number: float) -> None:
    assert identity(number) == number
    assert math.copysign(1, identity(number)) == math.copysign(1, number)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "value",
    [math.nan, math.inf, -math.inf, Path("a"), {1, 2}, frozenset(), len, lambda: 0, object(), b"bytes", Pair],
    ids=lambda value: getattr(value, "__name__", type(value).__name__),
)
def test_what_has_no_exact_form_is_refused(value: object) -> None:
    with pytest.raises(TypeError):
        identity({"deep": [value]})


def test_unknown_keys_are_refused() -> None:
    with pytest.raises(ValidationError, match="Extra inputs"):
        Inner.model_validate({"rat": 1})


def test_sections_are_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Inner().rate = 1.0  # type: ignore[misc]
