"""Validation of settings: each check raises ValueError that names the setting, what was found and what is expected."""

import dataclasses
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

IS_LATER = "is_later"
LATER: Mapping[str, bool] = {IS_LATER: True}  # metadata of a setting that came when trainings had been made without it


def at_least(low: int, **values: int) -> None:
    """Each of the named values is `low` or more."""
    for name, value in values.items():
        if value < low:
            raise ValueError(f"{name} {value}: expected {low} or more")


def within(name: str, value: float, low: float, high: float, *, includes_low: bool = True, includes_high: bool = True) -> None:
    """A finite number between the bounds."""
    above = value >= low if includes_low else value > low
    below = value <= high if includes_high else value < high
    if not (above and below and math.isfinite(value)):
        left = "at least" if includes_low else "above"
        right = "" if math.isinf(high) else f" and {'at most' if includes_high else 'below'} {high:g}"
        raise ValueError(f"{name} {value}: expected a number {left} {low:g}{right}")


def one_of(name: str, value: str, known: tuple[str, ...]) -> None:
    """One of the known words."""
    if value not in known:
        raise ValueError(f"{name} {value!r}: expected one of {', '.join(known)}")


def divides(name: str, count: int, whole_name: str, whole: int) -> None:
    """`count` divides `whole`; the message names the divisors next to it."""
    if whole % count == 0:
        return
    divisors = [n for n in range(1, whole + 1) if whole % n == 0]
    near = [max(n for n in divisors if n < count)] if count > 1 else []
    near += [n for n in divisors if n > count][:1]
    raise ValueError(f"{name} {count} does not divide {whole_name} {whole}; the nearest {name} that do: {', '.join(map(str, near))}")


def without_defaults_that_came_later(settings: "DataclassInstance") -> dict[str, object]:
    """The fields by name; those marked `LATER` are left out at their default, so that what was made before them keeps its digest."""
    return {
        field.name: getattr(settings, field.name)
        for field in dataclasses.fields(settings)
        if not (field.metadata.get(IS_LATER) and getattr(settings, field.name) == field.default)
    }
