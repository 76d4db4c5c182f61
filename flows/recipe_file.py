"""Recipe files: YAML that is read, overridden and checked; every fault is one message with file, line, key and fix."""

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from tasks.errors import UserError
from tasks.settings import FROM_A_FILE, OWN_REVISION, Json

Key = str | int
UNTOLD = "notify"  # the section whose values no message repeats: an address of a webhook is a password
MOST_VALUES = 100_000  # of a recipe: what an alias stands for counts wherever it is written
AnySection = TypeVar("AnySection", bound=BaseModel)


class RecipeLoader(yaml.SafeLoader):
    """YAML in which true and false alone are truth values, as YAML 1.2 has it: off, on, yes and no are words."""


RecipeLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:bool"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
RecipeLoader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile("^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF"))


@dataclass
class RecipeText:
    """A parsed recipe: its values, and where each key stands."""

    place: str
    values: dict[str, Json]
    lines: dict[tuple[Key, ...], int] = field(default_factory=dict[tuple[Key, ...], int])
    overrides: dict[tuple[Key, ...], str] = field(default_factory=dict[tuple[Key, ...], str])

    def where(self, keys: Sequence[Key]) -> str:
        """`configs/demo.yaml:12: model.layers`, from the longest part of `keys` that stands in the file."""
        dotted = ".".join(map(str, keys))
        for cut in range(len(keys), 0, -1):
            part = tuple(keys[:cut])
            if part in self.overrides:
                return f"--set {self.overrides[part]}: {dotted}"
            if part in self.lines:
                return f"{self.place}:{self.lines[part]}: {dotted}"
        return f"{self.place}: {dotted}" if dotted else self.place


