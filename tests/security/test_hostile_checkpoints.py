"""Checkpoints made to harm, with manifests that verify: an error with a reason, and nothing else.

All are read in one process, which tells what each took and did.
"""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import re
import shutil
import socket
from pathlib import Path

import pytest
from checkpoints import reseal, small

DAMAGED = "{folder}/{file}: the checkpoint is damaged or incomplete ({reason}); use an earlier one"
HUGE = 2**43  # more than any memory
FILES = [
    "config.json",
    "manifest.json",
    "model.safetensors",
    "optimizer.safetensors",
    "tokenizer_state.json",
    "trainer_state.json",
]

CASES = {}


def case(message: str, **more):
    """Register a function that changes the checkpoint at a path; it returns the message's fields.

    ``message`` is a regular expression; ``{folder}`` is the checkpoint.
    """

    def register(change):
        name = change.__name__ + "".join(f" {value}" for value in more.values())
        CASES[name] = (change, message, more)
        return change

    return register


def damaged(file: str, reason: str) -> str:
    """Return the pattern of the message that every reader has."""
    return re.escape(DAMAGED).replace(r"\{folder\}", "{folder}").replace(
        r"\{file\}", re.escape(file)
    ).replace(r"\{reason\}", f"(?:{reason})")  # fmt: skip


# --------------------------------------------------------------------------- arrays


def arrays(folder: Path, header, data: bytes = b"", length: int | None = None) -> None:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    size = len(text) if length is None else length
    (folder / "model.safetensors").write_bytes(size.to_bytes(8, "little") + text + data)
    reseal(folder)


def entry(shape, offsets, dtype="F32"):
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


@case(damaged("model.safetensors", r"expected a header of at most 16777216 bytes, got \d{20}"))
def header_of_eight_exabytes(folder):
    arrays(folder, {}, length=2**64 - 1)


@case(damaged("model.safetensors", r"expected a header of at most 16777216 bytes, got \d{8}"))
def header_of_600_000_arrays(folder):
    one = b'"%06d":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}'
    arrays(folder, b"{" + b",".join(one % i for i in range(600_000)) + b"}")


@case(damaged("model.safetensors", "'b': expected data from byte 8 on, .*, got 4"))
def overlapping_arrays(folder):
    arrays(folder, {"a": entry([2], [0, 8]), "b": entry([2], [4, 12])}, bytes(12))


@case(damaged("model.safetensors", r"'a': expected two offsets, got '\[-8, 0\]'"))
def negative_offsets(folder):
    arrays(folder, {"a": entry([2], [-8, 0])}, bytes(8))


@case(
    damaged("model.safetensors", "'a': expected 8 bytes for its shape and type, got offsets 8 .*")
)
def offsets_backwards(folder):
    arrays(folder, {"a": entry([2], [8, 0])}, bytes(8))


@case(damaged("model.safetensors", r"'a': the shape '\[\d+, 4\]' is too large"))
def shape_product_that_overflows(folder):
    arrays(folder, {"a": entry([2**62, 4], [0, 0])})


@case(damaged("model.safetensors", "expected JSON of at most .*, got more"))
def header_a_million_levels_deep(folder):
    arrays(folder, b'{"a":' * 10**6)


@case(damaged("model.safetensors", "expected a file of 8796093022208 bytes, got one of holes, .*"))
def sparse_arrays(folder):
    header = json.dumps({"a": entry([HUGE], [0, HUGE], "U8")}).encode()
    with (folder / "model.safetensors").open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(HUGE)
    claim(folder, "model.safetensors", size=HUGE)


# --------------------------------------------------------------------------- JSON


def text(folder: Path, name: str, content: bytes) -> None:
    (folder / name).write_bytes(content)
    reseal(folder)


