"""Language model scores: bits per byte and answers on one task of a suite, beside baselines on the same items."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from model.config.heads import IGNORED
from tasks.bootstrap import Estimate, ratio
from tasks.errors import UserError
from tasks.evaluate.suite import EvaluateConfig, heldout_examples, heldout_texts, training_texts
from tasks.examples.kinds.instruction import prompt_ids
from tasks.examples.kinds.kind import LabelledExamples
from tasks.examples.pair_rows import pair_rows
from tasks.examples.rows import encode_examples, read_examples
from tasks.tokenizer.encoding import decode_text, encode_behind_token, encode_documents, special_ids, text_ids

if TYPE_CHECKING:
    import tokenizers

    from model.inference.generate import Generation
    from model.nn.models import LanguageModel, Model, Seq2SeqModel

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Score:
    """One figure: `model` is "model" for the one that is judged, else the baseline's name."""

    model: str
    task: str
    metric: str
    estimate: Estimate


@dataclass(frozen=True)
class Subject:
    """What is judged."""

    model: "Model"
    tokenizer: "tokenizers.Tokenizer"
    start: int | None = None  # of an encoder-decoder: the token that its targets begin with


def score_documents(config: EvaluateConfig, subject: Subject, corpus: Path | None) -> list[Score]:
    """Bits per byte of held-out text, of the model and of a unigram model over the same tokens; also by language."""
    from tasks.evaluate.metrics import count_tokens, document_nats, unigram_nats
    from tasks.inference.saved_models import as_language_model, start_id

    model = as_language_model(subject.model, "be scored in bits per byte")
    texts = heldout_texts(config, corpus)
    if not texts:
        raise UserError("evaluate: no held-out documents. Fix: keep some for validation, or leave out bits_per_byte.")
    ids = encode_documents(subject.tokenizer, [text.text for text in texts])
    sizes = np.array([len(text.text.encode()) for text in texts], dtype=np.float64)
    counts = count_tokens(encode_documents(subject.tokenizer, list(training_texts(config, corpus))), subject.tokenizer.get_vocab_size())
    frequency = unigram_nats(counts)
    start = start_id(subject.tokenizer)
    nats = {
        "model": document_nats(model, [[start, *one] for one in ids]),
        "unigram": np.array([frequency[one].sum() for one in ids]),
    }
    languages = np.array([text.language for text in texts])
    parts = {"bits_per_byte": np.ones(len(texts), dtype=np.bool_)}
    if len(np.unique(languages)) > 1:
        parts |= {f"bits_per_byte_{language}": languages == language for language in np.unique(languages).tolist()}
    return [
        Score(name, "bits_per_byte", metric, _bits(values[part], sizes[part], config))
        for name, values in nats.items()
        for metric, part in parts.items()
    ]


def score_instructions(config: EvaluateConfig, subject: Subject, examples: Path) -> list[Score]:
    """Bits per byte of held-out responses, and greedy answers compared with them; an encoder-decoder's prompts are its sources.

    Baselines: a unigram model over the training responses, and the commonest training response as everyone's answer.
    """
    from tasks.evaluate.metrics import commonest, count_tokens, unigram_nats

    train, held = read_examples(examples, "train"), heldout_examples(config, examples)
    scored, nats = _response_nats(subject, held)
    responses = [[token for token in row if token != IGNORED] for row in scored]
    sizes = np.array([len(decode_text(subject.tokenizer, ids).encode()) for ids in responses], dtype=np.float64)
    learned = encode_behind_token(subject.tokenizer, train.table["response"].to_pylist())
    frequency = unigram_nats(count_tokens(learned, subject.tokenizer.get_vocab_size()))
    unigram = np.array([frequency[ids].sum() for ids in responses])
    compared = held.table.slice(0, config.max_responses)
    answers = _answers(config, subject, compared["prompt"].to_pylist())
    usual = commonest(train.table["response"].to_pylist())
    expected: list[str] = compared["response"].to_pylist()
    return [
        Score("model", held.kind.name, "bits_per_byte", _bits(nats, sizes, config)),
        Score("unigram", held.kind.name, "bits_per_byte", _bits(unigram, sizes, config)),
        *_compare(config, "model", held.kind.name, subject, answers, expected),
        *_compare(config, "majority", held.kind.name, subject, [usual] * len(expected), expected),
    ]


