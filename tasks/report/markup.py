"""Page markup: the look, the templates, and text made safe to show. Nothing is fetched when a page is opened."""

import base64
import hashlib
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, cast

from tasks.report import charts, decision_wording, gain_bars, wording
from tasks.report.palette import HEAT, LIGHT_AND_DARK
from tasks.report.reasons import reason_text

if TYPE_CHECKING:
    import jinja2
    import markupsafe

HERE = Path(__file__).parent


def shortened(text: str, limit: int) -> str:
    """The first `limit` characters, with an ellipsis when there were more."""
    return text if len(text) <= limit else text[: limit - 1].rstrip() + "…"


def visible(text: str) -> str:
    """Text safe to show: control characters and lone surrogates, which HTML cannot hold, as their Unicode pictures."""
    return "".join(_visible(character) for character in text)


def _visible(character: str) -> str:
    code = ord(character)
    if character in "\n\t" or code >= 0xA0 or 0x20 <= code < 0x7F:
        return "\N{REPLACEMENT CHARACTER}" if 0xD800 <= code < 0xE000 else character
    return chr(0x2400 + code) if code < 0x20 else "\N{SYMBOL FOR DELETE}" if code == 0x7F else "\N{REPLACEMENT CHARACTER}"


def traced(text: str) -> str:
    """Visible text in which characters that nobody sees, or that turn the direction, stand as their numbers."""
    return "".join(
        f"⟨{ord(character):04X}⟩" if unicodedata.category(character) in ("Cf", "Zl", "Zp") else character for character in visible(text)
    )


def spelled(token: str) -> str:
    """A token with its spaces and line breaks made visible."""
    return visible(token.replace(" ", "·").replace("\n", "↵").replace("\t", "⇥"))


def style() -> str:
    """The style sheet, every colour in its light and dark form."""
    pairs = {**LIGHT_AND_DARK, **HEAT}
    colors = "".join(f"  --{name}: light-dark({light}, {dark});\n" for name, (light, dark) in pairs.items())
    return f":root {{\n{colors}}}\n{(HERE / 'page.css').read_text()}"


def breakable(name: str) -> "markupsafe.Markup":
    """A name that may be broken behind its underscores, escaped."""
    import markupsafe

    return markupsafe.Markup("_<wbr>").join(name.split("_"))


def policy(*scripts: str) -> str:
    """The content security policy under which exactly these inline scripts run, none if there are none; nothing is fetched."""
    digests = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests) or "'none'"
    return f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data:"


def template(name: str) -> "jinja2.Template":
    """A template of this folder: everything put into it is escaped unless it says `safe`."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    filters: dict[str, Callable[..., object]] = {
        "visible": visible,
        "traced": traced,
        "breakable": breakable,
        "spelled": spelled,
        "shortened": shortened,
        "words": wording.words,
        "reason": reason_text,
        "count": wording.count_text,
        "bytes": wording.bytes_text,
        "seconds": wording.seconds_text,
        "moment": wording.time_text,
        "score": wording.score_text,
        "figure": wording.figure_text,
        "interval": charts.interval_text,
        "share": wording.share_text,
        "signed": decision_wording.signed_text,
        "level": decision_wording.level_text,
        "figure_name": decision_wording.figure_name,
        "bound": decision_wording.bound_text,
        "ends": decision_wording.interval_words,
        "change": decision_wording.change_text,
        "one_line": decision_wording.one_line,
        "both": decision_wording.both_texts,
        "passed": decision_wording.passed_text,
        "gain_bar": gain_bars.gain_bar,
        "difference": gain_bars.difference,
    }
    cast("dict[str, Callable[..., object]]", environment.filters).update(filters)
    return environment.get_template(name)
