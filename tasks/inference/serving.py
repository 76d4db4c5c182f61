"""Model serving: the registered model as MLflow runs it (models from code), prompts in, texts or labels out.

curl -d '{"dataframe_split": {"columns": ["prompt"], "data": [["def "]]}, "params": {"max_tokens": 20}}' ...
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pandas  # here and not in `predict`: mlflow reads the annotations of that, and warns where it cannot
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel, PythonModelContext

from tasks.errors import UserError
from tasks.inference.folder_settings import told_ends
from tasks.inference.labelling import word_labeller
from tasks.inference.saved_models import load
from tasks.inference.task_file import read_task

if TYPE_CHECKING:
    import tokenizers

    from model.inference.sampling import Sampling
    from model.nn.models import Model

Params = Mapping[str, int | float]


class ServedModel(PythonModel):
    """Answers with one row for each prompt, in order; with `count`, with that many for each."""

    def load_context(self, context: PythonModelContext) -> None:
        """Read the folder that was logged as `model`."""
        folder = Path(context.artifacts["model"])
        self.model: Model
        self.tokenizer: tokenizers.Tokenizer
        self.model, self.tokenizer = load(folder)
        self.task = read_task(folder)
        self.folder, self.ends = folder, told_ends(folder)
        self.labeller = word_labeller(self.model, self.tokenizer, folder, self.task)

    def predict(  # pyright: ignore[reportIncompatibleMethodOverride]  (mlflow declares no return type)
        self, context: PythonModelContext, model_input: pandas.DataFrame, params: Params | None = None
    ) -> pandas.DataFrame:
        """Column `prompt` in, column `text` out; a classifier's text is the label, a masked model's the prompt filled in."""
        try:
            texts = [text for prompt in prompts_of(model_input) for text in self._answer(prompt, params or {})]
        except UserError as error:  # so that the caller is told our words, with status 400
            raise MlflowException.invalid_parameter_value(str(error)) from error
        return pandas.DataFrame({"text": texts})

    def _answer(self, prompt: str, params: Params) -> list[str]:
        from model.nn.models import LanguageModel, MaskedLanguageModel, MultipleChoice, Seq2SeqModel, SequenceClassifier
        from tasks.inference.generation import continue_text, target_start, translate_text
        from tasks.inference.labelling import choose_text, classify_text, labels_of
        from tasks.inference.mask_filling import fill_masks

        count = int(params.get("count", 1))
        if isinstance(self.model, LanguageModel):
            is_chat = self.task is not None and self.task.is_chat
            sampling = _sampling(params, self.ends)
            return continue_text(self.model, self.tokenizer, prompt, count, sampling, is_chat=is_chat)
        if isinstance(self.model, Seq2SeqModel):
            start, sampling = target_start(self.folder, self.tokenizer), _sampling(params, self.ends)
            return translate_text(self.model, self.tokenizer, prompt, start, count, sampling)
        if isinstance(self.model, MaskedLanguageModel):
            return [filling.text for filling in fill_masks(self.model, self.tokenizer, prompt, count)]
        if self.labeller is not None:
            return [self.labeller.label_names(prompt)]
        if isinstance(self.model, SequenceClassifier):
            labels = labels_of(self.folder, self.task, self.model.head.score.out_features)
            return [classify_text(self.model, self.tokenizer, labels, prompt)]
        if isinstance(self.model, MultipleChoice):
            return [choose_text(self.model, self.tokenizer, prompt)[0].name]
        raise UserError(f"a {type(self.model).__name__} cannot answer a single prompt")


def prompts_of(table: pandas.DataFrame) -> list[str]:
    """The column `prompt`. UserError for one that is not there, and for rows that have no text in it."""
    if "prompt" not in table.columns:
        raise UserError(f"columns {', '.join(map(str, table.columns))}: expected one called prompt")
    cells: list[object] = table["prompt"].tolist()
    empty = [(row, cell) for row, cell in enumerate(cells) if not isinstance(cell, str)]
    if empty:
        row, cell = empty[0]
        found = "null" if cell is None or cell != cell else type(cell).__name__
        raise UserError(f"prompt of row {row} (of {len(empty)} such, {len(cells)} in all) is {found}, expected text. Fix: leave it out.")
    return [cell for cell in cells if isinstance(cell, str)]


def _sampling(params: Params, ends: frozenset[int]) -> "Sampling":
    from model.inference.sampling import Sampling

    try:
        return Sampling(
            int(params.get("max_tokens", 50)),
            float(params.get("temperature", 0.7)),
            int(params.get("top_k", 0)),
            float(params.get("top_p", 1.0)),
            float(params.get("min_p", 0.0)),
            float(params.get("repetition_penalty", 1.0)),
            int(params.get("seed", 1)),
            ends,
        )
    except ValueError as error:
        raise UserError(f"params: {error}") from error


set_model(ServedModel())
