"""Text generation against transformers' `generate`: the same weights, greedy, both sides in this process, taking turns.

    python benchmarks/generation.py --json rows.json
    python benchmarks/generation.py --quick --rows generate-b1

GPT-2's shape of 124M parameters with random weights, read from a folder that transformers has written. Each side reads a
prompt and writes tokens; the tokens of the float32 rows must be identical, else there is no row. Tokens a processor second
are compared with one thread, tokens a second with more threads or on a GPU; a ratio above 1 is in our favor. What happens
once (loading; weights laid out by model/inference/prepared_model.py) is not timed and is told as `ready_seconds`. The
bfloat16 rows, where the processor is made for it, tell which share of each side's tokens are those of float32, up to the
first other one of a text.
"""

import argparse
import copy
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # run as a script, Python looks beside it, not where `model` and `benchmarks` are

import torch  # noqa: E402
import transformers  # noqa: E402

from benchmarks.corpus import show  # noqa: E402
from benchmarks.sides import Row  # noqa: E402
from model.distributed.device import choose_precision  # noqa: E402
from model.huggingface.huggingface import load_folder  # noqa: E402
from model.inference.generate import generate  # noqa: E402
from model.inference.prepared_model import for_inference  # noqa: E402
from model.inference.sampling import Sampling  # noqa: E402
from model.nn.models import LanguageModel  # noqa: E402

VOCAB = 50_257
Texts = list[list[int]]
Side = Callable[[int], Texts]  # tokens to write -> what was written behind each prompt


@dataclass(frozen=True)
class Scale:
    """How much each run writes."""

    pairs: int
    prompt_tokens: int
    tokens: int


@dataclass(frozen=True)
class Case:
    """One row."""

    batch: int
    dtype: torch.dtype


FULL, QUICK = Scale(7, 32, 128), Scale(1, 16, 16)
ROWS = {
    "generate-b1": Case(1, torch.float32),
    "generate-b8": Case(8, torch.float32),
    "generate-b1-bfloat16": Case(1, torch.bfloat16),
    "generate-b8-bfloat16": Case(8, torch.bfloat16),
}


