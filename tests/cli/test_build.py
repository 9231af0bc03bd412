"""Datasets of other names: what the run fills in, and what they are validated on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tisslm import Entry, TextDataset, hookimpl
from tisslm.config import ConfigNote, RunConfig
from tisslm.contracts import Tokenizer
from tisslm.errors import ConfigError, DataError, PluginError
from tisslm.registry import Registry
from tisslm.registry.discovery import Provider, load_plugins
from tisslm.tokenizers import ByteTokenizer
from tisslm.workflows.build.data import load_data, load_validation
from tisslm.workflows.build.trainer import build_trainer

if TYPE_CHECKING:
    from conftest import Cli


class Upper(TextDataset):
    """A third party's dataset, which needs a tokenizer and a path."""

    def __init__(
        self,
        path: str,
        tokenizer: Tokenizer,
        seq_len: int,
        *,
        shout: bool = False,
        packing: str = "none",
    ) -> None:
        super().__init__(path, tokenizer, seq_len)
        self.shout = shout
        self.packing = packing


class Plugin:
    @hookimpl
    def tisslm_datasets(self) -> Iterator[Entry]:
        yield Entry("upper", Upper, "a text")


@pytest.fixture
def registry() -> Registry:
    manager = load_plugins()
    manager.providers["upper"] = Provider("tisslm-upper", "1.0")
    manager.register(Plugin(), "upper")
    return Registry(manager)


def config(**tables: dict[str, Any]) -> RunConfig:
    shape = {"n_layer": 1, "n_head": 1, "n_embd": 8, "seq_len": 8}
    data = {"name": "upper", "path": "text.txt", "shout": True}
    everything = {"data": data, "model": shape, "tokenizer": {"name": "byte"}, **tables}
    return RunConfig.from_mapping(everything)


def test_a_dataset_gets_its_options_the_tokenizer_and_seq_len(registry: Registry) -> None:
    trainer = build_trainer(config(), registry=registry)
    dataset = trainer.dataset
    assert isinstance(dataset, Upper)
    assert (dataset.shout, dataset.seq_len, str(dataset.path)) == (True, 8, "text.txt")
    assert trainer.tokenizer is dataset.tokenizer
    assert trainer.model.vocab_size == 256
    assert trainer.val_dataset is None


def test_it_is_validated_on_its_own_kind_of_text(registry: Registry, folder: Path) -> None:
    (folder / "valid.txt").write_text("another text\n")
    data = {"name": "upper", "path": "text.txt", "valid_path": "valid.txt"}
    trainer = build_trainer(config(data=data), registry=registry)
    assert isinstance(trainer.val_dataset, Upper)
    assert str(trainer.val_dataset.path) == "valid.txt"
    assert trainer.val_dataset.shout is False


def test_a_key_of_texts_is_an_option_of_a_dataset_that_takes_it(registry: Registry) -> None:
    silent = config()
    assert build_trainer(silent, registry=registry).dataset.packing == "none"
    assert "packing" not in silent.resolved()["data"]
    data = {"name": "upper", "path": "text.txt", "packing": "stream"}
    said = config(data=data)
    assert build_trainer(said, registry=registry).dataset.packing == "stream"
    for wanted in (silent, said):
        again = RunConfig.from_mapping(wanted.resolved())
        assert again == wanted
        assert again.data.options == wanted.data.options
    with pytest.raises(ConfigError, match="dataset 'upper' has no option 'document_mask'"):
        build_trainer(config(data=data | {"document_mask": True}), registry=registry)


def test_a_tokenizer_that_learns_from_a_text_is_refused(registry: Registry) -> None:
    with pytest.raises(ConfigError) as caught:
        build_trainer(config(tokenizer={"name": "char"}), registry=registry)
    assert str(caught.value) == (
        "tokenizer.name: 'char' learns from a text, which the dataset 'upper' does not give; "
        "choose byte, or bpe with a path"
    )


