"""``tisslm tokenize`` and ``tisslm tokenizer train``: from text files to files that a run reads."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tisslm.cli import _progress
from tisslm.datasets.shards import TokenShards
from tisslm.tokenizers.bpe import BpeTokenizer

NOT_THERE = "no.txt: no such file or folder; give the path of a text, JSON lines or tokens"


@pytest.fixture
def bpe(cli, folder) -> Path:
    result = cli("tokenizer", "train", "text.txt", "--vocab-size", "280")
    assert (result.code, result.err) == (0, "")
    return folder / "tokenizer.json"


# --------------------------------------------------------------------------- tokenizer train


def test_a_tokenizer_is_trained_and_written(cli, bpe):
    made = BpeTokenizer(path=bpe)
    assert (made.vocab_size, made.end_of_text) == (280, 0)
    result = cli("tokenizer", "train", "text.txt", "--vocab-size=259", "--special=<a>",
                 "--special=<b>", "--out=new/other.json")  # fmt: skip
    assert result.code == 0
    assert result.out.startswith("259 ids from 0.0 MB in ")
    assert result.out.endswith("s\ntokenizer: new/other.json\n")
    assert BpeTokenizer(path="new/other.json").encode("<b>") == [1]


def test_a_text_that_has_too_few_pairs(cli):
    Path("a.txt").write_text("aaaa")
    result = cli("tokenizer", "train", "a.txt", "--vocab-size", "999")
    assert result.code == 0
    assert "; the text has no more pairs to merge\n" in result.out


def test_pieces_train_the_tokenizer_of_the_whole(cli, monkeypatch):
    monkeypatch.setattr("tisslm.workflows.tokenize.parts.PIECE", 7)
    result = cli("tokenizer", "train", "text.txt", "--vocab-size", "400", "--special=<e>")
    assert result.code == 0
    text = Path("text.txt").read_text()
    whole = BpeTokenizer.from_text(text, vocab_size=400, special_tokens=["<e>"])
    assert BpeTokenizer(path="tokenizer.json").state() == whole.state()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (
            ["text.txt", "--vocab-size", "100"],
            3,
            "bpe tokenizer: expected vocab_size as an integer of at least 257 (the bytes and the "
            "special tokens), got 100; raise it",
        ),
        (
            ["text.txt", "--vocab-size", "300", "--out", "text.txt"],
            3,
            "text.txt: expected a new file, it exists; choose another --out",
        ),
        (["no.txt", "--vocab-size", "300"], 1, NOT_THERE),
        (
            ["bad.txt", "--vocab-size", "300"],
            1,
            "bad.txt: expected UTF-8 text, got byte 0xff at offset 2 (line 1); convert the file, "
            "for example with iconv -t UTF-8",
        ),
        (
            ["text.txt", "--vocab-size", "300", "--bad-records", "x"],
            3,
            "--bad-records: expected error or skip, got 'x'",
        ),
    ],
)
def test_what_cannot_be_trained(cli, files, arguments, code, message):
    Path("bad.txt").write_bytes(b"ab\xff")
    before = files()
    result = cli("tokenizer", "train", *arguments)
    assert (result.code, result.err) == (code, f"error: {message}\n")
    assert files() == before


# --------------------------------------------------------------------------- tokenize


def test_shards_of_records(cli, bpe):
    records = [{"prompt": f"{i}?", "completion": "yes"} for i in range(20)]
    Path("r.jsonl").write_text("\n".join(map(json.dumps, records)))
    result = cli("tokenize", "r.jsonl", "--tokenizer", str(bpe), "--out", "s",
                 "--valid-fraction", "0.1", "--shard-tokens", "30")  # fmt: skip
    assert (result.code, result.err) == (0, "")
    shards = TokenShards("s", verify=True)
    assert shards.splits == ("train", "valid")
    train, valid = shards.documents("train"), shards.documents("valid")
    assert (len(train), len(valid)) == (18, 2)
    counts = [(len(split), len(split.tokens)) for split in (train, valid)]
    lines = result.out.splitlines()
    assert lines[0].startswith(
        f"20 documents | {sum(tokens for _, tokens in counts)} tokens (uint16, bpe tokenizer of "
        "280 ids) from 0.0 MB in "
    )
    masked = int((~train.learn[:]).sum())
    n_files = len(list(Path("s").glob("train-*.bin")))
    assert lines[1] == (
        f"train: 18 documents, {counts[0][1]} tokens in {n_files} files, {masked} of them no "
        "targets"
    )
    assert lines[2].startswith(f"valid: 2 documents, {counts[1][1]} tokens in 1 file, ")
    assert lines[3:] == ["shards: s", "train on them: tisslm train --set data.path=s"]


def test_documents_by_a_separator(cli):
    result = cli("tokenize", "text.txt", "--tokenizer", "byte", "--out", "s",
                 r"--document-separator=\n")  # fmt: skip
    assert result.code == 0
    documents = TokenShards("s").documents()
    assert len(documents) == 60
    assert bytes(documents.document(0)[0].tolist()).startswith(b"0 green bottles")


def test_characters_are_learned_from_all_text(cli):
    Path("more.txt").write_text("é")
    result = cli("tokenize", "text.txt", "more.txt", "--out", "s")
    assert (result.code, result.err) == (0, "")
    shards = TokenShards("s")
    assert shards.tokenizer_name == "char"
    assert "é" in shards.tokenizer_state["characters"]


def test_the_tokenizer_of_other_shards_is_taken(cli, bpe):
    assert cli("tokenize", "text.txt", "--tokenizer", str(bpe), "--out", "s").code == 0
    assert cli("tokenize", "text.txt", "--tokenizer", "./s", "--out", "t").code == 0
    assert Path("s/tokenizer.json").read_bytes() == Path("t/tokenizer.json").read_bytes()
    assert cli("tokenize", "text.txt", "--out", "c").code == 0
    Path("a.txt").write_text("wall")
    assert cli("tokenize", "a.txt", "--tokenizer", "./c", "--out", "d").code == 0
    shards = [TokenShards(name) for name in ("c", "d")]
    assert shards[0].tokenizer_state == shards[1].tokenizer_state


def test_options_of_a_tokenizer(cli):
    option = "--tokenizer-option"
    result = cli("tokenize", "text.txt", "--out", "s", option, "characters=ÿ")
    assert result.code == 0
    assert "ÿ" in TokenShards("s").tokenizer_state["characters"]
    result = cli("tokenize", "text.txt", "--out", "b", "--tokenizer", "bpe", option,
                 "vocab_size=280", option, 'special_tokens=["<|endoftext|>"]')  # fmt: skip
    assert (result.code, result.err) == (0, "")
    assert TokenShards("b").manifest.tokenizer.end_of_text == 0


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (
            ["--tokenizer", "bpe"],
            3,
            "--tokenizer bpe: expected a trained tokenizer; make one with tisslm tokenizer train "
            "TEXT --vocab-size N, and name its file: --tokenizer tokenizer.json",
        ),
        (
            ["--valid-fraction", "1"],
            3,
            "--valid-fraction: expected a number of at least 0 and below 1, got 1.0",
        ),
        (
            ["--tokenizer", "no.json"],
            1,
            "no.json: cannot be read (No such file or directory); set the tokenizer's path to a "
            "tokenizer.json, the format of the Hugging Face tokenizers library",
        ),
        (
            ["--tokenizer", "./empty"],
            1,
            "empty: expected a folder with a tokenizer.json or a tokenizer_state.json, found none; "
            "name a tokenizer.json",
        ),
        (
            ["--tokenizer", "./broken"],
            1,
            "broken/tokenizer_state.json: expected a tokenizer's name and state as JSON, got "
            "something else (no name or no state); make it again",
        ),
        (
            ["--tokenizer", "t.json", "--tokenizer-option", "a=1"],
            3,
            "--tokenizer-option: expected none for t.json, whose file says all, got a; leave them "
            "out",
        ),
        (["--tokenizer-option", "a"], 3, "--tokenizer-option: expected key=value, got 'a'"),
        (
            ["--tokenizer-option", "b=1"],
            3,
            "tokenizer 'char' has no option 'b'. Options: characters",
        ),
        (
            ["--out", "broken"],
            3,
            "broken: expected a new folder, got one with something in it; choose another --out or "
            "remove it first",
        ),
    ],
)
def test_what_cannot_be_tokenized(cli, files, arguments, code, message):
    Path("empty").mkdir()
    Path("broken").mkdir()
    Path("broken/tokenizer_state.json").write_text("{}")
    before = files()
    out = [] if "--out" in arguments else ["--out", "s"]
    result = cli("tokenize", "text.txt", *out, *arguments)
    assert (result.code, result.err) == (code, f"error: {message}\n")
    assert files() == before
    assert not Path("s").exists()


@pytest.mark.filterwarnings("default")
def test_bad_records_are_errors_or_skipped(cli, files):
    Path("r.jsonl").write_text('{"text": "good"}\n{"text": 7}\n')
    before = files()
    arguments = ("tokenize", "r.jsonl", "--tokenizer", "byte", "--out", "s")
    message = (
        "r.jsonl, line 2: expected 'text' to be a string, got a number; mend or remove the record"
    )
    result = cli(*arguments)
    assert (result.code, result.err) == (1, f"error: {message}\n")
    assert files() == before
    result = cli(*arguments, "--bad-records", "skip")
    assert result.code == 0
    assert result.err == f"warning: r.jsonl: 1 bad record left out, the first: {message}\n"


def test_an_interruption_leaves_nothing(cli, files, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    before = files()
    monkeypatch.setattr(_progress.TextProgress, "update", interrupt)
    for arguments, out in (
        (("tokenize", "text.txt", "--out", "s"), "s"),
        (("tokenize", "text.txt", "--out", "s", "--tokenizer", "byte"), "s"),
        (("tokenizer", "train", "text.txt", "--vocab-size", "300"), "tokenizer.json"),
    ):
        result = cli(*arguments)
        assert (result.code, result.out) == (130, "")
        assert result.err == f"interrupted: {out} was not written; start again\n"
        assert files() == before


def test_progress_in_lines(cli, monkeypatch):
    monkeypatch.setattr(_progress, "INTERVAL", 0.0)
    result = cli("tokenize", "text.txt", "--out", "s")
    assert result.code == 0
    reading, *_, tokenizing = result.err.splitlines()
    assert reading.startswith("reading: 0.0 MB of 0.0 MB | ")
    assert reading.endswith(" MB/s | learning")
    n_tokens = len(Path("text.txt").read_text())
    assert tokenizing.endswith(f" MB/s | 1 documents | {n_tokens:,} tokens")


def test_progress_on_a_terminal(monkeypatch, capsys):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    for total in (0, 10**6):
        with _progress.TextProgress("tokenizing", total) as progress:
            progress.update(10**6, "3 documents")
        assert "tokenizing" in capsys.readouterr().err


def test_the_bytes_of_text_files_are_the_total():
    Path("a.jsonl").write_text("{}")
    size = Path("text.txt").stat().st_size
    assert _progress.plain_bytes([Path("text.txt")] * 2) == 2 * size
    assert _progress.plain_bytes([Path("text.txt"), Path("a.jsonl")]) == 0
    assert _progress.plain_bytes([Path()]) == 0


# --------------------------------------------------------------------------- runs on shards


@pytest.fixture
def shards(cli, bpe) -> str:
    result = cli("tokenize", "text.txt", "--tokenizer", str(bpe), "--out", "s",
                 r"--document-separator=\n", "--valid-fraction", "0.1",
                 "--shard-tokens", "100")  # fmt: skip
    assert result.code == 0
    return "data.path=s"


def test_a_run_on_shards_has_their_tokenizer_and_their_split(cli, train, shards):
    result = train(shards, "training.output_dir=run")
    assert (result.code, result.err) == (0, "")
    assert ", vocabulary 280, " in result.out
    assert " training windows and " in result.out
    assert cli("generate", "run", "--max-new-tokens", "3").code == 0
    assert cli("eval", "run").code == 0


def test_a_run_on_shards_is_the_run_on_their_text(train, shards, bpe):
    settings = (r'data.document_separator="\n"', "tokenizer.name=bpe", f"tokenizer.path={bpe}")
    for more in (("data.valid_fraction=0.1", *settings, "training.output_dir=text"),
                 (shards, "training.output_dir=shards")):  # fmt: skip
        result = train(*more)
        assert (result.code, result.err) == (0, "")
    losses = []
    for name in ("text", "shards"):
        lines = Path(name, "metrics.jsonl").read_text().splitlines()
        losses.append([json.loads(line).get("train/loss") for line in lines])
    assert losses[0] == losses[1]
    assert any(losses[0])


def test_shards_without_validation_are_split_by_document(train, cli):
    assert cli("tokenize", "text.txt", "--out", "s", r"--document-separator=\n").code == 0
    result = train("data.path=s")
    assert result.code == 0
    assert " validation windows " in result.out


def test_another_tokenizer_than_that_of_the_shards(cli, train, shards, bpe):
    assert train(shards, "tokenizer.name=bpe", f"tokenizer.path={bpe}").code == 0
    theirs = TokenShards("s").manifest.tokenizer.sha256[:12]
    assert cli("tokenizer", "train", "text.txt", "--vocab-size=270", "--out=o.json").code == 0
    assert cli("tokenize", "text.txt", "--tokenizer", "o.json", "--out", "o").code == 0
    other = TokenShards("o").manifest.tokenizer.sha256[:12]
    said = f"s/train.idx: its ids are of the bpe tokenizer {theirs}"
    for settings, which in (
        (("tokenizer.name=bpe", "tokenizer.path=o.json"), f"bpe tokenizer {other}"),
        (("tokenizer.name=bpe", "tokenizer.vocab_size=300"), "bpe tokenizer"),
        (("tokenizer.name=byte",), "byte tokenizer "),
    ):
        result = train(shards, *settings)
        assert result.code == 3
        assert result.err.startswith(
            f"error: tokenizer: {said}, and the configuration names the {which}"
        )
        assert result.err.endswith(
            "; leave [tokenizer] out, or tokenize the text again with this one\n"
        )
    result = train("data.path=", 'data.sources=[{path="s"}, {path="o", valid_fraction=0}]')
    assert (result.code, result.err) == (
        1,
        f"error: o/train.idx: its ids are of the bpe tokenizer {other}, those of s/train.idx of "
        f"the bpe tokenizer {theirs}; tokenize both with one tokenizer\n",
    )
