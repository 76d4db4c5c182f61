"""Model card of an export: README.md, from what the manifests of its workspace say of the model."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.artifacts import Manifest, Workspace, file_digest, read_manifest
from tasks.corpus.mixture import MixtureRow, read_mixture
from tasks.export.certificate import Check
from tasks.export.foreign_check import PACKAGE
from tasks.inference.task_file import read_task
from tasks.lineage.artifact_graph import Graph, Node, read_graph
from tasks.scores import ScoreRow, read_scores

if TYPE_CHECKING:
    from model.huggingface.folder_config import Head
    from model.nn.models import Model

CARD, WEIGHTS = "README.md", "model.safetensors"
LANGUAGE_SHARE = 0.01  # of the training text, at least, for a language to be named
PIPELINES: "dict[Head, tuple[str, str, str]]" = {  # tag, class that loads it, what it is
    "language": ("text-generation", "AutoModelForCausalLM", "a language model: it continues a text"),
    "masked": ("fill-mask", "AutoModelForMaskedLM", "an encoder: it tells the tokens behind masks"),
    "seq2seq": ("text2text-generation", "AutoModelForSeq2SeqLM", "an encoder-decoder: it writes a text after reading one"),
    "sequence": ("text-classification", "AutoModelForSequenceClassification", "a classifier of texts"),
    "tokens": ("token-classification", "AutoModelForTokenClassification", "a classifier of words"),
    "choice": ("multiple-choice", "AutoModelForMultipleChoice", "it chooses among texts"),
}


@dataclass(frozen=True)
class Origin:
    """Where a model comes from; what is not known is empty."""

    manifest: Manifest | None = None
    lineage: tuple[Node, ...] = ()  # in the order of the stages
    text: tuple[MixtureRow, ...] = ()  # that it was trained on
    scores: tuple[ScoreRow, ...] = ()


def find_artifact(source: Path, workspace: Workspace) -> Path | None:
    """The artifact that holds the folder `source`, or, where that is a copy from a registry, the same weights."""
    if source.name == "model" and read_manifest(source.parent) is not None:
        return source.parent
    if not (source / WEIGHTS).is_file():
        return None
    digest = file_digest(source / WEIGHTS)
    for path in sorted(workspace.root.glob(f"*/*/model/{WEIGHTS}")):
        manifest = read_manifest(path.parent.parent)
        entries = () if manifest is None else manifest.files
        if any((entry.path, entry.sha256) == (f"model/{WEIGHTS}", digest) for entry in entries):
            return path.parent.parent
    return None


def read_origin(artifact: Path | None) -> Origin:
    """From the artifact, if there is one, and the workspace around it."""
    if artifact is None:
        return Origin()
    manifest, root = read_manifest(artifact), artifact.parent.parent
    if manifest is None or not (root / "workspace.json").is_file():
        return Origin(manifest)
    graph = read_graph(Workspace(root))
    if manifest.fingerprint not in graph.nodes:
        return Origin(manifest)
    sources = graph.sources(manifest.fingerprint)
    lineage = tuple(node for fingerprint, node in graph.nodes.items() if fingerprint in sources)
    return Origin(manifest, lineage, _training_text(lineage), _scores(graph, manifest.fingerprint))


def _training_text(lineage: Sequence[Node]) -> tuple[MixtureRow, ...]:
    folders = [node.folder for node in lineage if node.stage == "decontaminate"]
    found = [row for folder in folders for row in read_mixture(folder) if row.split == "train"]
    return tuple(sorted(found, key=lambda row: -row.bytes))


def _scores(graph: Graph, fingerprint: str) -> tuple[ScoreRow, ...]:
    folders = [node.folder for node in graph.of("evaluate") if node.inputs.get("model") == fingerprint]
    return tuple(row for folder in folders for row in read_scores(folder))


def write_card(folder: Path, source: Path, origin: Origin, model: "Model", padding: int, dtype: str, checks: Sequence[Check]) -> None:
    """Writes README.md: a YAML front matter that the Hub reads, then what the model is, was made of, scored and lacks.

    `padding`: rows of the vocabulary that were sliced off.
    """
    from model.huggingface.huggingface import head_of

    head, task = head_of(model), read_task(folder)
    sections = (
        _front_matter(origin, head, _license(source)),
        f"# {folder_title(origin, source)}\n\nThis is {PIPELINES[head][2]}. Wordmill made this folder.",
        _what(model, padding, dtype),
        _text(origin),
        _figures(origin),
        _loading(head, is_chat=head == "language" and task is not None and task.is_chat),
        _certificate(checks),
        _lineage(origin, source),
        _limits(origin, model, head),
    )
    (folder / CARD).write_text("\n\n".join(part for part in sections if part) + "\n", encoding="utf-8")


def folder_title(origin: Origin, source: Path) -> str:
    """A name for the model: its stage and fingerprint, or its folder's name."""
    return f"{origin.manifest.stage} {origin.manifest.fingerprint}" if origin.manifest else source.resolve().name


def _license(source: Path) -> str | None:
    """What the card of the source says; none is invented."""
    import yaml

    card = source / CARD
    match = re.match(r"---\n(.*?)\n---", card.read_text(encoding="utf-8"), re.DOTALL) if card.is_file() else None
    try:
        front: object = yaml.safe_load(match[1]) if match else None
    except yaml.YAMLError:
        return None
    found = front.get("license") if isinstance(front, dict) else None
    return found if isinstance(found, str) else None