def read_recipe(path: str, overrides: Sequence[str], what: str = "recipe") -> RecipeText:
    """Parse the file and lay the overrides (`a.b=c`, values as YAML) over it. Messages call the file a `what`."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{path}: no such {what}.{_nearby(Path(path), what)}") from None
    except (IsADirectoryError, PermissionError) as error:
        raise UserError(f"{path}: {error.strerror}; expected a {what}, a YAML file.") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 at byte {error.start}. Save the {what} as UTF-8.") from error
    recipe = RecipeText(path, {})
    try:
        node = yaml.compose(text, Loader=RecipeLoader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise UserError(f"{path}:{line}: not YAML: {error.problem or error.context}.") from error
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not YAML: {error}") from error
    except RecursionError:
        raise UserError(f"{path}: brackets or sections lie too deep in one another to be read. Fix: close them.") from None
    if not isinstance(node, yaml.MappingNode):
        raise UserError(f"{path}: found {'nothing' if node is None else 'no mapping'}, expected sections such as ingest: …")
    _note_lines(node, (), recipe, ())
    recipe.values = _values(path, text)
    for override in overrides:
        _override(recipe, override)
    return recipe


def _values(path: str, text: str) -> dict[str, Json]:
    try:
        return yaml.load(text, Loader=RecipeLoader)  # a SafeLoader with fewer truth values
    except yaml.MarkedYAMLError as error:  # a tag that nothing safe stands for, a key that is a list
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise UserError(f"{path}:{line}: {error.problem or error.context}. Fix: write plain values, without tags.") from error
    except ValueError as error:  # a date that is none
        raise UserError(f"{path}: {error}. Fix: put the value in quotes.") from error


def checked(kind: type[AnySection], recipe: RecipeText) -> AnySection:
    """The recipe as `kind`; UserError with every fault, a line each."""
    try:
        return kind.model_validate(recipe.values, context=FROM_A_FILE)
    except ValidationError as error:  # which repeats what it found, a webhook's address among it: no traceback shows it
        raise UserError("\n".join(_explain(kind, recipe, fault) for fault in error.errors())) from None


def _nearby(path: Path, what: str) -> str:
    folder = path.parent if path.parent.is_dir() else Path("configs") / ("suites" if what == "suite" else "")
    found = sorted(folder.glob("*.yaml"))
    if folder.name == "configs":
        found += sorted(p for p in folder.glob("*/*.yaml") if p.parent.name != "suites")
    names = [str(p) for p in found]
    close = difflib.get_close_matches(str(path), names, n=1)
    return f" Did you mean {close[0]}?" if close else (f" There are: {', '.join(names)}." if names else "")


def _note_lines(node: yaml.Node, keys: tuple[Key, ...], recipe: RecipeText, around: tuple[yaml.Node, ...]) -> None:
    """`around`: the nodes that hold this one. UserError for a key that stands twice, and for aliases that have no end."""
    if any(node is outer for outer in around):
        raise UserError(f"{recipe.where(keys)}: holds itself, by an alias. Fix: write the value out where the alias is.")
    if len(recipe.lines) > MOST_VALUES:
        raise UserError(
            f"{recipe.where(keys)}: more than {MOST_VALUES:,} values with those that aliases stand for. Fix: write fewer of them."
        )
    inside = (*around, node)
    if isinstance(node, yaml.MappingNode):
        for key_node, value_node in node.value:
            here = (*keys, str(key_node.value))
            line = key_node.start_mark.line + 1
            if here in recipe.lines:
                dotted = ".".join(map(str, here))
                raise UserError(f"{recipe.place}:{line}: {dotted} stands twice (first in line {recipe.lines[here]}). Keep one.")
            recipe.lines[here] = line
            _note_lines(value_node, here, recipe, inside)
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            recipe.lines[(*keys, index)] = item.start_mark.line + 1
            _note_lines(item, (*keys, index), recipe, inside)


def _override(recipe: RecipeText, text: str) -> None:
    dotted, equals, value = text.partition("=")
    if not equals or not dotted:
        raise UserError(f"--set {text}: expected KEY=VALUE, such as --set model.layers=4")
    keys: tuple[Key, ...] = tuple(int(part) if part.isdigit() else part for part in dotted.split("."))
    try:
        parsed: Json = value if keys == ("workspace",) else yaml.load(value, Loader=RecipeLoader)  # a path is no YAML
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UserError(f"--set {text[:200]}: the value is not YAML: {error}") from error
    holder: Json = recipe.values
    for depth, key in enumerate(keys[:-1]):
        holder = _step_into(holder, key, text, keys[: depth + 1])
    last = keys[-1]
    if isinstance(holder, list):
        if not isinstance(last, int) or last > len(holder):
            raise UserError(f"--set {text}: {'.'.join(map(str, keys[:-1]))} has {len(holder)} entries, from 0; found {last}.")
        holder[last : last + 1] = [parsed]
    elif isinstance(holder, dict):
        holder[str(last)] = parsed
    else:
        raise UserError(f"--set {text}: {'.'.join(map(str, keys[:-1]))} is a single value, it has no keys.")
    recipe.overrides[keys] = f"{dotted}=…" if keys[0] == UNTOLD else text


def _step_into(holder: Json, key: Key, text: str, keys: Sequence[Key]) -> Json:
    if isinstance(holder, list):
        if isinstance(key, int) and key < len(holder):
            return holder[key]
        names = [str(item.get("name")) for item in holder if isinstance(item, dict)]
        raise UserError(f"--set {text}: {'.'.join(map(str, keys))}: no such entry; there are {len(holder)} ({', '.join(names)}).")
    if isinstance(holder, dict):
        if holder.get(str(key)) is None:
            holder[str(key)] = {}
        return holder[str(key)]
    raise UserError(f"--set {text}: {'.'.join(map(str, keys[:-1]))} is a single value, it has no keys.")


def _explain(kind: type[BaseModel], recipe: RecipeText, fault: ErrorDetails) -> str:
    keys = _present(fault["loc"], recipe.values)
    if fault["type"] == OWN_REVISION:
        return f"{recipe.where((*keys, 'revision'))}: {fault['msg']}."
    where = recipe.where(keys)
    if fault["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        known = _known_keys(kind, fault["loc"][:-1])
        close = difflib.get_close_matches(str(keys[-1]), known, n=1, cutoff=0.5)
        hint = f" Did you mean {close[0]}?" if close else ""
        return f"{where}: unknown key.{hint} Known keys: {', '.join(known)}."
    if fault["type"] == "union_tag_invalid":
        told = fault.get("ctx", {})
        key = str(told["discriminator"]).strip("'")
        return f"{recipe.where((*keys, key))}: found {told['tag']!r}, expected one of {told['expected_tags'].replace(chr(39), '')}."
    if fault["type"] in ("missing", "missing_argument"):
        return f"{where}: missing. Add it."
    message = fault["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
    found = fault["input"]
    if fault["type"] in ("value_error", "dataclass_type") or isinstance(found, dict | BaseModel):
        return f"{where}: {message}"
    return f"{where}: found {found!r}; {message[:1].lower()}{message[1:]}."


def _present(loc: Sequence[Key], values: Json) -> tuple[Key, ...]:
    """The location without the names of union members, which stand in no file."""
    keys: list[Key] = []
    holder: Json = values
    for position, key in enumerate(loc):
        inner = _entry(holder, key)
        is_union_member = isinstance(holder, dict) and (position < len(loc) - 1 or key == holder.get("kind"))
        if inner is None and is_union_member:
            continue
        holder = holder if inner is None else inner
        keys.append(key)
    return tuple(keys)


def _entry(holder: Json, key: Key) -> Json:
    """What stands at `key`; None where there is nothing."""
    if isinstance(holder, dict):
        return holder.get(str(key))
    if isinstance(holder, list) and isinstance(key, int) and key < len(holder):
        return holder[key]
    return None


def _known_keys(kind: object, loc: Sequence[Key]) -> list[str]:
    """The keys that the section at `loc` takes, from its schema."""
    if not isinstance(kind, type) or not issubclass(kind, BaseModel):
        return []
    schema = kind.model_json_schema()
    definitions: Mapping[str, Mapping[str, object]] = schema.get("$defs", {})
    node: Mapping[str, object] = schema
    for key in loc:
        node = _schema_step(node, key, definitions)
    node = _resolve(node, definitions)
    properties = node.get("properties", {})
    return (
        sorted(name for name in properties if name != "revision" or "const" not in properties[name]) if isinstance(properties, dict) else []
    )


def _schema_step(node: Mapping[str, object], key: Key, definitions: Mapping[str, Mapping[str, object]]) -> Mapping[str, object]:
    node = _resolve(node, definitions)
    if isinstance(key, int):
        items = node.get("items", {})
        return items if isinstance(items, dict) else {}
    mapping = node.get("discriminator", {})
    if isinstance(mapping, dict) and key in mapping.get("mapping", {}):
        return {"$ref": mapping["mapping"][key]}
    properties = node.get("properties", {})
    found = properties.get(key, {}) if isinstance(properties, dict) else {}
    return found if isinstance(found, dict) else {}


def _resolve(node: Mapping[str, object], definitions: Mapping[str, Mapping[str, object]]) -> Mapping[str, object]:
    """Follow references, and the one alternative of an optional section."""
    while True:
        if "$ref" in node:
            node = definitions[str(node["$ref"]).rsplit("/", 1)[-1]]
        elif isinstance(options := node.get("anyOf"), list):
            real = [option for option in options if option.get("type") != "null"]
            if len(real) != 1:
                return node
            node = real[0]
        else:
            return node
