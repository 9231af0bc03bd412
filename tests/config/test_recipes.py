"""The configurations that come with TissLM."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tisslm.config import RunConfig

RECIPES = Path(__file__).parents[2] / "recipes"


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.toml")), ids=lambda path: path.stem)
def test_every_recipe_is_valid_and_needs_no_other_spelling(path: Path) -> None:
    config = RunConfig.load(path, env={})
    assert RunConfig.from_mapping(config.resolved()) == config
    assert config.training.name == path.stem


def test_the_default_run_needs_no_file() -> None:
    config = RunConfig.load(env={})
    assert config.data.path == "python-docs"
    assert config.tokenizer.name == "char"
    assert "preset" in config.model


def test_the_shakespeare_recipe_is_the_published_run() -> None:
    config = RunConfig.load(RECIPES / "shakespeare-char-cpu.toml", env={})
    assert config.model == {
        "n_layer": 4,
        "n_head": 4,
        "n_embd": 128,
        "seq_len": 64,
        "dropout": 0.0,
        "bias": False,
    }
    assert config.tokenizer == ("char", {})
    assert config.data.valid_fraction == 0.1
    assert config.optimizer == ("adamw", {"beta1": 0.9, "beta2": 0.99, "weight_decay": 0.1})
    assert config.scheduler == ("warmup_cosine", {"warmup_steps": 100, "min_lr": 1e-4})
    assert config.loss == ("cross_entropy", {})
    training = config.training
    assert (training.max_steps, training.batch_size) == (2000, 12)
    assert (training.learning_rate, training.max_grad_norm) == (1e-3, 1.0)
    assert training.gradient_accumulation_steps == 1


def test_the_chats_are_made_of_this_python_and_are_different(tmp_path: Path) -> None:
    program = RECIPES / "docstring_chats.py"
    for name in ("first", "second"):
        subprocess.run([sys.executable, str(program), str(tmp_path / name)], check=True)
    questions = []
    for part, count in (("train", 200), ("valid", 40)):
        text = (tmp_path / "first" / f"{part}.jsonl").read_text()
        assert text == (tmp_path / "second" / f"{part}.jsonl").read_text()
        chats = [json.loads(line)["messages"] for line in text.splitlines()]
        assert len(chats) == count
        for chat in chats:
            assert [message["role"] for message in chat[:2]] == ["user", "assistant"]
            questions += [m["content"] for m in chat if m["role"] == "user"]
    names = [question.split("`")[1] for question in questions]
    assert len(set(names)) == len(names) == 300


def test_scores_are_those_of_the_paths_between_nouns(tmp_path: Path) -> None:
    synsets = ["1 03 n 01 thing 0 000 | what is", "2 03 n 01 animal 0 001 @ 1 n 0000 | it lives"]
    synsets += [f"{n} 03 n 01 x 0 001 @ 2 n 0000 | {word}" for n, word in ((3, "dog"), (4, "cat"))]
    (tmp_path / "data.noun").write_text("  1 the licence\n" + "\n".join(synsets) + "\n")
    program, out = RECIPES / "wordnet_scores.py", tmp_path / "scores.jsonl"
    subprocess.run([sys.executable, str(program), str(tmp_path), str(out)], check=True)
    found = {}
    for line in out.read_text().splitlines():
        pair = json.loads(line)
        found[frozenset((pair["sentence1"], pair["sentence2"]))] = pair["score"]
    assert len(found) == 6
    assert found[frozenset(("dog", "cat"))] == found[frozenset(("dog", "what is"))] == 0.3333
    assert found[frozenset(("dog", "it lives"))] == 0.5
    done = subprocess.run([sys.executable, str(program)], capture_output=True, text=True)
    assert done.returncode == 2
    assert "usage: wordnet_scores.py" in done.stderr


def test_continuations_are_paired_with_the_same_words_or_with_others(tmp_path: Path) -> None:
    program, found = RECIPES / "continuation_pairs.py", {}
    for kind in ([], ["other"]):
        folder = tmp_path / "".join(["pairs", *kind])
        subprocess.run([sys.executable, str(program), str(folder), *kind], check=True)
        lines = [(folder / f"{part}.jsonl").read_text() for part in ("train", "valid")]
        found[folder.name] = [[json.loads(line) for line in text.splitlines()] for text in lines]
    for train, valid in found.values():
        assert (len(train), len(valid)) == (320, 100)
        assert not {each["prompt"] for each in train} & {each["prompt"] for each in valid}
    for one, other in zip(found["pairs"][0], found["pairsother"][0], strict=True):
        assert (one["prompt"], one["chosen"]) == (other["prompt"], other["chosen"])
        assert sorted(one["rejected"].split()) == sorted(one["chosen"].split())
        assert one["rejected"] != one["chosen"] != other["rejected"]
