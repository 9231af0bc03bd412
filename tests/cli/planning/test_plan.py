"""``tisslm plan``: the table, the JSON, and what it does not do."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tisslm.training.memory_plan.items import FAMILIES

if TYPE_CHECKING:
    from conftest import Cli, Files


#: A model that trains in milliseconds, as in conftest.
TINY = (
    "model.n_layer=1",
    "model.n_head=2",
    "model.n_embd=16",
    "model.seq_len=16",
    "training.batch_size=4",
    "training.max_steps=6",
)


def plan(cli: Cli, *settings: str, more: tuple[str, ...] = ()) -> Any:
    flags = [x for s in ("data.path=text.txt", *TINY, *settings) for x in ("--set", s)]
    return cli("plan", *flags, *more)


def facts(cli: Cli, *settings: str, more: tuple[str, ...] = ()) -> dict[str, Any]:
    result = plan(cli, *settings, more=("--json", *more))
    assert (result.code, result.err) == (0, "")
    found: dict[str, Any] = json.loads(result.out)
    return found


def test_json_has_memory_operations_and_speed(cli: Cli) -> None:
    found = facts(cli)
    memory = found["memory"]
    assert list(memory["by_family"]) == list(FAMILIES)
    assert sum(memory["by_family"].values()) == memory["total_bytes"]
    assert memory["fits"] is True
    assert memory["imports_bytes"] > 2**20
    block = ("blocks.0.attention", "blocks.0.mlp")
    assert list(memory["by_layer"]) == ["embedding", *block, "final_norm"]
    assert (found["steps"], found["tokens_per_step"]) == (6, 64)
    multiplied = found["parameters"] - 16 * 16  # positions are looked up
    assert found["flops_per_token"] == 6 * multiplied + 6 * 16 * 16
    speed = found["speed"]
    assert speed["tokens_per_second"] > 0
    assert speed["run_seconds"] == pytest.approx(6 * speed["step_seconds"])
    assert speed["threads"] == 1


def test_it_says_what_other_settings_would_change(cli: Cli) -> None:
    found = facts(cli, "training.batch_size=8", more=("--no-measure",))
    assert "speed" not in found
    total, instead = found["memory"]["total_bytes"], found["instead"]
    assert instead["training.batch_size=4"] < total < instead["training.batch_size=16"]
    assert (
        instead["training.batch_size=4"]
        == facts(cli, more=("--no-measure",))["memory"]["total_bytes"]
    )


def test_people_get_the_same_figures(cli: Cli, files: Files) -> None:
    before = files()
    found, result = (
        facts(cli, "model.n_layer=3", more=("--no-measure",)),
        plan(cli, "model.n_layer=3"),
    )
    assert (result.code, result.err) == (0, "")
    assert f"{found['memory']['total_bytes']:,} B" in result.out
    rows = [line.split("  ") for line in result.out.splitlines()]
    sizes = {row[1]: int(row[-1].replace(",", "")[:-2]) for row in rows if row[-1].endswith(" B")}
    names = ("total", "interpreter, libraries", "of the process")
    total, imports, process = (sizes[name] for name in names)
    assert total + imports == process
    assert "blocks.0.attention ... (3 alike, each)" in result.out
    block = ("model.parallel_residual=true", "model.n_layer=2")
    side_by_side = plan(cli, *block, more=("--no-measure",)).out
    assert "blocks.0 ... (2 alike, each)" in side_by_side
    assert "training.batch_size=2 " in result.out
    assert "tokens/s" in result.out
    assert files() == before  # no run directory


def test_accumulation_takes_larger_batches_of_ids_only(cli: Cli) -> None:
    one = facts(cli, more=("--no-measure",))
    two = facts(cli, "training.gradient_accumulation_steps=2", more=("--no-measure",))
    assert two["tokens_per_step"] == 2 * one["tokens_per_step"]
    changed = {
        name
        for name, nbytes in two["memory"]["by_family"].items()
        if nbytes != one["memory"]["by_family"][name]
    }
    assert changed == {"batches"}


def test_rows_of_all_micro_batches_are_planned_however_they_are_set(cli: Cli) -> None:
    size, plain = "training.batch_size=2", ("--no-measure",)
    by_rows = facts(cli, size, "training.global_batch_size=12", more=plain)
    by_steps = facts(cli, size, "training.gradient_accumulation_steps=6", more=plain)
    assert by_rows["tokens_per_step"] == by_steps["tokens_per_step"]
    assert by_rows["memory"]["by_family"] == by_steps["memory"]["by_family"]


def test_no_model_is_made_where_none_fits(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a model was made")

    monkeypatch.setattr("tisslm.models.body.body.initialize", refuse)
    huge = ("model.n_embd=65536", "model.n_layer=100")
    result = plan(cli, *huge)
    assert (result.code, result.err) == (0, "")
    assert "does not fit: " in result.out
    assert "not measured: two blocks of this width do not fit the memory" in result.out
    flags = [x for s in ("data.path=text.txt", *TINY, *huge) for x in ("--set", s)]
    trained = cli("train", *flags)
    assert trained.code == 3
    assert trained.err.startswith("error: training.memory_limit: the run needs ")


def test_a_wrong_setting_is_the_error_of_train(cli: Cli) -> None:
    result = plan(cli, "model.n_head=3")
    assert result.code == 3
    assert "n_embd: expected a multiple of n_head = 3, got 16" in result.err


def test_several_ranks_share_the_state_and_say_what_they_send(cli: Cli) -> None:
    def ranks(*more: str) -> dict[str, Any]:
        return facts(cli, "model.n_embd=128", more=("--no-measure", *more))

    one, three = ranks(), ranks("--ranks", "3")
    assert "ranks" not in one
    same = ranks("--ranks", "1")
    assert same.keys() == one.keys()
    assert same["memory"]["by_family"] == one["memory"]["by_family"]
    assert three["tokens_per_step"] == 3 * one["tokens_per_step"]
    found = three["ranks"]
    assert (found["ranks"], found["rows_per_step"], found["rows_of_rank"]) == (3, 12, 4)
    memory = three["memory"]["by_family"]
    shard = 4 * found["parameters_updated"]
    assert memory["optimizer state"] == pytest.approx(2 * shard, rel=0.01)
    assert memory["shard copies"] == pytest.approx(2 * shard, rel=0.01)
    everything = 4 * three["parameters"]
    for what in ("gradient", "weight"):
        for way in ("sent", "received"):
            assert found[f"{what}_bytes_{way}"] == pytest.approx(everything * 2 / 3, rel=0.2)


def test_people_are_told_of_ranks(cli: Cli) -> None:
    result = plan(cli, more=("--ranks", "2"))
    assert (result.code, result.err) == (0, "")
    assert "each of 2 ranks       4 of 8 rows a step in micro-batches: 1; updates" in result.out
    assert "on the wire, a step   gradients: " in result.out
    assert "if nothing had to be sent" in result.out
    assert "shard copies" in result.out


def test_too_few_rows_for_ranks_are_the_error_of_train(cli: Cli) -> None:
    result = plan(cli, "training.global_batch_size=8", more=("--ranks", "3"))
    assert result.code == 3
    assert "a micro-batch of batch_size = 4 rows for each of 3 ranks, got 8" in result.err
