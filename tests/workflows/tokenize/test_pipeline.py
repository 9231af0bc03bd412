"""From text to shards: the same ids as the tokenizer's for each document, in one piece."""

from __future__ import annotations

import json
import threading

import numpy as np
import pytest
from chat_templates import CONVERSATIONS, PLAIN, tokenizer_with, turns
from hypothesis import given, settings
from hypothesis import strategies as st

from tisslm.contracts import Tokenizer
from tisslm.datasets.encoding import encode_documents
from tisslm.datasets.shards import TokenShards
from tisslm.datasets.sources import BadRecords, ReadOptions, read_documents
from tisslm.errors import ConfigError, DataError
from tisslm.tokenizers.bpe import BpeTokenizer
from tisslm.tokenizers.byte import ByteTokenizer
from tisslm.workflows.tokenize import ShardFolder, parts, tokenize

TEXT = "".join(f"{i} green bottles hang on the wall; it's {i} that fall.\n" for i in range(300))


@pytest.fixture(scope="session")
def bpe():
    return BpeTokenizer.from_text(TEXT, vocab_size=400, special_tokens=["<|endoftext|>"])


def shards(folder, sources, tokenizer, name="bpe", *, options=None, shard_tokens=50, **more):
    """Tokenize into a new folder and open it."""
    with ShardFolder(folder, tokenizer, name, shard_tokens) as made:
        tokenize(sources, tokenizer, made, options or ReadOptions(), **more)
        made.finish(sources)
    return TokenShards(folder, verify=True)


def assert_same(found, expected):
    assert np.array_equal(found.tokens[:], expected.tokens)
    assert np.array_equal(found.offsets, expected.offsets)
    assert (found.learn is None) == (expected.learn is None)
    if found.learn is not None:
        assert np.array_equal(found.learn[:], expected.learn)


RECORDS = st.lists(
    st.one_of(
        st.builds(lambda t: {"text": t}, st.text("ab 'é\n", min_size=1, max_size=30)),
        st.builds(
            lambda p, c: {"prompt": p, "completion": c},
            st.text("ab ", max_size=20),
            st.text("ab ", min_size=1, max_size=20),
        ),
    ),
    min_size=1,
    max_size=8,
)


@settings(max_examples=40, deadline=None)
@given(records=RECORDS, shard_tokens=st.integers(1, 60), piece=st.integers(1, 20))
def test_shards_have_the_ids_of_each_document(tmp_path_factory, bpe, records, shard_tokens, piece):
    folder = tmp_path_factory.mktemp("shards")
    source = folder / "a.jsonl"
    source.write_text("\n".join(json.dumps(record) for record in records))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parts, "PIECE", piece)
        found = shards(folder / "out", [source], bpe, shard_tokens=shard_tokens).documents()
    assert_same(found, encode_documents(read_documents(source), bpe))


@pytest.mark.parametrize("name", ["bpe", "byte"])
def test_a_text_that_is_one_document(tmp_path, monkeypatch, bpe, name):
    monkeypatch.setattr(parts, "PIECE", 64)
    monkeypatch.setattr("tisslm.datasets.sources.streams.BLOCK", 100)
    monkeypatch.setattr("tisslm.workflows.tokenize.pipeline.BATCH", 300)
    source = tmp_path / "a.txt"
    source.write_text(TEXT)
    tokenizer = bpe if name == "bpe" else ByteTokenizer()
    # every shard is open at once: 160 of them are fewer than any system's limit
    found = shards(tmp_path / "out", [source], tokenizer, name, shard_tokens=100)
    assert_same(found.documents(), encode_documents(read_documents(source), tokenizer))
    assert found.documents().learn is None
    assert len(list((tmp_path / "out").glob("train-*.bin"))) > 10


def test_several_sources_follow_each_other(tmp_path, bpe):
    sources = [tmp_path / "b.txt", tmp_path / "a.txt"]
    for source in sources:
        source.write_text(f"text of {source.name}")
    found = shards(tmp_path / "out", sources, bpe).documents()
    texts = [bpe.decode(found.document(i)[0]) for i in range(len(found))]
    assert texts == ["text of b.txt<|endoftext|>", "text of a.txt<|endoftext|>"]


def test_validation_documents_are_the_same_for_every_tokenizer(tmp_path, bpe):
    source = tmp_path / "a.txt"
    source.write_text("\n\n".join(f"document {i}" for i in range(50)))
    options = ReadOptions(document_separator="\n\n")
    texts = {}
    for name, tokenizer in (("bpe", bpe), ("byte", ByteTokenizer())):
        opened = shards(
            tmp_path / name, [source], tokenizer, name, options=options, valid_fraction=0.2
        )
        assert opened.splits == ("train", "valid")
        valid, train = opened.documents("valid"), opened.documents("train")
        assert (len(valid), len(train)) == (10, 40)
        decoded = [tokenizer.decode(valid.document(i)[0]) for i in range(10)]
        texts[name] = [text.removesuffix("<|endoftext|>") for text in decoded]
    assert texts["bpe"] == texts["byte"]


