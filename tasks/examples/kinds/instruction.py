"""Instructions: a prompt and the response to it. Bits per byte of the responses decide."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Literal, cast

import pyarrow as pa
from pydantic import Field

from model.config.heads import IGNORED, HeadSpec
from model.config.model_config import ModelConfig
from tasks.contracts import text_column
from tasks.examples.config import ExamplesConfig, PythonSignatures, RowExamples
from tasks.examples.conversations import FIELDS, exchange, is_conversation, text_of
from tasks.examples.kinds.kind import TEXT, EncodedExamples, Kind, LabelledExamples, Values, check_texts, example_schema, id_lists
from tasks.examples.pair_rows import pair_rows
from tasks.settings import Later
from tasks.tokenizer.encoding import SpecialIds, encode_behind_token, special_ids, text_ids

if TYPE_CHECKING:
    import pandera.polars as pandera
    import tokenizers


class InstructionRows(RowExamples):
    """Rows with a prompt, perhaps an input to it, and a response."""

    prompt_field: str = Field(default="prompt", min_length=1)
    input_field: str | None = Field(default=None, min_length=1, description="put below the prompt where it is not empty")
    response_field: str = Field(default="response", min_length=1)
    messages_field: Annotated[str | None, Later()] = Field(
        default=None,
        min_length=1,
        description="a conversation of one question and its answer (role and content, or from and value), in place of the fields above",
    )

    def pick(self, row: Mapping[str, object]) -> dict[str, object]:
        """The prompt, with the input below it, and the response; of a conversation both are still in it."""
        if self.messages_field is not None:
            return {"prompt": row.get(self.messages_field), "response": ""}
        prompt, extra = row.get(self.prompt_field), row.get(self.input_field or "")
        if isinstance(prompt, str) and isinstance(extra, str) and extra.strip():
            prompt = f"{prompt}\n{extra}"
        return {"prompt": prompt, "response": row.get(self.response_field)}

    def needed_fields(self) -> list[str]:
        """The fields that a row must have."""
        return super().needed_fields() if self.messages_field is None else [self.messages_field]

    def field_fix(self, found: Sequence[str]) -> str:
        """What to set where rows lack a field; they have those `found`."""
        talk = next((name for name in FIELDS if name in found), None)
        return super().field_fix(found) if talk is None else f"set messages_field: {talk}, or other fields of the file"


class InstructionConfig(ExamplesConfig):
    """Prompts and responses."""

    kind: Literal["instruction"]
    source: Annotated[PythonSignatures | InstructionRows, Field(discriminator="kind")]


def check(values: Mapping[str, object]) -> Values | str:
    """Two texts; a conversation of one question and its answer, and a text in parts, become them."""
    prompt, response = values["prompt"], values["response"]
    if is_conversation(prompt):
        messages = list(cast("Sequence[object]", prompt))
        if is_conversation(response):
            messages += cast("Sequence[object]", response)
        elif isinstance(response, str) and response:
            messages.append({"role": "assistant", "content": response})
        said = exchange(messages)
        return said if isinstance(said, str) else check_texts({"prompt": said[0], "response": said[1]})
    texts = {name: text_of(value) if isinstance(value, list) else value for name, value in (("prompt", prompt), ("response", response))}
    if isinstance(texts["response"], str) and not texts["response"].strip() and check_texts({"prompt": texts["prompt"]}) != "empty_text":
        return "no_answer"
    return check_texts(texts)


def contract(labels: Sequence[str] | None) -> "pandera.DataFrameSchema":
    """Two texts."""
    return example_schema("InstructionExamples", {"prompt": text_column(), "response": text_column()})


def prompt_ids(prompt: Sequence[int], special: SpecialIds) -> list[int]:
    """What comes before a response."""
    return [special.bos, special.user, *prompt, special.assistant]


def instruction_row(prompt: Sequence[int], response: Sequence[int], special: SpecialIds, context: int) -> tuple[list[int], list[int]]:
    """(ids, targets), at most context + 1 each: the last id is a target alone. Scored are the response and <|end|>.

    Of what does not fit, the beginning of the prompt and the end of the response go, each down to half of the room;
    a response that was cut has no <|end|>.
    """
    room = context + 1 - 4
    response_room = room - min(len(prompt), room // 2)
    answer = [*response, special.end] if len(response) <= response_room else list(response[:response_room])
    prompt_room = room + 1 - len(answer)
    given = prompt_ids(prompt[max(0, len(prompt) - prompt_room) :], special)
    return given + answer, [IGNORED] * len(given) + answer


def encode(examples: LabelledExamples, tokenizer: "tokenizers.Tokenizer", shape: ModelConfig, start: int | None) -> EncodedExamples:
    """To an encoder-decoder the prompt is the source, the response the target; else one row holds both."""
    if shape.family == "seq2seq":
        return _encode_pairs(examples.table, tokenizer, shape.context, start)
    prompts = encode_behind_token(tokenizer, examples.table["prompt"].to_pylist())
    responses = encode_behind_token(tokenizer, examples.table["response"].to_pylist())
    special, pairs = special_ids(tokenizer, "fine-tuning"), list(zip(prompts, responses, strict=True))
    rows = [instruction_row(prompt, response, special, shape.context) for prompt, response in pairs]
    cut = sum(len(prompt) + len(response) + 4 > shape.context + 1 for prompt, response in pairs)
    ids, targets = id_lists([ids for ids, _ in rows]), id_lists([targets for _, targets in rows])
    return EncodedExamples(pa.table({"ids": ids, "targets": targets}), cut)


def _encode_pairs(table: pa.Table, tokenizer: "tokenizers.Tokenizer", context: int, start: int | None) -> EncodedExamples:
    special = text_ids(tokenizer, "fine-tuning", start)
    rows = pair_rows(table["prompt"].to_pylist(), table["response"].to_pylist(), tokenizer, special, context)
    columns = {
        "ids": id_lists([row.ids for row in rows]),
        "targets": id_lists([row.targets for row in rows]),
        "decoder_ids": id_lists([row.decoder_ids for row in rows]),
    }
    return EncodedExamples(pa.table(columns), sum(row.is_cut for row in rows))


INSTRUCTION = Kind(
    name="instruction",
    config=InstructionConfig,
    columns={"prompt": TEXT, "response": TEXT},
    contract=contract,
    check=check,
    encode=encode,
    head=lambda labels: HeadSpec("language"),
    metric="bits_per_byte",
    lower_is_better=True,
    writes=True,
    leaks_whole=True,
)