def languages(text: Sequence[MixtureRow]) -> list[str]:
    """ISO codes of the languages that have a share of the text worth naming, largest first; code is none."""
    total = sum(row.bytes for row in text)
    sizes: dict[str, int] = {}
    for row in text:
        sizes[row.language] = sizes.get(row.language, 0) + row.bytes
    named = sorted(sizes, key=lambda name: (-sizes[name], name))
    return [name for name in named if re.fullmatch(r"[a-z]{2,3}", name) and sizes[name] >= LANGUAGE_SHARE * total]


def _front_matter(origin: Origin, head: "Head", license: str | None) -> str:
    import yaml

    values: dict[str, object] = {"library_name": PACKAGE, "pipeline_tag": PIPELINES[head][0], "tags": ["wordmill"]}
    if origin.text and languages(origin.text):
        values["language"] = languages(origin.text)
    if license is not None:
        values["license"] = license
    return f"---\n{yaml.safe_dump(values, sort_keys=True, allow_unicode=True)}---"


def _what(model: "Model", padding: int, dtype: str) -> str:
    config, size = model.trunk.config, model.trunk.vocab_size
    parameters = sum(parameter.numel() for parameter in model.parameters())
    sliced = f" ({padding:,} rows of padding were sliced off)" if padding else ""
    return (
        f"| | |\n|---|---|\n| family | {config.family} |\n| parameters | {parameters:,} |\n"
        f"| shape | {config.layers} layers, {config.width} channels, {config.heads} heads |\n"
        f"| context | {config.context:,} tokens |\n| vocabulary | {size:,} tokens{sliced} |\n| weights | {dtype} |"
    )


def _text(origin: Origin) -> str:
    if not origin.text:
        return "## Training text\n\nNot known: the folder it was exported from says nothing of it."
    rows = "\n".join(f"| {_cell(row.source)} | {row.language} | {row.documents:,} | {row.bytes:,} |" for row in origin.text)
    trained = [read_manifest(node.folder) for node in origin.lineage if node.stage == "pretrain"]  # several where one went on from another
    tokens = sum(manifest.figures.get("tokens", 0.0) for manifest in trained if manifest is not None)
    seen = f"\n\nPretraining saw {int(tokens):,} tokens of it, repetitions counted." if tokens else ""
    return f"## Training text\n\n| source | language | documents | bytes |\n|---|---|---:|---:|\n{rows}{seen}"


def _figures(origin: Origin) -> str:
    if not origin.scores:
        return ""
    rows = "\n".join(
        f"| {row.suite} | {row.task} | {row.metric} | {row.model} | {row.value:.4g} | "
        f"{row.ci_low:.4g} to {row.ci_high:.4g} | {row.n} | {row.seed} |"
        for row in origin.scores
    )
    return (
        "## Figures\n\nOn held-out text and examples; intervals are of 95 %; `model` is this one, all others are baselines.\n\n"
        f"| suite | task | metric | of | value | interval | n | seed |\n|---|---|---|---|---:|---:|---:|---:|\n{rows}"
    )


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _loading(head: "Head", is_chat: bool) -> str:
    """Four lines that run in the folder."""
    _, loader, _ = PIPELINES[head]
    inputs = 'tokenizer("The mill", return_tensors="pt")'
    if is_chat:
        asked = '[{"role": "user", "content": "What is a mill?"}]'
        inputs = f'tokenizer.apply_chat_template({asked}, add_generation_prompt=True, return_dict=True, return_tensors="pt")'
    elif head == "choice":
        inputs = '{k: v[None] for k, v in tokenizer(["One.", "Two."], padding=True, return_tensors="pt").items()}'
    writes = head in ("language", "seq2seq")
    lines = [
        f"from transformers import AutoTokenizer, {loader}",
        f'tokenizer, model = AutoTokenizer.from_pretrained("."), {loader}.from_pretrained(".")',
        f"inputs = {inputs}",
        "print(tokenizer.decode(model.generate(**inputs, max_new_tokens=40)[0]))" if writes else "print(model(**inputs).logits)",
    ]
    return "## Loading it\n\n```python\n" + "\n".join(lines) + "\n```"


def _certificate(checks: Sequence[Check]) -> str:
    rows = "\n".join(
        f"| {check.name} | {check.what or '–'} | {'not checked: ' + _cell(check.told) if check.found is None else f'{check.found:.3g}'} "
        f"| {f'{check.allowed:.3g}' if check.found is not None else '–'} |"
        for check in checks
    )
    return (
        "## Certificate\n\nThe folder was loaded anew and compared with the model before; see certificate.json.\n\n"
        f"| compared | on | difference | allowed |\n|---|---|---:|---:|\n{rows}"
    )


def _lineage(origin: Origin, source: Path) -> str:
    if not origin.lineage:
        exported = f"artifact {origin.manifest.fingerprint}" if origin.manifest else f"the folder {source.resolve().name}"
        return f"## Lineage\n\nExported from {exported}."
    rows = "\n".join(f"| {node.stage} | `{node.fingerprint}` | {node.finished or ''} |" for node in origin.lineage)
    return f"## Lineage\n\n| stage | fingerprint | finished |\n|---|---|---|\n{rows}"


def _limits(origin: Origin, model: "Model", head: "Head") -> str:
    lines = [f"- It reads at most {model.trunk.config.context:,} tokens."]
    if head in ("language", "seq2seq"):
        lines.append("- What it writes may be false, and may repeat what stood in its training text.")
    if origin.text:
        named = ", ".join(sorted({row.language for row in origin.text}))
        lines.append(f"- It has seen these languages alone: {named}.")
    lines.append("- It was judged by the figures above and nothing else." if origin.scores else "- It was not judged here.")
    return "## Limits\n\n" + "\n".join(lines)
