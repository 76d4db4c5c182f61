"""Tables that commands print."""

from flows.commands.tables import run_table


def test_every_registered_model_is_printed_with_the_reason() -> None:
    models = [
        {"uri": "models:/mill@champion", "promoted": "true", "verdict": "promoted", "why": "the first of its name"},
        {
            "uri": "models:/mill-areas/7",
            "promoted": "false",
            "verdict": "refused",
            "why": "not better: accuracy 0.3 against the champion's 0.4",
        },
    ]
    summary = {
        "stages": [],
        "scores": [],
        "report": "report.html",
        "model": models[0]["uri"],
        "registered": models,
        "tracking": "mlflow.db",
        "seconds": 1.0,
        "notes": ["english: 3 hidden names left out"],
    }
    said = run_table(summary).splitlines()
    assert "model:  models:/mill@champion (champion: the first of its name)" in said
    assert "note:   english: 3 hidden names left out" in said
    assert "        models:/mill-areas/7 (refused: not better: accuracy 0.3 against the champion's 0.4)" in said