for _name in ("config.json", "tokenizer_state.json", "trainer_state.json"):

    @case(damaged("{name}", "expected (JSON of )?at most .*, got .*"), name=_name)
    def deep_lists(folder, name):
        text(folder, name, b'{"a":' + b"[" * 10**6 + b"]" * 10**6 + b"}")

    @case(damaged("{name}", "expected (JSON of )?at most .*, got .*"), name=_name)
    def deep_objects(folder, name):
        text(folder, name, b'{"a":' * 10**6)

    @case(damaged("{name}", "the key 'a' is there twice"), name=_name)
    def keys_twice(folder, name):
        text(folder, name, b'{"a": 1, "a": 2}')

    @case(damaged("{name}", "expected a JSON object, got a list"), name=_name)
    def a_list(folder, name):
        text(folder, name, b"[1, 2]")

    @case(damaged("{name}", "expected UTF-8, got byte 0x80 at offset 0"), name=_name)
    def no_text(folder, name):
        text(folder, name, b"\x80\x04")

    @case(damaged("{name}", "expected a file of 8796093022208 bytes, got one of holes, .*"),
          name=_name)  # fmt: skip
    def sparse_text(folder, name):
        with (folder / name).open("wb") as file:
            file.truncate(HUGE)
        claim(folder, name, size=HUGE)


@case(damaged("config.json", "expected at most 1048576 bytes, got 1048577"))
def configuration_of_a_mebibyte(folder):
    text(folder, "config.json", b"{" + b" " * (2**20 - 1) + b"}")


@case(damaged("config.json", "expected numbers as JSON has them, got NaN"))
def nan_in_the_configuration(folder):
    text(folder, "config.json", b'{"dropout": NaN}')


def configured(folder: Path, **values) -> None:
    config = json.loads((folder / "config.json").read_bytes())
    text(folder, "config.json", json.dumps(config | values).encode())


WRONG_SIZE = (
    r"{folder}/config.json: expected an array \S+ of shape \(.*\) in model.safetensors, got (none|"
    r"one of \(.*\)); the two files are of different runs, use another checkpoint"
)


NO_SIZE = (
    r"{folder}/config.json: expected the configuration of a Transformer, got another "
    r"\(model.{key}: expected an integer .*\); give a checkpoint that tisslm train has "
    "written"
)


@case(NO_SIZE.replace("{key}", "n_layer"))
def a_billion_layers(folder):
    configured(folder, n_layer=10**9)


@case(NO_SIZE.replace("{key}", "vocab_size"))
def a_vocabulary_of_2_to_the_60(folder):
    configured(folder, vocab_size=2**60)


@case(NO_SIZE.replace("{key}", "n_embd"))
def channels_beyond_64_bits(folder):
    configured(folder, n_embd=2**80, n_head=1, n_kv_head=1)


NO_SHAPE = NO_SIZE.partition("model.{key}")[0]


@case(NO_SHAPE + r"model: unknown key 'self'.*\); give a checkpoint that tisslm train has written")
def a_key_that_is_named_as_an_argument(folder):
    configured(folder, self=1)


@case(NO_SHAPE + r"model.preset: a checkpoint has every value and names no preset\); give a .*")
def a_preset_that_is_a_list(folder):
    configured(folder, preset=["gpt2"])


@case(r"{folder}/config.json: family: expected the name of a family of models, got .*; the .*")
def a_family_that_is_a_list(folder):
    configured(folder, family=["gpt2"])


@case(
    r"{folder}/config.json: expected the configuration of a model of the family 'gpt2', got "
    r"another \(model.n_layer: .*"
)
def a_family_with_the_keys_of_another(folder):
    configured(folder, family="gpt2", n_layer="two")


@case(WRONG_SIZE)
def a_vocabulary_of_two_billion(folder):
    configured(folder, vocab_size=2**31 - 1)


@case(WRONG_SIZE)
def a_thousand_layers(folder):
    configured(folder, n_layer=10_000)


@case(
    r"{folder}/config.json: expected the configuration of a Transformer, got another \(.*\.\.?\.?.*"
)
def a_long_word_as_size(folder):
    configured(folder, n_layer="x" * 10**6)


@case(r"{folder}/tokenizer_state.json: expected a tokenizer's name and state; the checkpoint is .*")
def tokenizer_without_state(folder):
    text(folder, "tokenizer_state.json", b'{"name": ["os.system"], "state": {}}')


