"""``tisslm doctor`` and ``tisslm plugins``: what is installed here, also where it is broken."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tisslm.registry.hookspecs import KINDS

if TYPE_CHECKING:
    from conftest import Cli

SECTIONS = ["versions", "processor", "threads", "kernels", "blas", "memory", "plugins"]


def facts(cli: Cli) -> dict[str, Any]:
    result = cli("doctor", "--json")
    assert (result.code, result.err) == (0, "")
    found: dict[str, Any] = json.loads(result.out)
    return found


def test_json_has_every_section(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TISSLM_NUM_THREADS", "1")
    found = facts(cli)
    assert list(found) == [*SECTIONS, "environment", "problems"]
    assert found["threads"] == {"count": 1, "reason": "TISSLM_NUM_THREADS=1"}
    assert found["environment"]["TISSLM_NUM_THREADS"] == "1"
    assert found["versions"]["python"].startswith("3.")
    assert found["memory"]["total_gib"] > 0
    assert sum(isinstance(n, int) for n in found["plugins"].values()) >= 1


def test_blas_is_limited_to_one_thread_while_training(cli: Cli) -> None:
    pools = facts(cli)["blas"]
    assert pools
    for pool in pools:
        assert pool["threads_while_training"] == 1
        assert pool["library"]
        assert pool["architecture"]


def test_people_get_the_same_facts(cli: Cli) -> None:
    found, text = facts(cli), cli("doctor").out
    words = [line.split() for line in text.splitlines()]
    assert [line for line in text.splitlines() if line[0] != " "][: len(SECTIONS)] == SECTIONS
    assert ["python", found["versions"]["python"]] in words
    assert text.endswith("no problems found\n") == (not found["problems"])
    assert text.count("problem: ") == len(found["problems"])


def test_a_wrong_tisslm_ops_is_a_problem(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TISSLM_OPS", "numpy")
    result = cli("doctor")
    assert "problem: TISSLM_OPS: expected 'reference' or nothing, got 'numpy'" in result.out


@pytest.mark.parametrize("shown", [(), ("--json",)])
def test_kernels_that_are_not_built_are_a_problem_not_an_error(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, shown: tuple[str, ...]
) -> None:
    monkeypatch.setitem(sys.modules, "tisslm._kernels.isa", None)
    result = cli("doctor", *shown)
    assert (result.code, result.err) == (0, "")
    assert "the compiled kernels are not built (" in result.out
    assert "run 'pip install .' in the source folder" in result.out


def test_kernels_say_what_they_use(cli: Cli) -> None:
    pytest.importorskip("tisslm._kernels.isa", reason="kernels are not built")
    kernels = facts(cli)["kernels"]
    assert kernels["built"] is True
    assert kernels["isa"] in kernels["isa_available"]
    assert kernels["openmp"] >= 201307


@pytest.mark.parametrize(
    ("pairs", "said"), [(True, "multiplied in pairs"), (False, "stored, widened to multiply")]
)
def test_kernels_say_how_bf16_is_multiplied(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, pairs: bool, said: str
) -> None:
    isa = pytest.importorskip("tisslm._kernels.isa", reason="kernels are not built")
    assert isa.multiplies_pairs() == isa.name().endswith("_bf16")
    monkeypatch.setattr(isa, "multiplies_pairs", lambda: pairs)
    assert facts(cli)["kernels"]["bf16"] == said
    assert said in cli("doctor").out


def test_a_wrong_variable_is_a_problem_not_an_error(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TISSLM_NUM_THREADS", "none")
    assert facts(cli)["problems"] == [
        "TISSLM_NUM_THREADS: expected a number of threads from 1 to 64, got 'none'"
    ]


def test_a_missing_library_is_a_problem(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tisslm.cli.doctor.machine.LIBRARIES", ("numpy", "no-such-library"))
    assert facts(cli)["problems"] == [
        "no-such-library is not installed; run 'pip install tisslm' again"
    ]


def test_a_kernel_without_openmp_is_a_problem(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    class Serial:
        @staticmethod
        def openmp_version() -> int:
            return 0

        @staticmethod
        def processors() -> int:
            return 1

    pytest.importorskip("tisslm._kernels.isa", reason="kernels are not built")
    monkeypatch.setitem(sys.modules, "tisslm._kernels.threads", Serial)
    (problem,) = facts(cli)["problems"]
    assert problem.startswith("the kernels were built without OpenMP and use one core; ")


def test_the_plugins_command_lists_every_kind(cli: Cli) -> None:
    result = cli("plugins", "--json")
    assert (result.code, result.err) == (0, "")
    assert {row["kind"] for row in json.loads(result.out)} >= set(KINDS)