def _bits(nats: Floats, sizes: Floats, config: EvaluateConfig) -> Estimate:
    return ratio(nats / np.log(2), sizes, config.resamples, config.seed)


def _response_nats(subject: Subject, held: LabelledExamples) -> tuple[list[list[int]], Floats]:
    """Tokens of each row that are scored, which the one that ends a response is not, the others IGNORED; their nats [rows]."""
    from model.nn.models import Seq2SeqModel
    from tasks.evaluate.metrics import pair_nats, row_nats
    from tasks.inference.saved_models import as_language_model

    model, tokenizer = subject.model, subject.tokenizer
    if not isinstance(model, Seq2SeqModel):
        model = as_language_model(model, "follow instructions")
    encoded = encode_examples(held, tokenizer, model.trunk.config, subject.start).table
    is_pair = isinstance(model, Seq2SeqModel)
    end = text_ids(tokenizer, "evaluate", subject.start).eos if is_pair else special_ids(tokenizer, "evaluate").end
    rows, targets = encoded["ids"].to_pylist(), encoded["targets"].to_pylist()
    scored = [[IGNORED if token == end else token for token in row] for row in targets]
    if isinstance(model, Seq2SeqModel):
        return scored, pair_nats(model, rows, encoded["decoder_ids"].to_pylist(), scored)
    return scored, row_nats(model, [row[:-1] for row in rows], [row[1:] for row in scored])


def _answers(config: EvaluateConfig, subject: Subject, prompts: Sequence[str]) -> list[str]:
    """Greedy answers, of at most `response_tokens`."""
    from model.nn.models import Seq2SeqModel
    from tasks.inference.saved_models import as_language_model

    model = subject.model
    if isinstance(model, Seq2SeqModel):
        steps = _translation(config, model, subject, prompts)
    else:
        steps = _conversation(config, as_language_model(model, "follow instructions"), subject, prompts)
    answers = [list[int]() for _ in prompts]
    for tokens in steps:
        for answer, token in zip(answers, tokens, strict=True):
            if token is not None:
                answer.append(token.id)
    return [decode_text(subject.tokenizer, answer) for answer in answers]


def _conversation(config: EvaluateConfig, model: "LanguageModel", subject: Subject, prompts: Sequence[str]) -> "Generation":
    """A prompt that leaves no room loses its beginning."""
    from model.inference.generate import generate
    from model.inference.sampling import Sampling

    special = special_ids(subject.tokenizer, "evaluate")
    room = max(1, model.trunk.config.context - 3 - config.response_tokens)
    given = [prompt_ids(ids[-room:], special) for ids in encode_behind_token(subject.tokenizer, prompts)]
    ends = frozenset({special.end, special.eos})
    return generate(model, given, Sampling(config.response_tokens, temperature=0, stop_ids=ends))


def _translation(config: EvaluateConfig, model: "Seq2SeqModel", subject: Subject, prompts: Sequence[str]) -> "Generation":
    """A source that is too long loses its end, as in learning."""
    from model.inference.generate import translate
    from model.inference.sampling import Sampling

    special = text_ids(subject.tokenizer, "evaluate", subject.start)
    rows = pair_rows(prompts, [""] * len(prompts), subject.tokenizer, special, model.trunk.config.context)
    sampling = Sampling(config.response_tokens, temperature=0, stop_ids=frozenset({special.eos}))
    return translate(model, [row.ids for row in rows], special.bos, sampling)


def _compare(
    config: EvaluateConfig, name: str, task: str, subject: Subject, answers: Sequence[str], expected: Sequence[str]
) -> list[Score]:
    """Answers against responses: equal but for space around them, and ROUGE-L over the tokenizer's tokens."""
    from tasks.evaluate.metrics import rouge_l

    ones = np.ones(len(expected))
    equal = np.array([float(a.strip() == e.strip()) for a, e in zip(answers, expected, strict=True)])
    pairs = zip(*(encode_documents(subject.tokenizer, [t.strip() for t in texts]) for texts in (answers, expected)), strict=True)
    overlap = np.array([rouge_l(found, wanted) for found, wanted in pairs])
    return [
        Score(name, task, "exact_match", ratio(equal, ones, config.resamples, config.seed)),
        Score(name, task, "rouge_l", ratio(overlap, ones, config.resamples, config.seed)),
    ]
