"""The registered model as MLflow runs it (models from code): prompts in, texts or labels out.

curl -d '{"dataframe_split": {"columns": ["prompt"], "data": [["def "]]}, "params": {"max_tokens": 20}}' ...
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel

from tasks.errors import UserError
from tasks.models import classify_text, continue_text, load, read_task

if TYPE_CHECKING:
    import pandas
    import tokenizers
    from mlflow.pyfunc.model import PythonModelContext

    from model.heads import Model

Params = Mapping[str, int | float]


class ServedModel(PythonModel):
    """Answers with one row for each prompt, in order; with `count`, with that many for each."""

    def load_context(self, context: "PythonModelContext") -> None:
        """Read the folder that was logged as `model`."""
        folder = Path(context.artifacts["model"])
        self.model: Model
        self.tokenizer: tokenizers.Tokenizer
        self.model, self.tokenizer = load(folder)
        self.task = read_task(folder)

    def predict(  # pyright: ignore[reportIncompatibleMethodOverride]  (mlflow declares no return type)
        self, context: "PythonModelContext", model_input: "pandas.DataFrame", params: Params | None = None
    ) -> "pandas.DataFrame":
        """Column `prompt` in, column `text` out; a classifier's text is the label."""
        import pandas

        if "prompt" not in model_input.columns:
            raise UserError(f"columns {', '.join(map(str, model_input.columns))}: expected one called prompt")
        texts = [text for prompt in model_input["prompt"] for text in self._answer(str(prompt), params or {})]
        return pandas.DataFrame({"text": texts})

    def _answer(self, prompt: str, params: Params) -> list[str]:
        from model.heads import LanguageModel

        if not isinstance(self.model, LanguageModel):
            assert self.task is not None
            return [classify_text(self.model, self.tokenizer, self.task.labels, prompt)]
        return continue_text(
            self.model, self.tokenizer, prompt, int(params.get("count", 1)), float(params.get("temperature", 0.7)),
            int(params.get("max_tokens", 50)), int(params.get("top_k", 0)), float(params.get("top_p", 1.0)),
            int(params.get("seed", 1)), is_chat=self.task is not None and self.task.kind == "instruction",
        )  # fmt: skip


set_model(ServedModel())