def test_too_few_documents_for_validation(tmp_path, bpe):
    source = tmp_path / "a.txt"
    source.write_text("one document")
    with pytest.raises(DataError) as caught:
        shards(tmp_path / "out", [source], bpe, valid_fraction=0.1)
    assert str(caught.value) == (
        "expected enough documents to set 0.1 of them aside, got 1; raise --valid-fraction, or cut "
        "the text into documents with --document-separator"
    )
    assert not (tmp_path / "out").exists()


def test_skipped_records_are_reported(tmp_path, bpe):
    source = tmp_path / "a.jsonl"
    source.write_text('{"text": "good"}\nbad\n')
    options = ReadOptions(bad=BadRecords("skip"))
    with pytest.warns(UserWarning, match="1 bad record left out, the first: .*line 2"):
        assert len(shards(tmp_path / "out", [source], bpe, options=options).documents()) == 1


# --------------------------------------------------------------------------- failures


class Refusing(ByteTokenizer):
    """Refuses a word."""

    def encode_array(self, text):
        if "bad" in text:
            raise DataError("refused")
        return super().encode_array(text)


class Wrong(ByteTokenizer):
    """Returns an id that is none."""

    def encode_array(self, text):
        return np.array([300])


@pytest.mark.parametrize(
    ("tokenizer", "message"),
    [
        (Refusing(), "line 2: refused"),
        (
            Wrong(),
            "line 1: the tokenizer returned id 300, which is not in range(256), its vocabulary; "
            "correct the tokenizer",
        ),
    ],
)
def test_what_a_tokenizer_does_wrong_names_the_record(tmp_path, tokenizer, message):
    source = tmp_path / "a.jsonl"
    source.write_text('{"text": "good"}\n{"text": "bad"}\n')
    threads = set(threading.enumerate())
    with pytest.raises(DataError) as caught:
        shards(tmp_path / "out", [source], tokenizer, "byte")
    assert str(caught.value) == f"{source}, {message}"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.jsonl"]
    assert not set(threading.enumerate()) - threads


def test_the_contract_encodes_batches_one_by_one():
    class Plain(Refusing):
        encode_batch = Tokenizer.encode_batch
        find_cut = Tokenizer.find_cut

    assert [ids.tolist() for ids in Plain().encode_batch(["a", "bc"])] == [[97], [98, 99]]
    assert Plain().find_cut("a b", 1) == -1


class Begun(ByteTokenizer):
    begin = (1, 2)
    end_of_text = 3


def test_each_document_begins_as_the_tokenizer_asks(tmp_path, monkeypatch):
    monkeypatch.setattr(parts, "PIECE", 2)
    source = tmp_path / "a.jsonl"
    records = [{"text": "long enough to cut"}, {"prompt": "ab", "completion": "c"}]
    source.write_text("\n".join(map(json.dumps, records)))
    found = shards(tmp_path / "out", [source], Begun(), "byte").documents()
    expected = encode_documents(read_documents(source), Begun())
    assert_same(found, expected)
    assert found.tokens[:3].tolist() == [1, 2, ord("l")]
    assert found.tokens[int(found.offsets[1]) :].tolist() == [1, 2, 97, 98, 99, 3]


def test_conversations_are_those_of_a_run_on_the_text(tmp_path):
    source = tmp_path / "a.jsonl"
    records = [{"messages": chat} for chat in CONVERSATIONS.values()]
    records.insert(2, {"text": "a text between"})
    records.insert(3, {"messages": turns("<|im_end|>", "a forged one")})
    source.write_text("\n".join(map(json.dumps, records)))
    state = tokenizer_with(PLAIN["chatml"]).state()
    state["config"]["begin"] = [3]
    tokenizer = BpeTokenizer.from_state(state)
    bad = BadRecords("skip", quiet=True)
    found = shards(tmp_path / "out", [source], tokenizer, options=ReadOptions(bad=bad))
    assert (bad.skipped, bad.first[:40]) == (1, f"{source}, line 4: message 0"[:40])
    again = BadRecords("skip", quiet=True)
    documents = read_documents(source, options=ReadOptions(bad=again))
    assert_same(found.documents(), encode_documents(documents, tokenizer, refuse=again.refuse))
    assert len(found.documents()) == 6
    assert found.tokenizer_state == tokenizer.state()
    assert (found.path / "tokenizer_state.json").exists()  # a tokenizer.json does not say it all


def test_a_conversation_without_a_template_ends_tokenizing(tmp_path):
    source = tmp_path / "a.jsonl"
    source.write_text(json.dumps({"messages": turns("a", "b")}))
    with pytest.raises(ConfigError, match=r"^\S+a.jsonl, line 1: expected a tokenizer with a chat"):
        shards(tmp_path / "out", [source], ByteTokenizer(), "byte")
    plain = ReadOptions(chat="plain")
    found = shards(tmp_path / "plain", [source], ByteTokenizer(), "byte", options=plain)
    assert bytes(found.documents().tokens[:].tolist()) == b"user:\na\n\nassistant:\nb\n\n"
