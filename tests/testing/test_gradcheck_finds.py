"""``tisslm gradcheck`` ends with 1 and names the culprit.

A wrong backward in each layer, in a model, and in the loss of an installed plugin.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from tisslm.cli.gradcheck import gradcheck
from tisslm.models.body.final_norm import FinalNorm
from tisslm.models.layers.attention import Attention
from tisslm.models.layers.dropout import Dropout
from tisslm.models.layers.embedding import Embedding
from tisslm.models.layers.linear import Linear
from tisslm.models.layers.mlp import MLP
from tisslm.models.layers.norm import LayerNorm
from tisslm.optim.losses.cross_entropy import CrossEntropy

ROOT = Path(__file__).parents[2]


def check(*arguments: str) -> tuple[int, list[dict]]:
    """Run the command; return its exit code and its rows."""
    app = typer.Typer()
    app.command()(gradcheck)
    result = CliRunner().invoke(app, [*arguments, "--json"])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, json.loads(result.stdout)


def scaled(position: int):
    """Return a wrong method: one that leaves a hundredth too much in an array it is given."""

    def wrap(right):
        def wrong(self, *arguments, **named):
            found = right(self, *arguments, **named)
            array = arguments[position]
            if array is not None:
                array *= 1.01
            return found

        return wrong

    return wrap


def forgotten(right):
    """Return a wrong method: one that does nothing."""
    return lambda self, *arguments, **named: None


def gradient_of_a_parameter(name: str):
    """Return a wrong method, after which one parameter's gradient is a hundredth too large."""

    def wrap(right):
        def wrong(self, *arguments, **named):
            found = right(self, *arguments, **named)
            getattr(self, name).weight.grad[...] *= 1.01
            return found

        return wrong

    return wrap


def tables(right):
    """Return a wrong backward of the embedding: positions count a hundredth too much."""

    def wrong(self, *arguments, **named):
        right(self, *arguments, **named)
        self.position.grad[...] *= 1.01

    return wrong


#: What is made wrong, and the component that a user would check.
WRONG = {
    "attention, the stream": (Attention, "backward", scaled(0), "attention"),
    "attention, qkv": (Attention, "backward", gradient_of_a_parameter("qkv"), "attention"),
    "mlp, the stream": (MLP, "backward", scaled(0), "mlp"),
    "mlp, up": (MLP, "backward", gradient_of_a_parameter("up"), "mlp"),
    "gated mlp, down": (MLP, "backward", gradient_of_a_parameter("down"), "mlp_swiglu"),
    "embedding, positions": (Embedding, "backward", tables, "embedding"),
    "linear, weights": (Linear, "backward_weight", forgotten, "mlp"),
    "norm": (LayerNorm, "backward", forgotten, "attention"),
    "dropout": (Dropout, "backward", forgotten, "attention_grouped"),
    "final norm, the stream": (FinalNorm, "backward", scaled(1), "cross_entropy"),
    "cross-entropy": (CrossEntropy, "tile", scaled(0), "cross_entropy"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_backward_is_found(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    cls, method, wrap, component = WRONG[name]
    monkeypatch.setattr(cls, method, wrap(getattr(cls, method)))
    code, rows = check("--component", component)
    assert code == 1
    failed = [row for row in rows if not row["passed"]]
    assert component in {row["name"] for row in failed}
    assert "float64 vs differences" in {row["what"] for row in failed}
    assert all(row["worst"] for row in failed)


def test_a_wrong_model_of_a_configuration_is_found(monkeypatch, tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    sizes = "n_layer = 1\nn_head = 1\nn_embd = 4\nseq_len = 6\nvocab_size = 7"
    path.write_text(f'[data]\npath = "nowhere.txt"\n[model]\n{sizes}\n')
    monkeypatch.setattr(MLP, "backward", gradient_of_a_parameter("down")(MLP.backward))
    code, rows = check("--model", str(path))
    assert code == 1
    assert rows[0]["worst"].startswith("d blocks.0.mlp.down.weight[")


# --------------------------------------------------------------------------- a plugin

PLUGIN = '''
import numpy as np
from tisslm import Entry, hookimpl
from tisslm.contracts import Loss

@hookimpl
def tisslm_losses():
    yield Entry("squared_margin", "squared_margin:SquaredMargin", "half the squared logits")

class SquaredMargin(Loss):
    """Half the squared distance of the target's logit from 1."""

    def tile(self, logits_NV, targets_N, weights_N, *, gradient=True):
        real_N = targets_N != -100
        rows, targets = np.arange(len(targets_N)), np.where(real_N, targets_N, 0)
        off_N = np.where(real_N, logits_NV[rows, targets] - 1, 0)
        if gradient:
            logits_NV[...] = 0
            logits_NV[rows, targets] = {factor} * weights_N * off_N
        return weights_N * off_N**2 / 2
'''


@pytest.mark.parametrize(("factor", "code"), [("1.0", 0), ("2.0", 1), ("-1.0", 1)])
def test_the_loss_of_an_installed_plugin_is_checked(tmp_path: Path, factor: str, code: int) -> None:
    """In a process of its own, in which the plugin is found as one that pip has installed."""
    (tmp_path / "squared_margin.py").write_text(PLUGIN.replace("{factor}", factor))
    info = tmp_path / "squared_margin-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: squared-margin\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[tisslm]\nsquared_margin = squared_margin\n")
    done = subprocess.run(
        [sys.executable, "-m", "tisslm", "gradcheck", "--component", "squared_margin"],
        env={**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}", "COLUMNS": "200"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (code, "")
    rows = [line.split()[:3] for line in done.stdout.splitlines()[1:5]]
    words = ["ok", "ok", "ok", "ok"] if code == 0 else ["FAIL", "ok", "FAIL", "ok"]
    assert [row[0] for row in rows] == words
    assert {row[2] for row in rows} == {"squared_margin"}
    assert ("d logits_NV[" in done.stdout) == (code == 1) or code == 0
