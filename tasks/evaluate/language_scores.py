"""Language model scores: bits per byte and answers on one task of a suite, beside baselines on the same items."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from model.config.heads import IGNORED
from tasks.errors import UserError
from tasks.evaluate.byte_kinds import BYTE_KINDS, Spans, encode_with_spans, nats_by_kind
from tasks.evaluate.judged import PART, Judged, Subject, example_items, figures_of, part_of, ratio_columns, text_items
from tasks.evaluate.suite import EvaluateConfig, HeldoutText, heldout_examples
from tasks.examples.kinds.instruction import prompt_ids
from tasks.examples.kinds.kind import LabelledExamples
from tasks.examples.pair_rows import pair_rows
from tasks.examples.rows import encode_examples, read_examples
from tasks.items import Floats, Item, ItemFigures
from tasks.scores import OWN
from tasks.tokenizer.encoding import behind_token, decode_text, encode_behind_token, encode_documents, special_ids, text_ids

if TYPE_CHECKING:
    from model.inference.generate import Generation
    from model.nn.models import LanguageModel, Seq2SeqModel


def score_documents(subject: Subject, texts: Sequence[HeldoutText], learned: Iterable[str]) -> Judged:
    """Bits per byte of held-out text, of the model and of a unigram model of what was `learned`; by language, and by kind of byte."""
    from tasks.evaluate.metrics import count_tokens, document_nats, unigram_nats
    from tasks.inference.saved_models import as_language_model, start_id

    model = as_language_model(subject.model, "be scored in bits per byte")
    if not texts:
        raise UserError("evaluate: no held-out documents. Fix: keep some for validation, or leave out bits_per_byte.")
    ids, spans = encode_with_spans(subject.tokenizer, [text.text for text in texts])
    frequency = unigram_nats(count_tokens(encode_documents(subject.tokenizer, list(learned)), subject.tokenizer.get_vocab_size()))
    start = start_id(subject.tokenizer)
    nats = document_nats(model, [[start, *one] for one in ids])
    items = text_items("bits_per_byte", texts)
    return Judged(
        items,
        (
            *_by_language(_bits(OWN, items, np.array([one.sum() for one in nats])), texts),
            *_by_language(_bits("unigram", items, np.array([frequency[one].sum() for one in ids])), texts),
            *_by_kind(items, [text.text for text in texts], spans, nats),
        ),
    )


def _by_language(figures: ItemFigures, texts: Sequence[HeldoutText]) -> list[ItemFigures]:
    """Over all documents, and where they are of several languages over those of each."""
    languages = np.array([text.language for text in texts])
    names = np.unique(languages).tolist()
    return [figures, *(part_of(figures, f"{figures.metric}_{name}", languages == name) for name in names if len(names) > 1)]


def _by_kind(items: Sequence[Item], texts: Sequence[str], spans: Sequence[Spans], nats: Sequence[Floats]) -> list[ItemFigures]:
    """A part of the model's bits per byte for each kind of byte, over the items that have any of it."""
    found = [nats_by_kind(text, places, one) for text, places, one in zip(texts, spans, nats, strict=True)]
    return [
        part_of(_bits(OWN, items, of_kind, sizes), f"bits_per_byte{PART}{kind}", sizes > 0)
        for kind, of_kind, sizes in zip(BYTE_KINDS, *(np.array(part, np.float64).T for part in zip(*found, strict=True)), strict=True)
        if sizes.any()
    ]


def score_instructions(config: EvaluateConfig, subject: Subject, examples: Path) -> Judged:
    """Bits per byte of held-out responses, and greedy answers compared with them; an encoder-decoder's prompts are its sources.

    Baselines: a unigram model over the training responses, and the commonest training response as everyone's answer.
    """
    from tasks.evaluate.metrics import commonest, count_tokens, unigram_nats

    train, held = read_examples(examples, "train"), heldout_examples(config, examples)
    responses, nats = _response_nats(subject, held)
    texts, spans = _read_back(subject, held.table["response"].to_pylist(), responses)
    sizes = np.array([len(text.encode()) for text in texts], dtype=np.float64)
    learned = encode_behind_token(subject.tokenizer, train.table["response"].to_pylist())
    frequency = unigram_nats(count_tokens(learned, subject.tokenizer.get_vocab_size()))
    unigram = np.array([frequency[ids].sum() for ids in responses])
    items = example_items(held, held.table["response"].to_pylist())
    compared = held.table.slice(0, config.max_responses)
    answers = _answers(config, subject, compared["prompt"].to_pylist())
    usual = [commonest(train.table["response"].to_pylist())] * len(answers)
    expected: list[str] = compared["response"].to_pylist()
    shown = [*answers, *[""] * (len(items) - len(answers))]
    return Judged(
        items,
        (
            _bits(OWN, items, np.array([one.sum() for one in nats]), sizes, shown),
            _bits("unigram", items, unigram, sizes),
            *_compare(OWN, items[: len(answers)], subject, answers, expected),
            *_compare("majority", items[: len(answers)], subject, usual, expected),
            *_by_kind(items, texts, spans, nats),
        ),
    )


def _bits(
    model: str, items: Sequence[Item], nats: Floats, sizes: Floats | None = None, answers: Sequence[str] | None = None
) -> ItemFigures:
    """Bits per byte; of all bytes of the items where no `sizes` are given."""
    if sizes is None:
        sizes = np.array([item.bytes for item in items], np.float64)
    return figures_of(model, "bits_per_byte", "ratio", items, ratio_columns(nats / np.log(2), sizes), answers)


def _response_nats(subject: Subject, held: LabelledExamples) -> tuple[list[list[int]], list[Floats]]:
    """Tokens of each response as far as it fits, without the one that ends it, and their nats."""
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
        found = pair_nats(model, rows, encoded["decoder_ids"].to_pylist(), scored)
    else:
        found = row_nats(model, [row[:-1] for row in rows], [row[1:] for row in scored])
    return [[token for token in row if token != IGNORED] for row in scored], found


def _read_back(subject: Subject, responses: Sequence[str], read: Sequence[Sequence[int]]) -> tuple[list[str], list[Spans]]:
    """Of each response the text that the tokens which were `read` of it stand for, and where in it each stands."""
    tokenizer = behind_token(subject.tokenizer) if subject.start is None else subject.tokenizer
    texts, kept = list[str](), list[Spans]()
    for text, part, whole, (starts, ends) in zip(responses, read, *encode_with_spans(tokenizer, responses), strict=True):
        assert whole[: len(part)] == part
        texts.append(text if len(part) == len(whole) else text[: ends[: len(part)].max(initial=0)])
        kept.append((starts[: len(part)], ends[: len(part)]))
    return texts, kept


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


def _compare(model: str, items: Sequence[Item], subject: Subject, answers: Sequence[str], expected: Sequence[str]) -> list[ItemFigures]:
    """Answers against responses: equal but for space around them, and ROUGE-L over the tokenizer's tokens."""
    from tasks.evaluate.metrics import rouge_l

    equal = np.array([float(a.strip() == e.strip()) for a, e in zip(answers, expected, strict=True)])
    pairs = zip(*(encode_documents(subject.tokenizer, [t.strip() for t in texts]) for texts in (answers, expected)), strict=True)
    overlap = np.array([rouge_l(found, wanted) for found, wanted in pairs])
    return [
        figures_of(model, metric, "ratio", items, ratio_columns(values), answers)
        for metric, values in (("exact_match", equal), ("rouge_l", overlap))
    ]
