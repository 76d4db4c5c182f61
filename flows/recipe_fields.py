"""Recipe fields by their dotted keys: what each takes, and whether it is a placement; the nearest names of one that is none."""

import dataclasses
import difflib
import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, TypeAlias, Union, get_args, get_origin, get_type_hints

from pydantic import BaseModel

from tasks.errors import UserError
from tasks.settings import PLACEMENT, Json, Placement
from tasks.tune.spaces import Kind, Takes

KINDS: Mapping[object, Kind] = {int: "int", float: "float", bool: "bool", str: "text"}
Type: TypeAlias = object  # an annotation


@dataclass(frozen=True)
class Member:
    """A key of a section."""

    annotation: Type
    is_placement: bool


@dataclass(frozen=True)
class RecipeField:
    """A field that holds one value."""

    name: str  # dotted
    takes: Takes | None  # None: a section, or a list
    is_placement: bool


def find_field(recipe: type[BaseModel], name: str) -> RecipeField:
    """The field of that name in such recipes. UserError with the nearest names where there is none."""
    found = Member(recipe, False)
    done: list[str] = []
    for key in name.split("."):
        members = _members(_bare(found.annotation))
        if key not in members:
            raise UserError(_unknown(done, key, members))
        done.append(key)
        found = Member(members[key].annotation, found.is_placement or members[key].is_placement)
    return RecipeField(name, _takes(found.annotation), found.is_placement)


def value_at(values: Json, name: str) -> Json:
    """What stands at a dotted key; None where nothing does."""
    for key in name.split("."):
        values = values.get(key) if isinstance(values, dict) else None
    return values


def _unknown(done: Sequence[str], key: str, members: Mapping[str, Member]) -> str:
    place = ".".join([*done, key])
    if not members:
        return f"{place}: {'.'.join(done)} has no keys that could be tuned"
    close = difflib.get_close_matches(key, members, n=3, cutoff=0.5)
    near = " or ".join(".".join([*done, name]) for name in close)
    hint = f" Did you mean {near}?" if near else ""
    return f"{place}: unknown field.{hint} Known: {', '.join(sorted(members))}."


def _members(section: Type) -> dict[str, Member]:
    """The keys of a section as a recipe spells them; none of what is no section."""
    if not isinstance(section, type):
        return {}
    if issubclass(section, BaseModel):
        return {
            info.alias or name: Member(info.annotation, any(isinstance(one, Placement) for one in info.metadata))
            for name, info in section.model_fields.items()
            if name != "revision"
        }
    if dataclasses.is_dataclass(section):
        hints = get_type_hints(section)
        return {one.name: Member(hints[one.name], bool(one.metadata.get(PLACEMENT))) for one in dataclasses.fields(section)}
    return {}


def _alternatives(annotation: Type) -> tuple[Type, ...]:
    if get_origin(annotation) is Annotated:
        return _alternatives(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        return tuple(found for one in get_args(annotation) for found in _alternatives(one))
    return (annotation,)


def _bare(annotation: Type) -> Type:
    """Without null and notes; of several kinds of values the first."""
    return next(one for one in _alternatives(annotation) if one is not types.NoneType)


def _takes(annotation: Type) -> Takes | None:
    alternatives = _alternatives(annotation)
    null, real = types.NoneType in alternatives, [one for one in alternatives if one is not types.NoneType]
    if len(real) == 1 and get_origin(real[0]) is Literal and all(isinstance(word, str) for word in get_args(real[0])):
        return Takes("text", null, get_args(real[0]))
    return Takes(KINDS[real[0]], null) if len(real) == 1 and real[0] in KINDS else None
