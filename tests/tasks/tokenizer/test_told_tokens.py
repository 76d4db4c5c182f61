"""Which tokens begin and end a text, by the folder of a tokenizer."""

import json
import logging
from pathlib import Path

import pytest
import tokenizers
from tokenizers import models
from transformers import AutoTokenizer

from tasks.errors import UserError
from tasks.inference.folder_settings import folder_settings
from tasks.inference.folder_writing import write_tokenizer
from tasks.inference.saved_models import start_id
from tasks.tokenizer.encoding import load_tokenizer, mask_of, stop_ids, text_ids
from tasks.tokenizer.told_tokens import copied

TOKENS = ("<pad>", "<eos>", "<bos>", "<s>", "</s>", "[CLS]", "[SEP]", "<turn>", "<|endoftext|>", "<fill>", "<hole>", "<odd>")
ID = {token: number for number, token in enumerate(TOKENS)}


def read(folder: Path, **files: object) -> tokenizers.Tokenizer:
    """A tokenizer that knows all of TOKENS, in a folder with these files beside it."""
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.add_special_tokens(list(TOKENS))
    tokenizer.save(str(folder / "tokenizer.json"))
    for name, content in files.items():
        path = folder / f"{name.replace('model_', 'model/')}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content))
    return load_tokenizer(folder)


@pytest.mark.parametrize(
    ("files", "start", "ends"),
    [
        ({"tokenizer_config": {"bos_token": "<bos>", "eos_token": "<eos>"}}, "<bos>", ["<eos>"]),
        ({"tokenizer_config": {"bos_token": {"content": "<bos>"}, "eos_token": {"content": "<turn>"}}}, "<bos>", ["<turn>"]),
        ({"special_tokens_map": {"bos_token": {"content": "<bos>", "lstrip": False}, "eos_token": "<eos>"}}, "<bos>", ["<eos>"]),
        ({"tokenizer_config": {"bos_token": "<s>"}, "special_tokens_map": {"bos_token": "<bos>"}}, "<bos>", None),
        ({"tokenizer_config": {"bos_token": None, "cls_token": "[CLS]", "sep_token": "[SEP]"}}, "[CLS]", ["[SEP]"]),
        ({"config": {"bos_token_id": 2, "eos_token_id": [1, 7]}}, "<bos>", ["<eos>", "<turn>"]),
        ({"model_config": {"bos_token_id": 2, "eos_token_id": 1}}, "<bos>", ["<eos>"]),
        ({"config": {"bos_token_id": 2, "eos_token_id": 1}, "generation_config": {"eos_token_id": [1, 7]}}, "<bos>", ["<eos>", "<turn>"]),
        ({"tokenizer_config": {"eos_token": "<turn>"}, "config": {"bos_token_id": 2, "eos_token_id": 1}}, "<bos>", ["<turn>", "<eos>"]),
        (
            {"tokenizer_config": {"cls_token": "[CLS]"}, "config": {"model_type": "bert", "bos_token_id": 0, "eos_token_id": 2}},
            "[CLS]",
            None,
        ),
        ({"tokenizer_config": {}}, "[CLS]", None),
    ],
    ids=str,
)
def test_text_begins_and_ends_as_the_folder_says(files: dict[str, object], start: str, ends: list[str] | None, tmp_path: Path) -> None:
    tokenizer = read(tmp_path, **files)
    around = text_ids(tokenizer, "here")
    assert around.bos == start_id(tokenizer) == ID[start]
    if ends is None:  # our own list, for a folder that names none
        assert around.eos == ID["[SEP]"]
    else:
        assert around.eos == ID[ends[0]]
        assert stop_ids(tokenizer) == {ID[end] for end in ends}


