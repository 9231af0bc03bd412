"""``tisslm generate``: the prompt, then text that a seed determines."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from checkpoints import reseal
from hypothesis import given
from hypothesis import strategies as st

from tisslm.cli.generate import SEPARATOR
from tisslm.config.model import TransformerConfig
from tisslm.models.generation import Sampling, generate, opening, pieces, sample
from tisslm.models.transformer import Transformer
from tisslm.tokenizers import BpeTokenizer, ByteTokenizer, CharTokenizer
from tisslm.workflows.load_model import load_model

if TYPE_CHECKING:
    from conftest import Cli


def test_the_text_is_that_of_the_library(cli: Cli, trained: Path) -> None:
    model, tokenizer = load_model(trained)
    assert tokenizer is not None
    ids = generate(model, tokenizer.encode("10 green"), 40, Sampling(0.9, 5, 0.95, seed=3))
    flags = ["--max-new-tokens", "40", "--temperature", "0.9", "--top-k", "5"]
    flags += ["--top-p", "0.95", "--seed", "3"]
    result = cli("generate", "run", "-p", "10 green", *flags)
    assert (result.code, result.err) == (0, "")
    assert result.out == f"10 green{tokenizer.decode(ids)}\n"


def test_a_seed_determines_the_text(cli: Cli, trained: Path) -> None:
    first, second = cli("generate", "run"), cli("generate", "run")
    other = cli("generate", "run", "--seed", "43")
    assert first == second
    assert first.out != other.out
    assert len(first.out) == 201


def test_samples_have_seeds_that_count_up(cli: Cli, trained: Path) -> None:
    flags = ("--prompt", "1", "--max-new-tokens", "30")
    both = cli("generate", "run", *flags, "--num-samples", "2", "--seed", "7").out
    single = [cli("generate", "run", *flags, "--seed", str(seed)).out for seed in (7, 8)]
    assert both == f"{single[0]}{SEPARATOR}\n{single[1]}"


def test_a_prompt_that_is_refused_is_not_printed(cli: Cli, trained: Path) -> None:
    result = cli("generate", "run", "--prompt", "漢")
    assert (result.code, result.out) == (1, "")
    assert result.err.startswith("error: run: char tokenizer: the character '漢'")


def test_temperature_zero_takes_no_chances(cli: Cli, trained: Path) -> None:
    texts = {cli("generate", "run", "--temperature", "0", "--seed", str(s)).out for s in range(3)}
    assert len(texts) == 1


def test_ids_without_text_are_never_chosen(train: Cli, cli: Cli) -> None:
    assert train("model.vocab_size=200", "training.output_dir=wide").code == 0
    result = cli("generate", "wide", "--temperature", "50", "--max-new-tokens", "500")
    assert (result.code, result.err) == (0, "")
    assert len(result.out) == 501


def test_a_checkpoint_may_be_named_in_every_way(cli: Cli, trained: Path) -> None:
    names = ["run", "run/checkpoints", "run/checkpoints/checkpoint-6"]
    names.append("run/checkpoints/checkpoint_step_6.bin")
    assert len({cli("generate", name).out for name in names}) == 1


def test_a_model_in_float64_is_loaded_in_float64(trained: Path) -> None:
    from safetensors.numpy import load_file, save_file

    path = trained / "checkpoints/checkpoint-6/model.safetensors"
    arrays = {name: array.astype(np.float64) for name, array in load_file(path).items()}
    save_file(arrays, path)
    reseal(path.parent)
    model, _ = load_model(trained)
    assert model.dtype == "float64"
    assert model.exchange() is not None
    found = model.exchange().outward(model.parameters.state())
    assert all(np.array_equal(found[name], arrays[name]) for name in arrays)


# --------------------------------------------------------------------------- pieces of text

BPE = BpeTokenizer.from_text("über die Brücke, 橋を渡る, 橋を渡る 🙂🙂 ", vocab_size=280)


@given(st.text(min_size=1).filter(lambda t: "\ufffd" not in t), st.integers(min_value=0))
@pytest.mark.parametrize("tokenizer", [ByteTokenizer(), BPE], ids=["byte", "bpe"])
def test_pieces_are_whole_characters_and_together_the_text(
    tokenizer: ByteTokenizer | BpeTokenizer, text: str, cut: int
) -> None:
    prompt, rest = text[: cut % len(text)], text[cut % len(text) :]
    found = list(pieces(tokenizer, tokenizer.encode(prompt), tokenizer.encode(rest)))
    assert "".join(found) == rest
    assert not any("\ufffd" in piece for piece in found)


@given(st.lists(st.integers(min_value=0, max_value=255)))
def test_bytes_that_are_no_text_lose_nothing(ids: list[int]) -> None:
    tokenizer = ByteTokenizer()
    assert "".join(pieces(tokenizer, tokenizer.encode("a"), ids)) == tokenizer.decode(ids)


class Words(ByteTokenizer):
    """Writes a space before each word but the first, as many tokenizers do."""

    def decode(self, ids: Sequence[int]) -> str:
        return " ".join(f"w{i}" for i in ids)


def test_pieces_keep_the_spaces_that_a_tokenizer_drops_at_the_start() -> None:
    assert list(pieces(Words(), [1, 2], [3, 4, 5])) == [" w3", " w4", " w5"]


def test_a_piece_comes_as_soon_as_it_is_certain() -> None:
    consumed = 0

    def ids() -> object:
        nonlocal consumed
        for token in "aé".encode():
            consumed += 1
            yield token

    stream = pieces(ByteTokenizer(), [65], ids())  # type: ignore[arg-type]
    assert (next(stream), consumed) == ("a", 1)
    assert (next(stream), consumed) == ("é", 3)


def test_without_a_prompt_the_text_begins_at_a_line_if_there_are_lines() -> None:
    assert opening(CharTokenizer(characters="ab\n")) == [0]
    assert opening(CharTokenizer(characters="\t\nab")) == [1]
    assert opening(CharTokenizer(characters="ab")) == [0]
    assert opening(ByteTokenizer()) == [10]
    names = ["<|pad|>", "<|endoftext|>"]
    ended = BpeTokenizer.from_text("a b a b\n", vocab_size=260, special_tokens=names)
    assert opening(ended) == [ended.end_of_text] == [1]

    class Begun(ByteTokenizer):
        begin = (2, 3)

    assert opening(Begun()) == [2, 3]


def test_a_prompt_begins_as_the_tokenizer_asks():
    class Begun(ByteTokenizer):
        begin = (2, 3)

    sizes = {"n_layer": 1, "n_head": 1, "n_embd": 8, "seq_len": 16, "vocab_size": 256}
    model = Transformer(TransformerConfig(**sizes))
    same = [
        "".join(sample(model, tokenizer, prompt, 9, Sampling(seed=1)))
        for tokenizer, prompt in ((Begun(), "ab"), (ByteTokenizer(), "\2\3ab"))
    ]
    assert same[0] == same[1] != ""


def test_a_prompt_longer_than_the_context_is_used_from_its_end(cli: Cli, trained: Path) -> None:
    long = cli("generate", "run", "-p", "1 green bottle " * 9, "--max-new-tokens", "5")
    assert long.code == 0
    assert long.out.startswith("1 green bottle " * 9)


def test_loading_does_not_change_what_is_computed(trained: Path) -> None:
    model, _ = load_model(trained)
    fresh = Transformer(TransformerConfig(**model.config.model_dump()))
    for parameter in fresh.parameters:
        parameter.data[...] = model.parameters[parameter.name].data
    x = np.arange(16, dtype=np.int32).reshape(1, 16)
    assert np.array_equal(model.forward(x)[0], fresh.forward(x)[0])


# --------------------------------------------------------------------------- several prompts


def test_texts_of_several_prompts_are_those_alone(cli: Cli, trained: Path) -> None:
    prompts = [f"{n} green" for n in range(1, 10)] + ["1"]  # more than are generated together
    flags = ("--max-new-tokens", "25", "--seed", "3")
    alone = [cli("generate", "run", "-p", prompt, *flags).out for prompt in prompts]
    options = [option for prompt in prompts for option in ("-p", prompt)]
    assert cli("generate", "run", *options, *flags).out == f"{SEPARATOR}\n".join(alone)
    Path("prompts.txt").write_text("\n\n".join(prompts) + "\n")
    found = cli("generate", "run", "--prompts", "prompts.txt", *flags)
    assert (found.code, found.out) == (0, f"{SEPARATOR}\n".join(alone))


def test_lines_of_a_file_of_prompts_end_by_line_feeds_alone(cli: Cli, trained: Path) -> None:
    command = ("generate", "run", "--prompts", "prompts.txt", "--max-new-tokens", "0")
    Path("prompts.txt").write_bytes(b"\xef\xbb\xbf1 green\r\n2 green\r\n")
    assert cli(*command).out == f"1 green\n{SEPARATOR}\n2 green\n"
    Path("prompts.txt").write_text("1\u2028green\n", encoding="utf-8")
    assert "the character '\\u2028' (U+2028) at position 1 is not one of" in cli(*command).err


def test_a_stop_string_ends_the_text_before_it(cli: Cli, trained: Path) -> None:
    whole = cli("generate", "run", "-p", "10 green", "--temperature", "0").out
    stop = whole[20:22]
    found = cli("generate", "run", "-p", "10 green", "--temperature", "0", "--stop", stop)
    assert found.out == "10 green" + whole[8 : whole.index(stop, 8)] + "\n"


def test_filters_reach_the_sampling(cli: Cli, trained: Path) -> None:
    flags = ("-p", "1", "--max-new-tokens", "40")
    plain, greedy = (cli("generate", "run", *flags, "--temperature", t).out for t in ("5", "0"))
    assert cli("generate", "run", *flags, "--temperature", "5", "--min-p", "1").out == greedy
    assert plain != greedy
    other = cli("generate", "run", *flags, "--temperature", "0", "--repetition-penalty", "9").out
    assert other != greedy


def test_bf16_weights_and_figures(cli: Cli, trained: Path) -> None:
    flags = ("-p", "10 green", "--max-new-tokens", "30", "--temperature", "0")
    result = cli("generate", "run", *flags, "--weights", "bf16", "--stats")
    assert (result.code, len(result.out)) == (0, 39)
    assert re.fullmatch(
        r"read 8 tokens in \S+ \(\S+ tokens/s\), wrote 30 in \S+ \(\S+ tokens/s\); "
        r"\S+ \SiB of memory at most\n",
        result.err,
    )


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--weights", "int4"], "error: --weights: expected fp32 or bf16, got 'int4'\n"),
        (["--min-p", "2"], "error: min_p: expected a number in [0, 1], got 2.0\n"),
        (
            ["--repetition-penalty", "0"],
            "error: repetition_penalty: expected a number from 1e-6 to 1e6, got 0.0\n",
        ),
        (
            ["--stop", ""],
            "error: stop: expected strings of at least one character, got an empty one\n",
        ),
        (
            ["--prompts", "p.txt", "-p", "a"],
            "error: --prompts: expected a file or --prompt, got both; give one of them\n",
        ),
        (
            ["--prompts", "empty.txt"],
            "error: empty.txt: cannot be read (it has no prompt); give a text file with a prompt "
            "in each line\n",
        ),
        (
            ["--prompts", "latin.txt"],
            "error: latin.txt: cannot be read (no UTF-8 at byte 1); give a text file with a prompt "
            "in each line\n",
        ),
    ],
)
def test_wrong_options_are_refused(cli: Cli, trained: Path, flags: list[str], message: str) -> None:
    Path("empty.txt").write_text("\n\n")
    Path("latin.txt").write_bytes("aé".encode("latin-1"))
    result = cli("generate", "run", *flags)
    assert (result.out, result.err) == ("", message)
    assert result.code == (1 if "cannot be read" in message else 3)