@dataclass(frozen=True)
class Bench:
    """The two models, and where and how much they write."""

    ours: LanguageModel
    theirs: transformers.GPT2LMHeadModel
    device: torch.device
    scale: Scale

    def prompts(self, batch: int) -> torch.Tensor:
        """[batch, prompt tokens] int64."""
        generator = torch.Generator().manual_seed(batch)
        return torch.randint(0, VOCAB, (batch, self.scale.prompt_tokens), generator=generator)

    def our_side(self, model: LanguageModel, batch: int) -> Side:
        prompts = self.prompts(batch).tolist()

        def write(tokens: int) -> Texts:
            texts: Texts = [[] for _ in prompts]
            for step in generate(model, prompts, Sampling(tokens, temperature=0)):
                for text, token in zip(texts, step, strict=True):
                    if token is not None:
                        text.append(token.id)
            return texts

        return write

    def their_side(self, case: Case) -> Side:
        ids = self.prompts(case.batch).to(self.device)
        mask = torch.ones_like(ids)
        model = copy.deepcopy(self.theirs).to(case.dtype)

        def write(tokens: int) -> Texts:
            done = model.generate(
                input_ids=ids, attention_mask=mask, max_new_tokens=tokens, do_sample=False, eos_token_id=None, pad_token_id=0
            )
            return done[:, ids.shape[1] :].tolist()

        return write

    def seconds(self, side: Side) -> tuple[float, Texts]:
        """Processor seconds of one thread, else seconds, and the texts."""
        clock = time.process_time if self.device.type == "cpu" and torch.get_num_threads() == 1 else time.perf_counter
        began = clock()
        texts = side(self.scale.tokens)
        return clock() - began, texts

    def row(self, name: str, case: Case) -> Row:
        """Pairs of runs, taking turns; RuntimeError when the tokens of a float32 row differ."""
        began = time.perf_counter()
        ready = for_inference(self.ours, case.dtype, case.batch)
        ready_seconds = time.perf_counter() - began
        ours, theirs = self.our_side(ready, case.batch), self.their_side(case)
        ours(2), theirs(2)  # what is done once is done
        our_seconds: list[float] = []
        their_seconds: list[float] = []
        our_texts: Texts = []
        their_texts: Texts = []
        for _ in range(self.scale.pairs):
            spent, our_texts = self.seconds(ours)
            our_seconds.append(spent)
            spent, their_texts = self.seconds(theirs)
            their_seconds.append(spent)
        if case.dtype == torch.float32 and our_texts != their_texts:
            raise RuntimeError(f"{name}: the sides wrote other tokens, {our_texts} and {their_texts}")
        count = case.batch * self.scale.tokens
        our_rates, their_rates = ([count / spent for spent in runs] for runs in (our_seconds, their_seconds))
        rate, their_rate = statistics.median(our_rates), statistics.median(their_rates)
        facts: Row = {"ready_seconds": ready_seconds, "threads": torch.get_num_threads(), "load": os.getloadavg()[0]}
        if case.dtype != torch.float32:
            facts |= self._agreement(case.batch, our_texts, their_texts)
        is_cpu_time = self.device.type == "cpu" and torch.get_num_threads() == 1
        return {
            "name": name,
            "ours": rate,
            "peer": their_rate,
            "peer_name": f"transformers {transformers.__version__}, {str(case.dtype).removeprefix('torch.')}",
            "ratio": rate / their_rate,
            "unit": "tokens per CPU second" if is_cpu_time else "tokens per second",
            "runs": self.scale.pairs,
            "ours_each": [round(one, 2) for one in our_rates],
            "peer_each": [round(one, 2) for one in their_rates],
            **facts,
        }

    def _agreement(self, batch: int, ours: Texts, theirs: Texts) -> Row:
        """The share of tokens that are those of our float32 model, up to the first that differs in each text."""
        exact = self.our_side(for_inference(self.ours, torch.float32, batch), batch)(self.scale.tokens)
        return {"ours_as_float32": _shared(ours, exact), "peer_as_float32": _shared(theirs, exact)}


def _shared(texts: Texts, exact: Texts) -> float:
    equal = [
        next((at for at, (one, other) in enumerate(zip(text, right, strict=True)) if one != other), len(right))
        for text, right in zip(texts, exact, strict=True)
    ]
    return sum(equal) / sum(map(len, exact))


def main() -> None:
    asked = _parsed()
    if asked.threads:
        torch.set_num_threads(asked.threads)
    torch.manual_seed(0)
    theirs = transformers.GPT2LMHeadModel(transformers.GPT2Config(vocab_size=VOCAB)).eval()
    with tempfile.TemporaryDirectory() as folder:
        theirs.save_pretrained(folder)
        ours = load_folder(Path(folder))
    assert isinstance(ours, LanguageModel)
    device = torch.device(asked.device)
    bench = Bench(ours.eval().to(device), theirs.to(device), device, QUICK if asked.quick else FULL)
    rows: list[Row] = []
    for name in asked.rows.split(",") if asked.rows else ROWS:
        if ROWS[name].dtype == torch.bfloat16 and choose_precision("auto", device) != torch.bfloat16:
            print(f"{name}: left out; this processor only emulates bfloat16", file=sys.stderr)
            continue
        rows.append(bench.row(name, ROWS[name]))
        show(rows[-1])
        if asked.json is not None:
            asked.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


def _parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", help=f"comma-separated; all: {','.join(ROWS)}")
    parser.add_argument("--threads", type=int, default=1, help="of both sides; 0: torch's default")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--quick", action="store_true", help="few tokens, one pair: no figure to quote")
    parser.add_argument("--json", type=Path, help="file for the rows")
    asked = parser.parse_args()
    unknown = set(asked.rows.split(",") if asked.rows else ()) - set(ROWS)
    if unknown:
        parser.error(f"--rows: {', '.join(sorted(unknown))} unknown; known: {', '.join(ROWS)}")
    return asked


if __name__ == "__main__":
    main()
