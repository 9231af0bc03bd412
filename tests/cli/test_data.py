"""What runs read: every format behind ``[data]``, its split, its tokenizer, its rows."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from chat_templates import PLAIN, tokenizer_with, turns

from tisslm.config import ConfigNote, RunConfig
from tisslm.datasets import (
    MixedDataset,
    PackedDataset,
    TokenDataset,
    python_docs_text,
    split_text,
)
from tisslm.errors import ConfigError, DataError
from tisslm.registry import load_registry
from tisslm.tokenizers import BpeTokenizer, ByteTokenizer, CharTokenizer
from tisslm.workflows.build.data import RunData, load_data, load_file, load_validation

if TYPE_CHECKING:
    from conftest import Cli

WORDS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]


def config(tokenizer: Any = None, **data: Any) -> RunConfig:
    return RunConfig.from_mapping({"data": data, "tokenizer": tokenizer or {"name": "byte"}})


def load(tokenizer: Any = None, seq_len: int = 8, **data: Any) -> RunData:
    return load_data(config(tokenizer, **data), seq_len, load_registry())


def write_records(folder: Path, name: str = "a.jsonl", n: int = 40, **more: str) -> list[str]:
    texts = [f"{WORDS[i % 10]} {i} " * (i % 7 + 1) for i in range(n)]
    lines = [json.dumps({"text": text, **more}) for text in texts]
    (folder / name).write_text("\n".join(lines) + "\n")
    return texts


def documents(dataset: object) -> list[bytes]:
    assert isinstance(dataset, PackedDataset)
    docs = dataset.documents
    return [docs.document(i)[0].tobytes() for i in range(len(docs))]


@pytest.mark.parametrize("name", ["char", "bpe"])
def test_a_run_of_one_text_reads_what_it_always_did(folder: Path, name: str) -> None:
    text = python_docs_text()[:30_000] + "\u4e2d"
    (folder / "text.txt").write_text(text)
    options = {"vocab_size": 400, "special_tokens": ["<|endoftext|>"]} if name == "bpe" else {}
    found = load({"name": name, **options}, 16, path="text.txt")
    train, valid = split_text(text)
    kind = BpeTokenizer if name == "bpe" else CharTokenizer
    tokenizer = kind.from_text(train + "".join(sorted(set(valid) - set(train))), **options)
    assert found.tokenizer is not None
    assert found.tokenizer.state() == tokenizer.state()
    for dataset, part in ((found.train, train), (found.valid, valid)):
        assert type(dataset) is TokenDataset
        expected = tokenizer.encode_array(part)
        assert np.array_equal(dataset.tokens, expected)
        assert dataset.tokens.dtype == expected.dtype


def test_the_default_run_reads_the_text_of_python(folder: Path) -> None:
    found = load_data(RunConfig.load(env={}), 64, load_registry())
    text = python_docs_text()
    train, valid = split_text(text)
    assert isinstance(found.train, TokenDataset)
    assert isinstance(found.valid, TokenDataset)
    assert found.tokenizer is not None
    assert found.tokenizer.decode(found.train.tokens[:500]) == train[:500]
    assert (len(found.train.tokens), len(found.valid.tokens)) == (len(train), len(valid))


def test_records_are_split_whole_and_packed(folder: Path) -> None:
    texts = write_records(folder)
    found = load(path="a.jsonl")
    train, valid = documents(found.train), documents(found.valid)
    assert len(valid) == 4
    assert sorted(train + valid) == sorted(text.encode() for text in texts)
    assert found.train.window(0).start is not None
    again = load_validation(config(path="a.jsonl"), found.tokenizer, 8, load_registry())
    assert documents(again) == valid
    whole = load_file("a.jsonl", ByteTokenizer(), 8)
    assert documents(whole) == [text.encode() for text in texts]
    assert isinstance(load(path="a.jsonl", packing="whole").train, PackedDataset)
    assert load(path="a.jsonl", document_mask=False).train.window(0).start is None


def test_a_folder_with_files_for_both_parts(folder: Path) -> None:
    (folder / "d").mkdir()
    train, valid = write_records(folder, "d/train.jsonl"), write_records(folder, "d/valid.jsonl", 7)
    write_records(folder, "d/test.jsonl", 3)
    found = load(path="d")
    assert documents(found.train) == [text.encode() for text in train]
    assert documents(found.valid) == [text.encode() for text in valid]


def test_the_two_parts_may_have_different_formats(folder: Path) -> None:
    texts = write_records(folder)
    (folder / "v.txt").write_text("a text to validate on, long enough")
    found = load(path="a.jsonl", valid_path="v.txt")
    assert documents(found.train) == [text.encode() for text in texts]
    assert type(found.valid) is TokenDataset
    turned = load(path="v.txt", valid_path="a.jsonl")
    assert type(turned.train) is TokenDataset
    assert documents(turned.valid) == [text.encode() for text in texts]


def test_a_tokenizer_learns_from_training_documents_only(folder: Path) -> None:
    lines = ["ab " * 30, "xyz" * 10, "ab " * 30]
    (folder / "a.txt").write_text("\n\n".join(lines))
    data = {"path": "a.txt", "document_separator": "\n\n"}
    tokenizer = load({"name": "bpe", "vocab_size": 300}, **data).tokenizer
    assert tokenizer is not None
    assert len(tokenizer.encode(lines[1])) == len(lines[1])
    assert len(tokenizer.encode(lines[0])) < len(lines[0]) / 2
    tokenizer = load({"name": "char"}, **data).tokenizer
    assert isinstance(tokenizer, CharTokenizer)
    assert tokenizer.characters == " abxyz"


def test_documents_end_where_the_tokenizer_says(folder: Path) -> None:
    write_records(folder)
    bpe = {"name": "bpe", "vocab_size": 300, "special_tokens": ["<|endoftext|>"]}
    found = load(bpe, path="a.jsonl").train
    assert isinstance(found, PackedDataset)
    assert {int(found.documents.document(i)[0][-1]) for i in range(36)} == {0}


def test_prompts_are_masked_unless_they_are_to_be_learned(folder: Path) -> None:
    record = json.dumps({"prompt": "question", "completion": "answer"})
    (folder / "a.jsonl").write_text(f"{record}\n" * 20)
    for mask, expected in ((True, 6), (False, 13)):
        found = load(path="a.jsonl", mask_prompt=mask, packing="whole", seq_len=13).train
        window = found.window(0)
        x, y = window.x, window.y
        assert bytes(x.astype(np.uint8)) == b"questionanswe"[:13] or len(x) == 13
        assert int((y != -100).sum()) == expected


def test_conversations_are_written_by_the_template_of_a_folder(folder: Path) -> None:
    record = json.dumps({"messages": turns("Hello", "It is 4.")})
    (folder / "a.jsonl").write_text(f"{record}\n" * 20)
    (folder / "model").mkdir()
    for name, content in tokenizer_with(PLAIN["chatml"]).published().items():
        (folder / "model" / name).write_text(json.dumps(content))
    bpe = {"name": "bpe", "path": "model"}
    found = load(bpe, path="a.jsonl", seq_len=30)
    ids, learn = found.train.documents.document(0)
    assert found.tokenizer.decode(ids[learn].tolist()) == "It is 4.<|im_end|>"
    with pytest.raises(ConfigError, match=r'set data\.chat = "plain"'):
        load(path="a.jsonl")
    plain = load({"name": "byte"}, path="a.jsonl", chat="plain").train
    assert bytes(plain.documents.tokens[:6].tolist()) == b"user:\n"


def test_sources_are_mixed_by_weight(folder: Path) -> None:
    write_records(folder, "a.jsonl", 60)
    write_records(folder, "b.jsonl", 60)
    (folder / "c.txt").write_text("a text " * 50)
    sources = [
        {"path": "a.jsonl", "weight": 1, "valid_fraction": 0},
        {"path": "b.jsonl", "weight": 2},
        {"path": "c.txt", "weight": 1, "mask_prompt": False},
    ]
    found = load(sources=sources)
    assert isinstance(found.train, MixedDataset)
    assert found.train.weights == [1, 2, 1]
    assert isinstance(found.valid, MixedDataset)
    assert [type(part) for part in found.valid.parts] == [PackedDataset, TokenDataset]
    assert isinstance(load(sources=sources[:1]).train, PackedDataset)
    assert load(sources=sources[:1]).valid is None


def test_ready_tokens_need_no_tokenizer(folder: Path) -> None:
    np.arange(300, dtype="<u2").tofile("train.bin")
    np.arange(320, dtype="<u2")[::-1].tofile("val.bin")
    found = load({"name": "char"}, path="train.bin")
    assert found.tokenizer is None
    assert found.valid is not None
    assert found.train.vocab_size == found.valid.vocab_size == 320
    assert len(load({"name": "char"}, path=".").train) == len(found.train)
    (folder / "val.bin").unlink()
    with pytest.raises(DataError, match=r"^train\.bin: expected several documents to hold some ou"):
        load({"name": "char"}, path="train.bin")
    assert load({"name": "char"}, path="train.bin", valid_fraction=0).valid is None
    with pytest.raises(DataError, match=r"^train\.bin: dataset: token id 256 at position 256 is n"):
        load({"name": "byte"}, path="train.bin", valid_fraction=0)
    with pytest.raises(DataError, match=r"^train\.bin: dataset: token id 99 at position 99 is not"):
        load({"name": "char"}, path="train.bin", valid_fraction=0, vocab_size=99)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            {"path": "long.jsonl", "valid_fraction": 0.1},
            "long.jsonl, validation part: expected a document, got none; give more of them; or "
            "change data.valid_fraction = 0.1, where 0 trains without validation",
        ),
        (
            {"path": "one.jsonl", "valid_fraction": 0},
            "one.jsonl, training part: expected at least 9 tokens for one row of seq_len 8 and its "
            'last target, got 3; give a longer text, a smaller seq_len, or packing = "whole", '
            "which fills rows up",
        ),
        (
            {"path": "bad.jsonl"},
            "bad.jsonl, line 2: expected 'text' to be a string, got a number; mend or remove the "
            "record",
        ),
        (
            {"path": "text.txt", "valid_path": "one.jsonl", "packing": "whole", "format": "nope"},
            None,
        ),
    ],
)
def test_data_that_cannot_be_used_are_named(
    train: Cli, folder: Path, data: dict[str, Any], message: str | None
) -> None:
    (folder / "one.jsonl").write_text('{"text": "abc"}\n')
    (folder / "long.jsonl").write_text('{"text": "abcdefghijkl"}\n')
    (folder / "bad.jsonl").write_text('{"text": "abc"}\n{"text": 3}\n')
    settings = [f"data.{key}={value}" for key, value in data.items()]
    result = train("tokenizer.name=byte", "model.seq_len=8", *settings)
    if message is None:
        assert result.code == 3
        assert result.err.startswith('error: data.format: expected "auto" or one of ')
    else:
        assert (result.code, result.err) == (1, f"error: {message}\n")


@pytest.mark.filterwarnings("default")
def test_bad_records_are_left_out_with_one_warning(train: Cli, folder: Path) -> None:
    write_records(folder)
    with (folder / "a.jsonl").open("a") as file:
        file.write("{\n")
    result = train("data.path=a.jsonl", "data.bad_records=skip")
    assert result.code == 0
    assert result.err.count("warning: a.jsonl: 1 bad record left out, the first: a.jsonl, l") == 1
    assert result.err.count("bad record") == 1


def test_much_text_gets_a_note(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "d").mkdir()
    write_records(folder, "d/a.jsonl")
    monkeypatch.setattr("tisslm.workflows.build.sources.LARGE_TEXT", 100)
    with pytest.warns(ConfigNote) as caught:
        load(path="d")
    assert [str(w.message) for w in caught] == [
        "d: 1.678 KiB of text are tokenized at each start and held as tokens in memory; tisslm "
        "tokenize makes token shards of them once, which stay on the disk"
    ]


def test_a_run_of_ids_is_evaluated_without_a_tokenizer(train: Cli, cli: Cli, folder: Path) -> None:
    for name, n in (("train.bin", 900), ("val.bin", 200)):
        (np.arange(n) % 60).astype("<u2").tofile(name)
    (np.arange(200) % 61).astype("<u2").tofile("more.bin")
    assert train("data.path=train.bin", "training.output_dir=run").code == 0
    found = json.loads(cli("eval", "run", "--json").out)
    assert found["targets"] == 12 * 16
    assert json.loads(cli("eval", "run", "--data", "val.bin", "--json").out)["targets"] == 12 * 16
    assert (
        "token id 60 at position 60 is not in range(60)"
        in cli("eval", "run", "--data", "more.bin").err
    )
    assert (
        "the model has no tokenizer, so it cannot read text"
        in cli("eval", "run", "--data", "text.txt").err
    )


@pytest.mark.parametrize("path", ["a.jsonl", "train.bin"])
def test_a_run_trains_validates_and_is_evaluated(
    train: Cli, cli: Cli, folder: Path, path: str
) -> None:
    write_records(folder)
    for name in ("train.bin", "val.bin"):
        (np.arange(900) % 250).astype("<u2").tofile(name)
    run = train(f"data.path={path}", "tokenizer.name=byte", "training.output_dir=run")
    assert (run.code, run.err) == (0, "")
    result = cli("eval", "run", "--json")
    found = json.loads(result.out)
    assert found["loss"] == json.loads((folder / "run" / "summary.json").read_text())["eval_loss"]
    assert json.loads(cli("eval", "run", "--data", "a.jsonl", "--json").out)["targets"] > 0


@pytest.mark.parametrize("packing", ["stream", "whole"])
def test_documents_train_with_the_mask_and_go_on_with_the_same_bits(
    train: Cli, cli: Cli, folder: Path, packing: str
) -> None:
    write_records(folder)
    settings = (
        "data.path=a.jsonl",
        f"data.packing={packing}",
        "tokenizer.name=byte",
        "model.dropout=0.1",
        "training.save_every=3",
        "training.validation_frequency=2",
    )
    rows = load(path="a.jsonl", packing=packing, seq_len=16).train
    starts = [rows.window(i).start for i in range(len(rows))]
    assert any(start.any() for start in starts)  # rows of several documents

    assert train(*settings, "training.output_dir=whole").code == 0
    again = (*settings, "training.output_dir=run", "training.resume=auto")
    assert train(*again).code == 0
    shutil.rmtree("run/checkpoints/checkpoint-6")
    result = train(*again)
    assert result.code == 0
    for name in ("model.safetensors", "optimizer.safetensors", "trainer.safetensors"):
        whole, run = (Path(run, "checkpoints/checkpoint-6", name) for run in ("whole", "run"))
        assert whole.read_bytes() == run.read_bytes()
    losses = [json.loads(cli("eval", run, "--json").out)["loss"] for run in ("whole", "run")]
    summary = json.loads(Path("run", "summary.json").read_text())
    assert losses == [summary["eval_loss"]] * 2

    assert train(*settings, "training.output_dir=open", "data.document_mask=false").code == 0
    other = Path("open/checkpoints/checkpoint-6/model.safetensors").read_bytes()
    assert other != Path("run/checkpoints/checkpoint-6/model.safetensors").read_bytes()
