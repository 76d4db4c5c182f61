"""Recipe text with a few fields changed: every other character stays, comments too."""

from collections.abc import Mapping, Sequence

import yaml

from flows.recipe_file import RecipeLoader
from tasks.errors import UserError
from tasks.settings import Json
from tasks.tune.spaces import Scalar


def spelled(value: Scalar) -> str:
    """As YAML, in one line: 1.0e-05, "true" in quotes where it is a word."""
    return yaml.safe_dump(value, default_flow_style=True, width=10**6).removesuffix("\n...\n").strip()


def changed_text(text: str, changes: Mapping[str, Scalar], place: str) -> str:
    """The recipe `text`, with the fields at these dotted keys set. UserError where the text is such that it would not become that."""
    wanted = _apart(yaml.load(text, Loader=RecipeLoader))
    for name, value in changes.items():
        text = _with(text, name.split("."), value)
        _set(wanted, name.split("."), value)
    try:
        is_right = yaml.load(text, Loader=RecipeLoader) == yaml.load(yaml.safe_dump(wanted), Loader=RecipeLoader)
    except yaml.YAMLError:
        is_right = False
    if not is_right:
        told = " ".join(f"--set {name}={spelled(value)}" for name, value in changes.items())
        raise UserError(f"{place}: written so that its fields cannot be changed one by one (by aliases, perhaps). Run it with {told}")
    return text


def _apart(values: Json) -> Json:
    """A copy in which nothing is held twice, as it is where an alias stands."""
    if isinstance(values, dict):
        return {key: _apart(value) for key, value in values.items()}
    return [_apart(value) for value in values] if isinstance(values, list) else values


def _set(values: Json, keys: Sequence[str], value: Scalar) -> None:
    for key in keys[:-1]:
        assert isinstance(values, dict)
        if values.get(key) is None:
            values[key] = {}
        values = values[key]
    assert isinstance(values, dict)
    values[keys[-1]] = value


def _with(text: str, keys: Sequence[str], value: Scalar) -> str:
    node = yaml.compose(text, Loader=RecipeLoader)
    for depth, key in enumerate(keys):
        if not isinstance(node, yaml.MappingNode):  # a section without keys
            return _replaced(text, node, _inline(keys[depth:], value))
        found = [held for name, held in node.value if name.value == key]
        if not found:
            return _added(text, node, keys[depth:], value)
        node = found[0]
    return _replaced(text, node, spelled(value))


def _replaced(text: str, node: yaml.Node | None, new: str) -> str:
    assert node is not None
    start, end = node.start_mark.index, node.end_mark.index
    gap = " " if start == end else ""  # nothing stood behind the colon
    return f"{text[:start]}{gap}{new}{text[end:]}"


def _added(text: str, mapping: yaml.MappingNode, keys: Sequence[str], value: Scalar) -> str:
    """With a key in the mapping: first in one in braces; in one of lines behind the line of its first key, or at the end of the file."""
    if mapping.flow_style:
        start = mapping.start_mark.index + 1
        return f"{text[:start]}{keys[0]}: {_inline(keys[1:], value)}{', ' if mapping.value else ''}{text[start:]}"
    column = mapping.start_mark.column
    line = f"{' ' * column}{keys[0]}: {_inline(keys[1:], value)}\n"
    if column == 0:
        return text + ("" if text.endswith("\n") else "\n") + line
    start = mapping.start_mark.index - column
    return text[:start] + line + text[start:]


def _inline(keys: Sequence[str], value: Scalar) -> str:
    return f"{{{keys[0]}: {_inline(keys[1:], value)}}}" if keys else spelled(value)
