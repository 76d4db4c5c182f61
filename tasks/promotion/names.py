"""Registry names: the one under which each model of a recipe competes, and no two of them under the same."""

from collections.abc import Mapping

BASE = ""  # the pretrained model of a recipe, among the names of fine-tuned ones


def registry_names(name: str, given: Mapping[str, str], writes: Mapping[str, bool], has_base: bool) -> dict[str, str]:
    """Model -> the name that it is registered under: `given`, else by this rule. ValueError where two would meet under one.

    `writes`: for each fine-tuned model, whether its answers are texts. The base of a recipe has `name` for itself. Without one, a
    model goes on under it that writes, or that such a name was made for (areas under mill-areas): it takes the place of the one that
    it started from. All others are `name`-MODEL.
    """
    unknown = sorted(set(given) - set(writes))
    if unknown:
        raise ValueError(f"register.names: no model is called {unknown[0]!r}; fine-tuned here: {', '.join(writes) or 'none'}")
    names = {BASE: name} if has_base else {}
    for model, is_writer in writes.items():
        goes_on = not has_base and (is_writer or name.endswith(f"-{model}"))
        names[model] = given.get(model) or (name if goes_on else f"{name}-{model}")
    owners: dict[str, str] = {}
    for model, own in names.items():
        if own in owners:
            other, this = (one or "the base" for one in (owners[own], model))
            raise ValueError(
                f"register: {other} and {this} would both be registered as {own!r}, where each would be judged as the other's "
                f"successor; give one a name of its own: register.names: {{{model or owners[own]}: {own}-{model or owners[own]}}}"
            )
        owners[own] = model
    return names