def test_another_dataset_is_evaluated_on_its_valid_path(
    registry: Registry, train: Cli, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    homes = ("workflows.build.trainer", "workflows.load_model", "training.trainer")
    for module in (*homes, "cli.eval", "cli.train"):
        monkeypatch.setattr(f"tisslm.{module}.load_registry", lambda: registry, raising=False)
    (Path("held.txt")).write_text("green bottles " * 30)
    settings = ("data.name=upper", "tokenizer.name=byte", "training.output_dir=run")
    assert train(*settings, "data.valid_path=held.txt").code == 0
    result = cli("eval", "run", "--json")
    assert (result.code, result.err) == (0, "")
    found = json.loads(result.out)
    summary = json.loads(Path("run", "summary.json").read_text())
    assert (found["data"], found["loss"]) == ("held.txt", summary["eval_loss"])


def test_another_dataset_without_valid_path_has_nothing_to_validate_on(registry: Registry) -> None:
    assert load_validation(config(), ByteTokenizer(), 8, registry) is None
    held_out = config(data={"name": "upper", "path": "a", "valid_path": "held.txt"})
    with pytest.raises(DataError) as caught:
        load_validation(held_out, None, 8, registry)
    assert str(caught.value) == (
        "held.txt: the dataset 'upper' reads it with a tokenizer, and the checkpoint has none; "
        "train with a tokenizer that is registered"
    )


def test_a_fraction_of_another_dataset_is_not_held_out_in_silence() -> None:
    with pytest.warns(ConfigNote) as caught:
        found = config(data={"name": "upper", "path": "a", "valid_fraction": 0.2})
    assert [str(w.message) for w in caught] == [
        'data.valid_fraction has no effect: the dataset "upper" is validated on data.valid_path '
        "only"
    ]
    assert found.resolved()["data"]["valid_fraction"] == 0.2
    config(data={"name": "upper", "path": "a", "valid_fraction": 0})


def test_an_option_that_the_dataset_does_not_take_is_an_error(registry: Registry) -> None:
    with pytest.raises(ConfigError, match="dataset 'upper' has no option 'loud'"):
        build_trainer(config(data={"name": "upper", "path": "a", "loud": 1}), registry=registry)


def test_an_unknown_dataset_lists_the_known_ones(registry: Registry) -> None:
    with pytest.raises(PluginError, match=r"unknown dataset 'uper'\. Known: .*upper \(tisslm-up"):
        build_trainer(config(data={"name": "uper"}), registry=registry)


def test_the_settings_of_the_run_are_the_resolved_configuration(registry: Registry) -> None:
    wanted = config()
    assert build_trainer(wanted, registry=registry).settings == wanted.resolved()


@pytest.mark.parametrize("seed", [1, 2])
def test_the_seed_of_the_run_is_the_models(registry: Registry, seed: int) -> None:
    trainer = build_trainer(config(training={"seed": seed}), registry=registry)
    assert trainer.model.seed == seed


# --------------------------------------------------------------------------- the held-out text


@pytest.mark.parametrize("apart", [True, False])
def test_a_tokenizer_learns_no_frequencies_from_the_validation_text(
    registry: Registry, folder: Path, apart: bool
) -> None:
    train, valid = "ab " * 90, "xyz" * 10
    (folder / "train.txt").write_text(train if apart else train + valid)
    (folder / "held.txt").write_text(valid)
    data = {"path": "train.txt", "valid_path": "held.txt" if apart else ""}
    bpe = {"name": "bpe", "vocab_size": 300}
    tokenizer = load_data(config(data=data, tokenizer=bpe), 8, registry).tokenizer
    assert tokenizer is not None
    assert len(tokenizer.encode(valid)) == len(valid)
    assert len(tokenizer.encode(train)) < len(train) / 2


@pytest.mark.parametrize("apart", [True, False])
def test_a_tokenizer_of_characters_knows_those_of_the_validation_text(
    registry: Registry, folder: Path, apart: bool
) -> None:
    train, valid = "ab " * 90, "xyz" * 10
    (folder / "train.txt").write_text(train if apart else train + valid)
    (folder / "held.txt").write_text(valid)
    data = {"path": "train.txt", "valid_path": "held.txt" if apart else ""}
    tokenizer = load_data(config(data=data, tokenizer={"name": "char"}), 8, registry).tokenizer
    assert tokenizer is not None
    assert tokenizer.decode(range(tokenizer.vocab_size)) == " abxyz"
