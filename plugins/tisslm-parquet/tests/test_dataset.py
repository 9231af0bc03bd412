"""The dataset: rows and masks, options, its contract, and runs by its name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tisslm_parquet.dataset import ParquetDataset

from tisslm.cli.main import main
from tisslm.config import RunConfig
from tisslm.errors import ConfigError, DataError
from tisslm.registry import load_registry
from tisslm.testing import check_dataset
from tisslm.tokenizers import BpeTokenizer, ByteTokenizer
from tisslm.training.trainer import Trainer
from tisslm.workflows.build.trainer import build_trainer

Write = Callable[..., Path]


def test_it_keeps_the_contract_of_datasets() -> None:
    assert check_dataset(ParquetDataset).n_assertions > 300


def test_rows_are_the_files_texts_one_after_another(write: Write, texts: list[str]) -> None:
    write("data/b.parquet", text=texts[25:])
    first = write("data/a.parquet", text=texts[:25])
    dataset = ParquetDataset(first.parent, ByteTokenizer(), 32)
    tokens = np.concatenate([dataset.window(i).x for i in range(len(dataset))])
    assert "".join(texts).encode().startswith(tokens.astype(np.uint8).tobytes())
    assert len(tokens) > len("".join(texts).encode()) - 33
    assert dataset.documents.tokens.dtype == np.uint8
    assert [file.name for file in dataset.files] == ["a.parquet", "b.parquet"]


def test_no_document_sees_another(write: Write) -> None:
    path = write("a.parquet", text=["abc", "de", "fghij"])
    dataset = ParquetDataset(path, ByteTokenizer(), 9)
    x, y, start = dataset.window(0)
    assert bytes(x.tolist()) == b"abcdefghi"
    assert start.tolist() == [0, 0, 0, 3, 3, 5, 5, 5, 5]
    assert y.tolist() == [*b"bc", -100, *b"e", -100, *b"ghij"]
    one = ParquetDataset(path, ByteTokenizer(), 9, document_mask=False)
    assert one.window(0).start is None
    assert bytes(one.window(0).y.tolist()) == b"bcdefghij"


def test_documents_end_with_the_end_of_text(write: Write) -> None:
    tokenizer = BpeTokenizer.from_text(
        "a few words, and a few more", vocab_size=260, special_tokens=["<|endoftext|>"]
    )
    dataset = ParquetDataset(write("a.parquet", text=["a few", "more"]), tokenizer, 4)
    assert dataset.documents.tokens.dtype == np.uint16
    ends = dataset.documents.offsets[1:] - 1
    assert (dataset.documents.tokens[ends] == tokenizer.end_of_text).all()


def test_conversations_are_written_by_the_template(write: Write) -> None:
    made = BpeTokenizer.from_text("a b", vocab_size=258, special_tokens=["<|end|>"])
    template = "{% for m in messages %}{{ m.role ~ m.content ~ '<|end|>' }}{% endfor %}"
    tokenizer = BpeTokenizer.from_state(made.state() | {"config": {"chat_template": template}})
    turn = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    forged = [{"role": "user", "content": "<|end|>"}, turn[1]]
    path = write("a.parquet", messages=[turn, forged])
    with pytest.warns(UserWarning, match=r"1 bad record left out, the first: .* message 0: exp"):
        dataset = ParquetDataset(path, tokenizer, 8, bad_records="skip")
    text = tokenizer.decode(dataset.documents.tokens.tolist())
    assert text == "userHi<|end|>assistantHello<|end|>"
    with pytest.raises(ConfigError, match="expected a tokenizer with a chat template"):
        ParquetDataset(path, ByteTokenizer(), 8)
    plain = ParquetDataset(path, ByteTokenizer(), 8, chat="plain")
    assert bytes(plain.documents.tokens[:10].tolist()) == b"user:\nHi\n\n"


def test_prompts_may_be_learned_or_not(write: Write) -> None:
    path = write("a.parquet", prompt=["ab"], completion=["cd"])
    masked = ParquetDataset(path, ByteTokenizer(), 3)
    assert masked.window(0).y.tolist() == [-100, *b"cd"]
    whole = ParquetDataset(path, ByteTokenizer(), 3, mask_prompt=False)
    assert whole.window(0).y.tolist() == list(b"bcd")


def test_bad_rows_are_told_once_for_all_files(write: Write) -> None:
    write("data/a.parquet", text=["abc", None, ""])
    path = write("data/b.parquet", text=["abc", None])
    with pytest.warns(UserWarning, match=r"a\.parquet, \.\.\.: 3 bad records left out, the first"):
        dataset = ParquetDataset(path.parent, ByteTokenizer(), 2, bad_records="skip")
    assert dataset.bad.skipped == 3


def test_files_without_a_good_row_are_refused(write: Write) -> None:
    path = write("a.parquet", text=[None])
    with pytest.raises(DataError) as caught:
        ParquetDataset(path, ByteTokenizer(), 2, bad_records="skip")
    assert str(caught.value) == (
        f"{path}: expected a row with text, got none; {path}, row group 0, row 0: expected 'text' "
        "to be a string, got null; mend or remove the record"
    )
    path = write("b.parquet", text=["x"][:0] or np.array([], dtype="U1"))
    with pytest.raises(DataError) as caught:
        ParquetDataset(path, ByteTokenizer(), 2)
    assert str(caught.value) == f"{path}: expected a row with text, got none; give files with rows"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"column": ""}, "column: expected a column's name, got ''"),
        ({"column": ["text"]}, "column: expected a column's name, got ['text']"),
        ({"bad_records": "drop"}, 'bad_records: expected "error" or "skip", got \'drop\''),
        ({"batch_rows": 0}, "batch_rows: expected an integer >= 1, got 0"),
        ({"batch_rows": True}, "batch_rows: expected an integer >= 1, got True"),
    ],
)
def test_options_out_of_bounds_are_refused(
    write: Write, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        ParquetDataset(write("a.parquet", text=["abc"]), ByteTokenizer(), 2, **options)
    assert str(caught.value) == f"dataset parquet: {message}"


# ------------------------------------------------------------------------------ whole runs


def config(folder: Path, run: str, data: dict[str, Any], **training: Any) -> RunConfig:
    return RunConfig.from_mapping(
        {
            "data": {"name": "parquet", "path": str(folder / "train.parquet"), **data},
            "tokenizer": {"name": "byte"},
            "model": {"n_layer": 1, "n_head": 2, "n_embd": 16, "seq_len": 32},
            "training": {
                "output_dir": str(folder / run),
                "max_steps": 8,
                "save_every": 3,
                "batch_size": 4,
                "learning_rate": 0.01,
                "validation_frequency": 0,
                **training,
            },
            "log": {"sinks": ["jsonl"]},
        }
    )


@pytest.mark.usefixtures("installed")
def test_the_plugin_is_found_by_its_entry_point() -> None:
    part = load_registry().part("dataset", "parquet")
    assert part.provider.distribution == "tisslm-parquet"
    assert part.load() is ParquetDataset


@pytest.mark.usefixtures("installed", "one_thread")
@pytest.mark.parametrize("packing", ["stream", "whole"])
@pytest.mark.parametrize("mask", [True, False])
def test_a_run_learns_and_goes_on_exactly(
    tmp_path: Path, write: Write, texts: list[str], packing: str, mask: bool
) -> None:
    write("train.parquet", text=texts)
    data = {"packing": packing, "document_mask": mask, "batch_rows": 7}
    whole: Trainer = build_trainer(config(tmp_path, "whole", data))
    assert isinstance(whole.dataset, ParquetDataset)
    assert (whole.dataset.window(0).start is not None) == mask
    whole.train()
    assert whole.loss_history[-1] < whole.loss_history[0]
    half = str(tmp_path / "whole" / "checkpoints" / "checkpoint-6")
    resumed = build_trainer(config(tmp_path, "resumed", data, resume=half))
    assert resumed.current_step == 6
    resumed.train()
    assert resumed.model.parameters.data.tobytes() == whole.model.parameters.data.tobytes()


@pytest.mark.filterwarnings("always:train.parquet")
@pytest.mark.usefixtures("installed", "one_thread")
def test_the_command_trains_and_validates(
    tmp_path: Path,
    write: Write,
    texts: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write("train.parquet", body=[*texts, None])
    write("valid.parquet", body=texts[:9])
    (tmp_path / "run.toml").write_text(
        """
        [data]
        name = "parquet"
        path = "train.parquet"
        valid_path = "valid.parquet"
        column = "body"
        bad_records = "skip"

        [tokenizer]
        name = "byte"

        [model]
        n_layer = 1
        n_head = 2
        n_embd = 16
        seq_len = 16

        [training]
        max_steps = 4
        batch_size = 2
        validation_frequency = 2
        output_dir = "run"
        """
    )
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as caught:
        main(["train", "run.toml"])
    said = capsys.readouterr()
    assert caught.value.code == 0, said.err
    assert "warning: train.parquet: 1 bad record left out, the first: train" in said.err
    assert '"eval/loss"' in (tmp_path / "run" / "metrics.jsonl").read_text()