@case("{folder}: char tokenizer: expected a state with distinct characters in .*, got another; .*")
def tokenizer_of_another_state(folder):
    text(folder, "tokenizer_state.json", b'{"name": "char", "state": {"characters": 1e300}}')


@case(r"{folder}: its tokenizer has 256 ids, its model a vocabulary of 10; the two files are of .*")
def tokenizer_larger_than_the_model(folder):
    text(folder, "tokenizer_state.json", b'{"name": "byte", "state": {}}')


@case(
    "{folder}: bpe tokenizer: expected a state with the content of a tokenizer.json, got another .*"
)
def tokenizer_json_of_something_else(folder):
    (folder / "tokenizer_state.json").unlink()
    text(folder, "tokenizer.json", b'{"model": {"type": "BPE", "vocab": 3}}')


# --------------------------------------------------------------------------- manifests


def sealed(folder: Path, body) -> None:
    """Write a manifest with the checksum of its body, whatever that is."""
    whole = json.dumps(body, indent=1).encode() + b"\n"
    body = body | {"checksum": hashlib.sha256(whole).hexdigest()}
    (folder / "manifest.json").write_bytes(json.dumps(body, indent=1).encode() + b"\n")


def manifest(folder: Path):
    body = json.loads((folder / "manifest.json").read_bytes())
    del body["checksum"]
    return body


def claim(folder: Path, name: str, **values) -> None:
    body = manifest(folder)
    body["files"][name] |= values
    sealed(folder, body)


ANOTHER = "expected a manifest, got another JSON value .*"

for _path in ("../checkpoint-2/config.json", "/etc/passwd", "sub/file", "..", ".", "", "a\0b",
              "manifest.json", "~", "-", "a\nb"):  # fmt: skip

    @case(damaged("manifest.json", ANOTHER), path=_path)
    def name_that_leads_away(folder, path):
        body = manifest(folder)
        body["files"][path] = body["files"]["config.json"]
        sealed(folder, body)


for _key, _value in [("size", "5"), ("size", -1), ("size", 1.0), ("size", True), ("size", 2**63),
                     ("size", None), ("sha256", "0" * 63), ("sha256", "G" * 64), ("sha256", 5),
                     ("sha256", ["0" * 64])]:  # fmt: skip

    @case(damaged("manifest.json", ANOTHER), key=_key, value=_value)
    def record_of_another_type(folder, key, value):
        claim(folder, "model.safetensors", **{key: value})


for _key, _value in [("files", []), ("files", {}), ("files", {"config.json": 3}), ("files", None),
                     ("step", -1), ("step", "1"), ("metrics", []), ("metrics", {"a": "b"}),
                     ("metrics", {"a": float("inf")}), ("metrics", {"a": True})]:  # fmt: skip

    @case(damaged("manifest.json", f"{ANOTHER}|expected numbers as JSON has them, got Infinity"),
          key=_key, value=_value)  # fmt: skip
    def manifest_of_another_type(folder, key, value):
        sealed(folder, manifest(folder) | {key: value})


@case(damaged("manifest.json", "expected format version 1, got 99, of a newer TissLM"))
def manifest_of_a_later_version(folder):
    sealed(folder, manifest(folder) | {"format_version": 99})


@case(damaged("manifest.json", "expected JSON of at most 32768 values, got more"))
def manifest_a_million_levels_deep(folder):
    (folder / "manifest.json").write_bytes(b"[" * 10**6)


@case(damaged("manifest.json", "expected a manifest, got one that fails: the key 'step' is .*"))
def manifest_with_a_key_twice(folder):
    path = folder / "manifest.json"
    path.write_bytes(path.read_bytes().replace(b'{\n "format"', b'{\n "step": 9,\n "format"'))


@case(damaged("manifest.json", "expected at most 1048576 bytes, got 8796093022208"))
def manifest_of_a_terabyte(folder):
    os.truncate(folder / "manifest.json", HUGE)


