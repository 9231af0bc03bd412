"""Folders of token shards: what is written, byte by byte, and what is refused."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest

from tisslm.datasets.shard_checks import verify_shards
from tisslm.datasets.shard_format import state_digest
from tisslm.datasets.shards import TokenShards, shard_documents
from tisslm.datasets.sources import find_format, read_documents, read_tokens, split_files
from tisslm.errors import ConfigError, DataError
from tisslm.tokenizers.bpe import BpeTokenizer
from tisslm.tokenizers.byte import ByteTokenizer
from tisslm.tokenizers.char import CharTokenizer
from tisslm.workflows.tokenize import ShardFolder

AGAIN = "; make them again with tisslm tokenize"


def write(path, documents, tokenizer=None, name="byte", shard_tokens=4, split="train"):
    """Write documents, each a list of (ids, learn)."""
    tokenizer = tokenizer or ByteTokenizer()
    with ShardFolder(path, tokenizer, name, shard_tokens) as folder:
        for document in documents:
            for ids, learn in document:
                folder.split(split).add(np.array(ids), learn)
            folder.split(split).end_document()
        folder.finish()
    return path


@pytest.fixture
def folder(tmp_path):
    """Two documents of 3 and 6 tokens, in files of 4, 4 and 1; the first two are a prompt."""
    documents = [[([1, 2], False), ([3], True)], [([4, 5, 6, 7, 8, 9], True)]]
    return write(tmp_path / "shards", documents)


def damaged(folder, file, reason):
    return f"{folder / file}: the token shards are damaged or incomplete ({reason}){AGAIN}"


def message(folder, **options):
    with pytest.raises(DataError) as caught:
        TokenShards(folder, **options).documents()
    return str(caught.value)


def edit_manifest(folder, change):
    path = folder / "shards.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))


# --------------------------------------------------------------------------- the format


def test_files_are_those_of_llm_c(folder):
    assert sorted(os.listdir(folder)) == [
        "shards.json",
        "tokenizer_state.json",
        "train-00000.bin",
        "train-00001.bin",
        "train-00002.bin",
        "train.idx",
        "train.mask",
    ]
    for number, ids in enumerate(([1, 2, 3, 4], [5, 6, 7, 8], [9])):
        path = folder / f"train-0000{number}.bin"
        header = np.fromfile(path, dtype="<i4", count=256)
        assert header.tolist() == [20240520, 1, len(ids), *[0] * 253]
        assert np.fromfile(path, dtype="<u2", offset=1024).tolist() == ids


def test_index_and_mask(folder):
    index = (folder / "train.idx").read_bytes()
    assert index[:8] == b"TissLMix"
    assert np.frombuffer(index, "<i8", offset=8).tolist() == [3, 0, 3, 9]
    assert (folder / "train.mask").read_bytes() == bytes([0b11111100, 0b1])


def test_large_vocabularies_are_files_of_llm_c_for_llama(tmp_path):
    class Large(ByteTokenizer):
        vocab_size = 2**16 + 1

    write(tmp_path / "s", [[([2**16, 1], True)]], Large())
    path = tmp_path / "s" / "train-00000.bin"
    assert np.fromfile(path, dtype="<i4", count=3).tolist() == [20240801, 7, 2]
    assert np.fromfile(path, dtype="<u4", offset=1024).tolist() == [2**16, 1]
    assert TokenShards(tmp_path / "s").documents().tokens[:].tolist() == [2**16, 1]


def test_documents_stay_in_their_files(folder):
    documents = TokenShards(folder, verify=True).documents()
    assert len(documents) == 2
    assert documents.nbytes == 8  # one offset in 512
    assert documents.vocab_size == 256
    tokens, learn = documents.document(0)
    assert (tokens.tolist(), learn.tolist()) == ([1, 2, 3], [False, False, True])
    tokens, learn = documents.part(1, 2).document(0)
    assert (tokens.tolist(), learn.tolist()) == ([4, 5, 6, 7, 8, 9], [True] * 6)


def test_many_tokens_of_the_mask_and_the_index(tmp_path, monkeypatch):
    monkeypatch.setattr("tisslm.workflows.tokenize.split_writer.KEPT", 5)
    rng = np.random.default_rng(0)
    lengths, learn = rng.integers(1, 9, 100), rng.integers(0, 2, 100).astype(bool)
    learn[:20] = True  # the file of the mask begins late, within a byte
    documents = [[([1] * n, bool(b))] for n, b in zip(lengths, learn, strict=True)]
    found = TokenShards(write(tmp_path / "s", documents)).documents()
    assert np.array_equal(np.diff(found.offsets), lengths)
    assert np.array_equal(found.learn[:], np.repeat(learn, lengths))


def test_without_prompts_there_is_no_mask(tmp_path):
    found = write(tmp_path / "s", [[([1], True)]])
    assert not (found / "train.mask").exists()
    assert TokenShards(found).documents().learn is None


def test_the_tokenizer_lies_beside(tmp_path):
    for name, made in (
        ("char", CharTokenizer(characters="aé")),
        ("bpe", BpeTokenizer.from_text("ab" * 20, vocab_size=258)),
    ):
        shards = TokenShards(write(tmp_path / name, [[([1], True)]], made, name))
        assert shards.tokenizer_name == name
        assert shards.tokenizer_state == made.state()
        assert shards.manifest.tokenizer.sha256 == state_digest(name, made.state())
    assert BpeTokenizer(path=tmp_path / "bpe" / "tokenizer.json").state() == made.state()
    assert not (tmp_path / "bpe" / "tokenizer_state.json").exists()


def test_a_path_of_shards_is_recognized(tmp_path, folder):
    assert find_format(folder).name == find_format(folder / "train.idx").name == "shards"
    assert split_files(folder) == (folder / "train.idx", None)
    assert read_tokens(folder).tokens[:].tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9]
    with pytest.raises(DataError, match="expected text, got token shards"):
        next(read_documents(folder))


def test_each_split_has_an_index(tmp_path):
    with ShardFolder(tmp_path / "s", ByteTokenizer(), "byte") as made:
        for name, ids in (("train", [1]), ("valid", [2, 3])):
            made.split(name).add(np.array(ids), True)
            made.split(name).end_document()
        made.finish()
    train, valid = split_files(tmp_path / "s")
    assert read_tokens(train).tokens[:].tolist() == [1]
    assert read_tokens(valid).tokens[:].tolist() == [2, 3]


# --------------------------------------------------------------------------- damage


def test_every_flipped_byte_is_found_by_its_checksum(folder):
    for path in sorted(folder.iterdir()):
        content = path.read_bytes()
        if path.name == "shards.json":
            continue
        places = range(0, len(content), 97) if len(content) > 100 else range(len(content))
        for place in places:
            path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
            wrong = [name for name, problem in verify_shards(folder) if problem]
            assert wrong == [path.name]
            with pytest.raises(DataError, match="the token shards are damaged"):
                TokenShards(folder, verify=True)
        path.write_bytes(content)
    assert not any(problem for _, problem in verify_shards(folder))


def test_a_file_that_is_cut_or_gone(folder):
    path = folder / "train-00001.bin"
    path.write_bytes(path.read_bytes()[:-1])
    reason = "1031 bytes, its manifest says 1032"
    assert message(folder) == damaged(folder, "train-00001.bin", reason)
    assert dict(verify_shards(folder))["train-00001.bin"] == reason
    path.unlink()
    assert message(folder) == damaged(folder, "train-00001.bin", "No such file or directory")
    path.mkdir()
    assert message(folder) == damaged(
        folder, "train-00001.bin", "expected a regular file, got a directory"
    )


def swap(path, content):
    """Put another file in the place of one, by rename."""
    other = path.with_name("other")
    other.write_bytes(content)
    other.replace(path)


def test_what_is_verified_is_the_file_whose_size_was_compared(folder, monkeypatch):
    """Also if its name leads to another one from between the look and the reading on."""
    path = folder / "train-00000.bin"
    content = path.read_bytes()
    inode = path.stat().st_ino

    def swapping(look):
        def swapped(*arguments, **options):
            found = look(*arguments, **options)
            if found.st_ino == inode:
                swap(path, bytes(len(content)))
            return found

        return swapped

    for name in ("stat", "fstat"):
        monkeypatch.setattr(os, name, swapping(getattr(os, name)))
    assert dict(verify_shards(folder))["train-00000.bin"] == ""
    monkeypatch.undo()
    assert path.read_bytes() != content
    assert dict(verify_shards(folder))["train-00000.bin"] != ""


def test_files_that_were_replaced_since_the_folder_was_opened_are_looked_at_again(folder):
    path = folder / "train-00000.bin"
    shards = TokenShards(folder)
    swap(path, np.full(256, 7, "<i4").tobytes() + path.read_bytes()[1024:])
    with pytest.raises(DataError, match="its header says magic, version and tokens"):
        shards.documents()


def test_a_fifo_in_the_place_of_a_file_is_not_waited_for(folder):
    path = folder / "train-00000.bin"
    path.unlink()
    os.mkfifo(path)
    assert message(folder) == damaged(folder, path.name, "expected a regular file, got a FIFO")
    assert dict(verify_shards(folder))[path.name] == "it is no regular file"


def test_a_header_of_something_else(folder):
    path = folder / "train-00000.bin"
    path.write_bytes(np.full(256, 7, "<i4").tobytes() + path.read_bytes()[1024:])
    reason = "its header says magic, version and tokens (7, 7, 7), its manifest (20240520, 1, 4)"
    assert message(folder) == damaged(folder, "train-00000.bin", reason)


def test_an_index_of_something_else(folder):
    path = folder / "train.idx"
    content = path.read_bytes()
    path.write_bytes(b"x" + content[1:])
    assert message(folder) == damaged(folder, "train.idx", "it does not begin as an index does")
    path.write_bytes(content[:16] + np.array([0, 0, 9], "<i8").tobytes())
    assert message(folder).startswith(f"{folder}, train: expected rising offsets, got 0 and then 0")
    path.write_bytes(content[:16] + np.array([0, 3, 10], "<i8").tobytes())
    assert "expected offsets from 0 to the 9 tokens, got 0 to 10" in message(folder)


def test_another_tokenizer(folder):
    state = {"name": "byte", "state": {"x": 1}}
    text = json.dumps(state) + "\n"
    (folder / "tokenizer_state.json").write_text(text)
    edit_manifest(folder, lambda m: m["files"]["tokenizer_state.json"].update(bytes=len(text)))
    reason = "it is another tokenizer than the one that made the ids"
    assert message(folder) == damaged(folder, "tokenizer_state.json", reason)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda m: m.update(format="x"), "format: Input should be 'TissLM token shards'"),
        (lambda m: m.update(extra=1), "extra: Extra inputs are not permitted"),
        (lambda m: m.pop("files"), "files: Field required"),
        (lambda m: m["splits"]["train"].update(tokens=-1), "splits.train.tokens: Input should be"),
        (lambda m: m["splits"]["train"].update(tokens=13), "are not 3 files"),
        (lambda m: m["splits"]["train"].update(documents=99), "more documents or targets"),
        (lambda m: m["splits"]["train"].update(index="../x"), "splits.train.index: String should"),
        (lambda m: m["splits"]["train"].update(index="x.idx"), "x.idx is not among the files"),
        (lambda m: m["splits"]["train"].update(largest_id=256), "id 256 of a vocabulary of 256"),
        (lambda m: m["tokenizer"].update(file="x.json"), "x.json is not among the files"),
        (lambda m: m["splits"]["train"].update(documents=3), "its counts ask for 48"),
    ],
)
def test_a_manifest_that_does_not_hold_together(folder, change, reason):
    edit_manifest(folder, change)
    found = message(folder)
    assert "the token shards are damaged or incomplete" in found
    assert reason in found


def test_a_manifest_that_is_no_json(folder):
    for text, reason in (
        ("{", "expected JSON: Expecting property name"),
        ("", "expected JSON: Expecting value"),
        ("[" * 10**6, "expected JSON of at most 64 levels, got more"),
        (
            '{"n": 1' + "0" * 10**5 + "}",
            "expected an integer that float64 has, got one of ",
        ),
        ('{"files": {}, "files": {}}', "the key 'files' is there twice"),
        ("[1]", "expected a JSON object, got a list"),
    ):
        (folder / "shards.json").write_text(text)
        assert message(folder).startswith(
            f"{folder / 'shards.json'}: the token shards are damaged or incomplete ({reason}"
        )


def test_a_hostile_tokenizer(folder):
    path = folder / "tokenizer_state.json"
    for text, reason in (
        ("[" * 10**6, "expected JSON of at most 64 levels, got more"),
        ('{"name": "byte", "name": "char", "state": {}}', "the key 'name' is there twice"),
        ("[1]", "expected a JSON object, got a list"),
    ):
        path.write_text(text)
        size = {"bytes": len(text)}
        edit_manifest(folder, lambda m, size=size: m["files"][path.name].update(size))
        assert message(folder) == damaged(folder, path.name, reason)


def test_a_fifo_in_place_of_a_file_is_not_waited_for(folder):
    for name in ("shards.json", "tokenizer_state.json", "train-00000.bin"):
        path = folder / name
        content = path.read_bytes()
        path.unlink()
        os.mkfifo(path)
        assert "regular file" in message(folder)
        path.unlink()
        path.write_bytes(content)


def test_a_later_version(folder):
    edit_manifest(folder, lambda m: m.update(version=2))
    assert message(folder) == (
        f"{folder / 'shards.json'}: expected version 1 of token shards, got 2; update TissLM, or "
        "make them again with tisslm tokenize"
    )


def test_a_folder_without_shards(tmp_path):
    assert message(tmp_path) == (
        f"{tmp_path}: expected a folder of token shards with a shards.json, found none; make one "
        "with tisslm tokenize TEXT --out DIR"
    )


def test_a_split_that_is_not_there(folder):
    with pytest.raises(DataError) as caught:
        TokenShards(folder).documents("valid")
    assert str(caught.value) == (
        f"{folder}: expected a split 'valid', got train; make the shards with --valid-fraction"
    )


def test_ids_beyond_the_vocabulary_of_a_run(folder):
    with pytest.raises(DataError) as caught:
        shard_documents(folder, vocab_size=9)
    assert str(caught.value) == (
        f"{folder}: token id 9 is not in range(9), the vocabulary; use the tokenizer that made the "
        "tokens (byte), or make them again"
    )


# --------------------------------------------------------------------------- writing


def test_nothing_is_left_of_a_run_that_fails(tmp_path):
    def interrupted():
        with ShardFolder(tmp_path / "s", ByteTokenizer(), "byte") as made:
            made.split("train").add(np.array([1]), False)
            assert list(tmp_path.iterdir())
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not list(tmp_path.iterdir())


def test_what_a_killed_run_left_is_removed(tmp_path):
    dead, mine = f".tmp-shards-s-{2**22 + 1}", f".tmp-shards-s-{os.getppid()}"
    for name in (dead, mine, f".tmp-shards-t-{2**22 + 1}"):
        (tmp_path / name).mkdir()
    write(tmp_path / "s", [[([1], True)]])
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == sorted([mine, f".tmp-shards-t-{2**22 + 1}", "s"])


def test_what_a_run_left_whose_number_was_given_again_is_removed(tmp_path):
    left = tmp_path / f".tmp-shards-s-{os.getppid()}"
    left.mkdir()
    os.utime(left, (1, 1))  # made long before the process with this number began
    write(tmp_path / "s", [[([1], True)]])
    assert not left.exists()


def test_a_folder_with_something_in_it_is_left_alone(folder):
    with pytest.raises(ConfigError) as caught:
        write(folder, [[([1], True)]])
    assert str(caught.value) == (
        f"{folder}: expected a new folder, got one with something in it; choose another --out or "
        "remove it first"
    )
    assert len(TokenShards(folder, verify=True).documents()) == 2


def test_an_empty_folder_is_filled(tmp_path):
    (tmp_path / "s").mkdir()
    assert len(TokenShards(write(tmp_path / "s", [[([1], True)]])).documents()) == 1


def test_a_disk_that_is_full(tmp_path, monkeypatch):
    def full(path):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tisslm.workflows.tokenize.folder.sync", full)
    with pytest.raises(DataError) as caught:
        write(tmp_path / "s", [[([1], True)]])
    assert str(caught.value) == (
        f"{tmp_path / 's'}: the token shards could not be written (No space left on device); "
        "nothing is left behind. Free space or choose another --out"
    )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("shard_tokens", [0, 2**31])
def test_shards_that_a_header_cannot_count(tmp_path, shard_tokens):
    with pytest.raises(ConfigError) as caught:
        ShardFolder(tmp_path / "s", ByteTokenizer(), "byte", shard_tokens)
    assert str(caught.value) == (
        "--shard-tokens: expected a number between 1 and 2147483647, which is what the header of a "
        f"file can count, got {shard_tokens}"
    )


def test_a_file_that_is_written_while_it_is_read(folder):
    documents = TokenShards(folder).documents()
    documents.check_source()
    path = folder / "train-00000.bin"
    os.utime(path, ns=(1, 1))
    for look in (documents.check_source, lambda: documents.document(0)):
        with pytest.raises(DataError) as caught:
            look()
        assert str(caught.value) == (
            f"{path}: was written since it was opened; do not write a file that a run reads, "
            "replace it by rename"
        )


@pytest.mark.parametrize("middle", [2**62 + 2**61, 2**63 - 1])
def test_offsets_whose_differences_exceed_64_bits_are_refused(folder, middle):
    path = folder / "train.idx"
    record = json.loads((folder / "shards.json").read_text())["splits"]["train"]
    offsets = np.array([0, middle, -middle, record["tokens"]], "<i8")
    path.write_bytes(b"TissLMix" + len(offsets).to_bytes(8, "little") + offsets.tobytes())
    manifest = json.loads((folder / "shards.json").read_text())
    manifest["splits"]["train"]["documents"] = 3
    manifest["files"]["train.idx"]["bytes"] = path.stat().st_size
    (folder / "shards.json").write_text(json.dumps(manifest))
    assert message(folder).startswith(
        f"{folder}, train: expected rising offsets, got {middle} and then {-middle} for document 1"
    )
