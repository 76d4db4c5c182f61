"""Sample texts: what a model writes after the prompts of a suite, each with what gives it again."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tasks.evaluate.judged import Subject
from tasks.evaluate.suite import EvaluateConfig

FILE = "samples.json"


@dataclass(frozen=True)
class SampleText:
    """A text that continues `prompt` and does not repeat it; of an encoder-decoder, an answer."""

    prompt: str
    text: str
    seed: int
    temperature: float


def draw_samples(config: EvaluateConfig, subject: Subject, is_chat: bool) -> list[SampleText]:
    """As many for each prompt as the suite says."""
    from model.inference.sampling import Sampling
    from model.nn.models import Seq2SeqModel
    from tasks.inference.generation import continue_text, translate_text

    model, tokenizer = subject.model, subject.tokenizer
    samples: list[SampleText] = []
    sampling = Sampling(config.sample_tokens, config.temperature, seed=config.seed)
    for prompt in config.prompts:
        if isinstance(model, Seq2SeqModel):
            assert subject.start is not None
            texts = translate_text(model, tokenizer, prompt, subject.start, config.samples, sampling)
        else:
            texts = continue_text(model, tokenizer, prompt, config.samples, sampling, is_chat=is_chat)
        samples += [SampleText(prompt, text, config.seed, config.temperature) for text in texts]
    return samples


def write_samples(samples: Sequence[SampleText], folder: Path) -> None:
    """samples.json."""
    values = [asdict(sample) for sample in samples]
    (folder / FILE).write_text(json.dumps(values, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def read_samples(folder: Path) -> list[SampleText]:
    """What `write_samples` wrote."""
    return [SampleText(**values) for values in json.loads((folder / FILE).read_text(encoding="utf-8"))]