def test_id_outside_the_vocabulary_is_told_of_where_another_file_knows_better(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        tokenizer = read(tmp_path, tokenizer_config={"eos_token": "<eos>"}, config={"bos_token_id": 2, "eos_token_id": [7, 50256]})
    assert stop_ids(tokenizer) == {ID["<eos>"], ID["<turn>"]}
    assert f"{tmp_path / 'config.json'}: eos_token_id is 50256, expected an id of tokenizer.json, 0 to 11: it is not used" in caplog.text


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"config": {"bos_token_id": 99, "eos_token_id": 1}}, "bos_token_id is 99, expected an id of tokenizer.json, 0 to 11. Fix"),
        ({"config": {"bos_token_id": 2, "eos_token_id": ["1"]}}, "config.json: eos_token_id is '1', expected an id"),
        ({"tokenizer_config": {"eos_token": "<end>"}}, "eos_token is '<end>', expected a token of tokenizer.json. Fix"),
        ({"tokenizer_config": {"eos_token": "<end>"}, "config": {"eos_token_id": 1}}, "tokenizer_config.json: eos_token is '<end>'"),
        ({"tokenizer_config": "[]"}, "tokenizer_config.json: found list, expected an object"),
        ({"special_tokens_map": "{"}, "special_tokens_map.json: not JSON"),
    ],
    ids=str,
)
def test_folder_that_names_only_unknown_tokens_is_refused(files: dict[str, object], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as refused:
        text_ids(read(tmp_path, **files), "here")
    assert message in str(refused.value)


AROUND = {"bos_token": "<bos>", "eos_token": "<eos>"}


@pytest.mark.parametrize(
    "files",
    [
        {"tokenizer_config": {**AROUND, "pad_token": "<fill>"}},
        {"tokenizer_config": {**AROUND, "pad_token": {"content": "<fill>", "__type": "AddedToken"}, "mask_token": "<hole>"}},
        {
            "tokenizer_config": AROUND,
            "special_tokens_map": {"pad_token": {"content": "<fill>"}, "mask_token": "<hole>", "unk_token": "<odd>"},
        },
        {"tokenizer_config": {**AROUND, "pad_token": "<eos>", "unk_token": "<odd>"}},
        {"tokenizer_config": {"eos_token": "<s>", "pad_token": "<pad>"}, "special_tokens_map": {**AROUND, "pad_token": "<fill>"}},
        {"tokenizer_config": {**AROUND, "pad_token": None}, "special_tokens_map": {"pad_token": "<fill>"}},
    ],
    ids=str,
)
def test_padding_and_other_tokens_are_those_that_transformers_reads_from_the_folder(files: dict[str, object], tmp_path: Path) -> None:
    source, written = tmp_path / "source", tmp_path / "written"
    source.mkdir()
    written.mkdir()
    tokenizer = read(source, **files)
    theirs, around = AutoTokenizer.from_pretrained(source), text_ids(tokenizer, "here")
    assert (around.bos, around.eos, around.pad) == (theirs.bos_token_id, theirs.eos_token_id, theirs.pad_token_id)
    assert theirs.mask_token_id in (None, mask_of(tokenizer))
    assert folder_settings(source, tokenizer, len(TOKENS))["pad_token_id"] == theirs.pad_token_id
    write_tokenizer(tokenizer, source, written, 16, None, is_pair=False)
    again = AutoTokenizer.from_pretrained(written)
    for name in ("bos_token", "eos_token", "pad_token", "unk_token", "mask_token"):
        assert getattr(theirs, name) in (None, getattr(again, name))
    assert text_ids(load_tokenizer(written), "here") == text_ids(copied(tokenizer), "here") == around


@pytest.mark.parametrize(
    ("files", "pad", "told"),
    [
        (
            {"tokenizer_config": {**AROUND, "pad_token": "[PAD]"}},
            "<pad>",
            "tokenizer_config.json: pad_token is '[PAD]', expected a token of",
        ),
        ({"tokenizer_config": AROUND, "config": {"pad_token_id": 9}}, "<fill>", ""),
        ({"tokenizer_config": AROUND, "config": {"pad_token_id": 99}}, "<pad>", "config.json: pad_token_id is 99, expected an id of"),
        ({"tokenizer_config": AROUND, "config": {"pad_token_id": -1}}, "<pad>", ""),
        ({"tokenizer_config": AROUND, "config": {"model_type": "bert", "pad_token_id": 9}}, "<pad>", ""),
    ],
    ids=str,
)
def test_padding_that_the_folder_names_wrongly_is_told_of(
    files: dict[str, object], pad: str, told: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        tokenizer = read(tmp_path, **files)
    assert text_ids(tokenizer, "here").pad == ID[pad]
    assert told in caplog.text
    assert bool(told) == bool(caplog.text)
