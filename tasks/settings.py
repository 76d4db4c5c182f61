"""Recipe sections: frozen, unknown keys refused, placement kept apart from identity."""

import os
from dataclasses import fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias, get_origin

from pydantic import BaseModel, ConfigDict, ValidationInfo, model_validator
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError

from model.config.checks import without_defaults_that_came_later
from tasks.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterable

Json: TypeAlias = "None | bool | int | float | str | list[Json] | dict[str, Json]"


FROM_A_FILE = "a file of the user's"  # context of validation
OWN_REVISION = "own_revision"  # kind of fault
MAX_NAME_BYTES = 255  # of a file or folder, on Linux and macOS
PLACEMENT = "is_placement"  # in the metadata of a dataclass's field: what Placement is to a section's


class Placement:
    """Annotates a field that says where or how fast a stage runs: `workers: Annotated[int, Placement()] = 2`.

    Such a field never enters a fingerprint.
    """


class Later:
    """Annotates a field that came when artifacts had been made without it: `share: Annotated[float, Later()] = 0.12`.

    At its default it does not enter a fingerprint, so that those artifacts stay valid. A dataclass's field has the metadata `LATER`
    (model/config/checks.py).
    """


class Section(BaseModel):
    """A part of a recipe. Frozen; an unknown key is an error; field descriptions give units and bounds."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)

    @model_validator(mode="before")
    @classmethod
    def _revision_is_not_asked(cls, values: object, info: ValidationInfo) -> object:
        """Refuses the stage's own revision in a file of the user's: it follows the code, and a file that had it would go out of date."""
        own = cls.model_fields.get("revision")
        if info.context == FROM_A_FILE and own is not None and get_origin(own.annotation) is Literal:
            if isinstance(values, dict) and "revision" in values:
                raise PydanticCustomError(OWN_REVISION, "counted by Wordmill itself, not by files. Fix: delete the line")
        return values


def given_path(text: str | Path) -> Path:
    """A path as people write it: ~ and ~user stand for a home.

    UserError for a user whom this machine does not know, and for what no file can be called.
    """
    shown = f"{str(text)[:200]!r}"
    try:
        path = Path(text).expanduser()
        longest = max((len(os.fsencode(part)) for part in path.parts), default=0)
    except RuntimeError as error:
        raise UserError(f"{shown}: {str(text).split('/')[0]} is no user of this machine. Fix: write the folder out.") from error
    except UnicodeEncodeError as error:
        raise UserError(f"{shown}: half a character ({error.object[error.start]!r}) is in no name. Fix: correct the path.") from error
    if "\0" in str(text) or longest > MAX_NAME_BYTES:
        found = "a null character" if "\0" in str(text) else f"a name of {longest} bytes, expected {MAX_NAME_BYTES} at most"
        raise UserError(f"{shown}: found {found}. Fix: correct the path.")
    return path


def identity(value: object) -> Json:
    """The part of `value` that bears on an output, as plain JSON; fields annotated `Placement`, and `Later` at its default, are left out.

    Refuses (TypeError) what it cannot represent exactly: callables, sets, objects without declared fields.
    """
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        if value != value or value in (float("inf"), float("-inf")):
            raise TypeError(f"{value} has no exact JSON form")
        return value
    if isinstance(value, Enum):
        return identity(value.value)
    if isinstance(value, list | tuple):
        items: Iterable[object] = value
        return [identity(item) for item in items]
    if isinstance(value, dict):
        entries: dict[object, object] = value
        return {str(key): identity(entries[key]) for key in sorted(entries, key=str)}
    if isinstance(value, BaseModel):
        return {
            name: identity(getattr(value, name))
            for name, info in type(value).model_fields.items()
            if not _is_annotated(info, Placement) and not (_is_annotated(info, Later) and getattr(value, name) == info.get_default())
        }
    if is_dataclass(value) and not isinstance(value, type):
        kept = without_defaults_that_came_later(value)
        return {f.name: identity(kept[f.name]) for f in fields(value) if f.name in kept and not f.metadata.get(PLACEMENT)}
    if isinstance(value, Path):
        raise TypeError(f"{value}: a path says where, not what; use the content digest")
    raise TypeError(f"{value!r} ({type(value).__name__}) cannot enter a fingerprint")


def _is_annotated(info: FieldInfo, kind: type[Placement] | type[Later]) -> bool:
    return any(isinstance(item, kind) for item in info.metadata)
