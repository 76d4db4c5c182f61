"""Example settings: what all kinds of labelled examples have in common, and the sources that they are read from."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from tasks.sampling import HELDOUT_SEED, HELDOUT_SHARE
from tasks.settings import Placement, Section


class PythonSignatures(Section):
    """Signature of a function of the standard library -> first paragraph of its docstring."""

    kind: Literal["python_signatures"]


class PythonAreas(Section):
    """Docstring of the standard library -> area of the library."""

    kind: Literal["python_areas"]


class PythonTokenKinds(Section):
    """Token of a function of the standard library -> its kind."""

    kind: Literal["python_token_kinds"]


class ExampleFiles(Section):
    """Labelled files of the user."""

    paths: Annotated[list[str], Placement()] = Field(min_length=1, description="files, folders, globs or URLs")
    heldout_paths: Annotated[list[str] | None, Placement()] = Field(
        default=None, min_length=1, description="files to judge on; without them a share of `paths` is held out"
    )


class RowExamples(ExampleFiles):
    """Rows of JSON Lines, JSON, CSV (or TSV by its ending) or Parquet; each kind adds the fields that it reads."""

    has_lists: ClassVar[bool] = False  # which CSV cannot spell

    kind: Literal["jsonl", "json", "csv", "parquet"]
    delimiter: str | None = Field(default=None, min_length=1, max_length=1, description="CSV only; by the ending when absent")
    header: bool = Field(default=True, description="CSV only; without a header, fields are named 0, 1, 2")
    group_field: str | None = Field(default=None, description="rows of one group are never split over both sides")

    @abstractmethod
    def pick(self, row: Mapping[str, object]) -> dict[str, object]:
        """The kind's columns out of a row's fields; None for what the row lacks."""
        ...

    @classmethod
    def field_keys(cls) -> list[str]:
        """The keys that name the fields a row must have."""
        own = [name for name in cls.model_fields if name not in RowExamples.model_fields]
        return [name for name in own if cls.model_fields[name].default is not None]

    @model_validator(mode="after")
    def _form_fits(self) -> "RowExamples":
        if self.kind != "csv":
            for key in ("delimiter", "header"):
                if key in self.model_fields_set:
                    raise ValueError(f"{key} has no meaning for {self.kind}; leave it out")
        elif self.has_lists and not self.spells_lists:
            way = ", or set separator" if "separator" in type(self).model_fields else ""
            raise ValueError(f"these examples need lists, which CSV has not; use jsonl or parquet{way}")
        return self

    @property
    def spells_lists(self) -> bool:
        """Whether lists are written as one text, which CSV can hold."""
        return False

    def needed_fields(self) -> list[str]:
        """The fields that a row must have."""
        keys = self.field_keys()
        return [str(value) for name, value in self if name in keys]

    def field_fix(self, found: Sequence[str]) -> str:
        """What to set where rows lack a field; they have those `found`."""
        return f"set {', '.join(self.field_keys())} to the fields of the file"


class ConllExamples(ExampleFiles):
    """A token and its label a line, columns set apart by white space, a blank line after each sentence."""

    kind: Literal["conll"]
    token_column: int = Field(default=0, description="counted from 0; -1 is the last")
    label_column: int = Field(default=-1, description="counted from 0; -1 is the last")


ExampleSource = PythonSignatures | PythonAreas | PythonTokenKinds | RowExamples | ConllExamples


class ExamplesConfig(Section):
    """One labelled task. Each kind has its own, with `kind`, its name, and `source`, of the sources that can give it."""

    stage: ClassVar[str] = "examples"
    revision: Literal[3] = 3
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", description="shown beside its scores")
    heldout_share: float = Field(
        default=HELDOUT_SHARE, gt=0, lt=1, description="of the groups, or of the examples without; a recipe sets it once, as heldout.share"
    )
    seed: int = Field(
        default=HELDOUT_SEED, ge=0, description="of the choice by heldout_share, and by limit; a recipe sets it once, as heldout.seed"
    )
    limit: int | None = Field(default=None, ge=2, description="most examples of both sides together, chosen by hash")