# --------------------------------------------------------------------------- kinds of file

GOT = "expected a regular file, got "

for _name in FILES:

    @case(damaged("{name}", GOT + "a symbolic link"), name=_name)
    def a_link_out_of_the_checkpoint(folder, name):
        outside = folder.parent.parent / f"outside of {folder.parent.name}"
        (folder / name).rename(outside)
        (folder / name).symlink_to(outside)

    @case(damaged("{name}", GOT + ".*"), name=_name)
    def a_link_to_itself(folder, name):
        (folder / name).unlink()
        (folder / name).symlink_to(name)

    @case(damaged("{name}", GOT + ".*"), name=_name)
    def a_fifo(folder, name):
        (folder / name).unlink()
        os.mkfifo(folder / name)

    @case(damaged("{name}", GOT + ".*"), name=_name)
    def a_directory(folder, name):
        (folder / name).unlink()
        (folder / name).mkdir()

    @case(damaged("{name}", GOT + ".*"), name=_name)
    def a_socket(folder, name):
        (folder / name).unlink()
        handle = os.open(folder, os.O_RDONLY)  # a socket's path may have 107 bytes
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(f"/proc/self/fd/{handle}/{name}")
        os.close(handle)

    @case(damaged("{name}", GOT + ".*"), name=_name)
    def a_device(folder, name):
        (folder / name).unlink()
        (folder / name).symlink_to("/dev/zero")

    @case(damaged("{name}", "expected .*"), name=_name)
    def a_pickle(folder, name):
        (folder / name).write_bytes(pickle.dumps(Bomb(folder.parent / "was run")))
        if name != "manifest.json":
            reseal(folder)


class Bomb:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


# --------------------------------------------------------------------------- what happened


@pytest.fixture(scope="module")
def opened(tmp_path_factory, outcomes):
    """Return folder and outcome of every case."""
    base = tmp_path_factory.mktemp("hostile")
    good = small(base / "good", 1)
    folders = {}
    for i, (name, (change, _, more)) in enumerate(CASES.items()):
        folders[name] = base / str(i) / "checkpoint-1"
        shutil.copytree(good, folders[name])
        change(folders[name], **more)
    found = outcomes("checkpoint", folders, good=good)
    return {name: (folders[name], found[name]) for name in CASES}


@pytest.mark.parametrize("name", CASES)
def test_a_hostile_checkpoint_ends_in_an_error_and_does_nothing(opened, name):
    folder, found = opened[name]
    _, message, more = CASES[name]
    fields = {"folder": re.escape(str(folder)), "name": re.escape(str(more.get("name", "")))}
    for field, value in fields.items():
        message = message.replace(f"{{{field}}}", value).replace(rf"\{{{field}\}}", value)
    assert re.fullmatch(message, found.message, re.DOTALL), found.message
    assert len(found.message) < 2000 + len(str(folder))
    assert found.seconds < 2
    size = sum(p.lstat().st_blocks * 512 for p in folder.iterdir())
    assert found.memory < 2 * size + 2**25
    assert not (folder.parent / "was run").exists()
    assert_only_opened(found.events, folder)


def assert_only_opened(events, folder):
    """Check that nothing was imported, compiled or run, and nothing opened but the checkpoint."""
    for event, what in events:
        assert event in {"open", "os.listdir", "os.scandir"}, (event, what)
        assert Path(what).parent == folder or what.isdecimal(), (event, what)  # or what is open


def test_a_pickle_that_is_loaded_would_have_been_seen(tmp_path):
    pickle.loads(pickle.dumps(Bomb(tmp_path / "was run")))  # noqa: S301 (it is ours)
    assert (tmp_path / "was run").exists()


def test_a_good_checkpoint_opens(tmp_path, outcomes):
    path = small(tmp_path, 1)
    found = outcomes("checkpoint", {"good": path}, good=path)["good"]
    assert found.message == ""
    assert_only_opened(found.events, path)
    assert {Path(what).name for _, what in found.events} >= {*FILES}
