"""Samples page, self-contained HTML: what a stage dropped, side by side with what it kept. It runs no script."""

from tasks.artifacts import Manifest
from tasks.corpus.samples.groups import Group
from tasks.report import wording
from tasks.report.markup import policy, style, template


def render_samples(manifest: Manifest, groups: tuple[Group, ...]) -> str:
    """The page. All text in it is escaped: what was dropped may be anything."""
    ledger = manifest.ledger
    rows = sorted(ledger.dropped.items(), key=lambda entry: (-entry[1], entry[0]))
    most = max((count for _, count in rows), default=1) or 1
    return template("samples.html.jinja").render(
        manifest=manifest,
        ledger=ledger,
        reasons=[(reason, count, ledger.dropped_bytes.get(reason, 0), round(100 * count / most, 2)) for reason, count in rows],
        groups=groups,
        verdict=_verdict(manifest),
        style=style(),
        policy=policy(),
    )


def _verdict(manifest: Manifest) -> str:
    ledger = manifest.ledger
    dropped = sum(ledger.dropped.values())
    if not dropped:
        return f"All {wording.count_text(ledger.rows_out)} documents were kept."
    kept = f"{wording.count_text(ledger.rows_out)} of {wording.count_text(ledger.rows_in)} documents were kept"
    reason, count = max(ledger.dropped.items(), key=lambda entry: (entry[1], entry[0]))
    share = wording.share_text(count, dropped)
    return f"{kept}, {wording.count_text(dropped)} dropped; {share} of those for {reason}."
