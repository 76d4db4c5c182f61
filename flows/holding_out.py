"""Hold-out of a recipe: share and seed, set once for all sections that choose by them."""

from collections.abc import Mapping, Sequence

from pydantic import ValidationError, model_validator

from tasks.examples.kinds.table import AnyExamples
from tasks.sampling import HeldOut
from tasks.settings import Section

HELDOUT_KEYS = {  # section -> what it calls share and seed of the hold-out
    "examples": ("heldout_share", "seed"),
    "decontaminate": ("heldout_share", "heldout_seed"),
    "evaluate": ("heldout_share", "heldout_seed"),
}


class HoldingOut(Section):
    """What is held out, set once for all sections that choose by it."""

    heldout: HeldOut = HeldOut()

    @model_validator(mode="before")
    @classmethod
    def _hand_down(cls, values: object) -> object:
        """Gives share and seed to the sections that do not name them."""
        if not isinstance(values, dict):
            return values
        try:
            held = HeldOut.model_validate(values.get("heldout", {}))
        except ValidationError:
            return values  # it is told where the field itself is checked
        given = dict(values)
        for section, (share, seed) in HELDOUT_KEYS.items():
            if section not in cls.model_fields:
                continue
            own = given.get(section, () if section == "examples" else {})
            told = {share: held.share, seed: held.seed}
            if isinstance(own, list | tuple):
                given[section] = [{**told, **one} if isinstance(one, dict) else one for one in own]
            elif isinstance(own, dict):
                given[section] = {**told, **own}
        return given


def check_holdout(heldout: HeldOut, sections: Mapping[str, tuple[float, int]]) -> None:
    """ValueError for a section (by its place in the recipe) that holds out another share, or by another seed, than all others."""
    for place, found in sections.items():
        for name, own, wanted in zip(("share", "seed"), found, (heldout.share, heldout.seed), strict=True):
            if own != wanted:
                raise ValueError(
                    f"{place} holds out by {name} {own}, but heldout.{name} is {wanted}: what one section is judged on another "
                    f"would learn from. Set heldout.{name} alone, for all sections"
                )


def held_examples(examples: Sequence[AnyExamples]) -> dict[str, tuple[float, int]]:
    """Share and seed by which each set of examples is parted, by its place in the recipe."""
    return {f"examples.{number}": (one.heldout_share, one.seed) for number, one in enumerate(examples)}
