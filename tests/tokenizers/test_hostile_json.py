"""A tokenizer.json that the library cannot work with: a sentence, and no panic, abort or exception.

Each file is read in a process of its own: some of them would end it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tisslm.errors import DataError
from tisslm.tokenizers import BpeTokenizer
from tisslm.tokenizers.json_limits import MAX_IDS
from tisslm.tokenizers.rust_errors import refused_errors, without_panic_text

WORDS = {"[UNK]": 0, "it": 1, "was": 2}
FIXED = {"type": "FixedLength", "length": 5}


def content(model: dict[str, Any] | None = None, **parts: Any) -> dict[str, Any]:
    kept = {"type": "WordLevel", "vocab": WORDS, "unk_token": "[UNK]", **(model or {})}
    empty = dict.fromkeys(
        ("truncation", "padding", "normalizer", "pre_tokenizer", "post_processor", "decoder")
    )
    return {"version": "1.0", "added_tokens": [], **empty, "model": kept, **parts}


def growing(times: int, pattern: Any, new: str) -> dict[str, Any]:
    step = {"type": "Replace", "pattern": pattern, "content": new}
    return {"type": "Sequence", "normalizers": [step] * times}


ADDED = {"content": "x", "special": False, "single_word": False, "lstrip": False, "rstrip": False,
         "normalized": True}  # fmt: skip
OUT_OF_BOUNDS = {
    "id": (
        content({"vocab": WORDS | {"the": 2**31}}),
        f"expected the id of 'the' from 0 to {MAX_IDS - 1}, got '{2**31}'",
    ),
    "added id": (
        content(added_tokens=[{"id": 2**32 - 1, **ADDED}]),
        f"expected the id of 'x' from 0 to {MAX_IDS - 1}, got '{2**32 - 1}'",
    ),
    "chunk": (
        content(pre_tokenizer=FIXED | {"length": 0}),
        f"expected pre_tokenizer.length from 1 to {2**31 - 1}, got '0'",
    ),
    "chunk in a sequence": (
        content(pre_tokenizer={"type": "Sequence", "pretokenizers": [FIXED | {"length": 2**40}]}),
        f"expected pre_tokenizer.pretokenizers.0.length from 1 to {2**31 - 1}, got '{2**40}'",
    ),
    "strip": (
        content(decoder={"type": "Strip", "content": "a", "start": 2**63, "stop": 0}),
        f"expected decoder.start from 0 to {2**31 - 1}, got '{2**63}'",
    ),
    "growth": (
        content(normalizer=growing(13, {"String": "a"}, "aa")),
        "expected replacements that make a text at most 4096 times longer, got more",
    ),
    "growth from nothing": (
        content(normalizer=growing(13, {"Regex": ""}, "a")),
        "expected replacements that make a text at most 4096 times longer, got more",
    ),
    "twice": (None, "the key 'version' is there twice"),
    "long number": (None, "expected an integer that float64 has, got one of 5000 digits"),
}
TEXTS = {
    "twice": '{"version": 1, "version": 2}',
    "long number": json.dumps(content()).replace('"it": 1', f'"it": {"9" * 5000}'),
}


@pytest.mark.parametrize("name", OUT_OF_BOUNDS)
def test_what_the_library_must_not_see_is_refused(tmp_path: Path, name: str) -> None:
    made, reason = OUT_OF_BOUNDS[name]
    path = tmp_path / "tokenizer.json"
    path.write_text(TEXTS.get(name) or json.dumps(made))
    with pytest.raises(DataError) as caught:
        BpeTokenizer(path=path)
    assert str(caught.value) == (
        f"{path}: expected a tokenizer.json of the Hugging Face tokenizers library, got something "
        f"else ({reason}); export it again with tokenizer.save(path)"
    )


@pytest.mark.parametrize(
    "made",
    [
        content(truncation={"direction": "Right", "max_length": 2**63, "strategy": "LongestFirst",
                            "stride": 0}),
        content(padding={"strategy": {"Fixed": 2**40}, "direction": "Right",
                         "pad_to_multiple_of": 2**40, "pad_id": 0, "pad_type_id": 0,
                         "pad_token": "[PAD]"}),
        content(normalizer=growing(50, {"String": "a"}, "b")),
        content(normalizer=growing(1, {"String": " "}, "\u2581")),
        content({"vocab": {"[UNK]": 0, "it": MAX_IDS - 1}}),
        content(pre_tokenizer=FIXED),
    ],
    ids=range(6),
)  # fmt: skip
def test_what_does_no_harm_is_taken(tmp_path: Path, made: dict[str, Any]) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(made))
    assert len(BpeTokenizer(path=path).encode("it")) > 0


MISSING = {
    "WordLevel": ("word", content({"unk_token": "[NO]"})),
    "WordPiece": (
        "word",
        content({"type": "WordPiece", "unk_token": "[NO]", "max_input_chars_per_word": 100,
                 "continuing_subword_prefix": "##"}),
    ),
    "Unigram": (
        "word",
        content({"type": "Unigram", "vocab": [["it", -1.0]], "unk_id": None,
                 "byte_fallback": False}),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MISSING)
def test_a_text_without_a_token_is_refused_with_the_file(tmp_path: Path, name: str) -> None:
    text, made = MISSING[name]
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(made))
    tokenizer = BpeTokenizer(path=path)
    for call in (tokenizer.encode, tokenizer.encode_array, lambda t: tokenizer.encode_batch([t])):
        with pytest.raises(DataError) as caught:
            call(text)
        message = str(caught.value)
        assert message.startswith(f"{path}: the tokenizers library cannot encode this text with ")
        assert "unk" in message.lower()
        assert message.count("\n") == 0


class PanicException(BaseException):
    """As PyO3 names what it makes of a panic of Rust."""


def raising(error: BaseException) -> None:
    with refused_errors(lambda reason: DataError(f"refused: {reason}")):
        raise error


@pytest.mark.parametrize("error", [Exception("bare"), PanicException("panic"), ValueError("x")])
def test_an_exception_or_panic_of_the_library_becomes_ours(error: BaseException) -> None:
    with pytest.raises(DataError, match=f"refused: {error}") as caught:
        raising(error)
    assert caught.value.__cause__ is error


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), SystemExit(3), MemoryError(), GeneratorExit(), DataError("ours")]
)
def test_what_ends_a_program_and_errors_of_ours_pass(error: BaseException) -> None:
    with pytest.raises(type(error)) as caught:
        raising(error)
    assert caught.value is error


def test_a_panic_while_reading_leaves_nothing_on_standard_error(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(content(decoder={"type": "Strip", "content": "a", "start": 1,
                                                "stop": 2**30})))  # fmt: skip
    program = (
        "import os, sys\n"
        "from tisslm.tokenizers.rust_errors import without_panic_text\n"
        "with without_panic_text():\n"
        "    print('kept', file=sys.stderr)\n"
        "    os.write(2, b'raw\\n')\n"
        "with without_panic_text():\n"
        "    os.write(2, b'\\nthread <unnamed> panicked at x.rs:1:\\nboom\\n')\n"
        "from tisslm.tokenizers import BpeTokenizer\n"
        "from tisslm.errors import DataError\n"
        "try:\n"
        "    BpeTokenizer(path=sys.argv[1])\n"
        "except DataError as error:\n"
        "    print('refused')\n"
        "os.write(2, b'after\\n')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True
    )
    assert done.stderr == "kept\nraw\nafter\n"


def test_a_process_without_standard_error_reads_tokenizers(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(content()))
    program = (
        "import os, sys\n"
        "os.close(2)\n"
        "from tisslm.tokenizers import BpeTokenizer\n"
        "print(BpeTokenizer(path=sys.argv[1]).encode('it'))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[1]\n"


def test_standard_error_is_whole_after_a_block(capfd: pytest.CaptureFixture[str]) -> None:
    for _ in range(3):
        with without_panic_text():
            pass
    print("here", file=sys.stderr)
    assert capfd.readouterr().err == "here\n"
