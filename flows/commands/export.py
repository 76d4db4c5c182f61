"""`wordmill export`: what it prints, the certificate as a table or as JSON."""

from collections.abc import Sequence
from dataclasses import asdict

from flows.commands.tables import rendered, table_of
from tasks.export.certificate import Check
from tasks.export.export import Exported
from tasks.settings import Json


def certificate_table(checks: Sequence[Check]) -> str:
    """A comparison a row: what, on what, how much differed and how much may; then what was not compared, and why."""
    table = table_of("compared", "on", "difference>", "allowed>", "")
    for check in checks:
        if check.found is not None:
            verdict = "equal" if check.found == 0 else "close" if check.is_fine else "DIFFERS"
            table.add_row(check.name, check.what, f"{check.found:.3g}", f"{check.allowed:.3g}", verdict)
    left_out = [f"not compared: {check.name}: {check.told}" for check in checks if check.found is None]
    return "\n".join([rendered(table), *left_out])


def exported_view(exported: Exported) -> str:
    """The certificate, and where the folder is."""
    files = exported.manifest.files
    size = sum(entry.bytes for entry in files)
    return f"{certificate_table(exported.checks)}\n\nwrote {exported.folder}: {len(files)} files, {size / 1e6:,.1f} MB"


def exported_json(exported: Exported) -> dict[str, Json]:
    """The same for other programs."""
    checks: list[Json] = [{**asdict(check), "fine": check.is_fine} for check in exported.checks]
    return {"folder": str(exported.folder), "fingerprint": exported.manifest.fingerprint, "checks": checks}
