"""The picture of a range test."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tisslm.errors import ConfigError
from tisslm.workflows.lr_range import Curve, Rates, check_plot, write_plot

RATES = tuple(Rates(1e-5, 1.0, 30))
CURVE = Curve(RATES, tuple(4.0 - 0.1 * i for i in range(30)), 30, 4.0)


def test_an_svg_has_both_curves_and_both_marks_as_text(tmp_path):
    pytest.importorskip("matplotlib")
    path = tmp_path / "lr.svg"
    before = "matplotlib.pyplot" in sys.modules
    write_plot(CURVE, path, title="Of a run")
    text = path.read_text()
    words = {element.text for element in ElementTree.fromstring(text).iter() if element.text}
    assert {"Of a run", "learning rate", "loss", "smoothed"} <= words
    assert f"falls fastest: {CURVE.suggestion:.2g}" in words
    assert "least: 1" in words
    write_plot(CURVE, tmp_path / "again.svg", title="Of a run")
    assert (tmp_path / "again.svg").read_text() == text
    assert ("matplotlib.pyplot" in sys.modules) == before


def test_a_png_is_one(tmp_path):
    pytest.importorskip("matplotlib")
    write_plot(CURVE, tmp_path / "lr.PNG")
    assert (tmp_path / "lr.PNG").read_bytes().startswith(b"\x89PNG")


def test_a_curve_without_suggestions_is_drawn(tmp_path):
    pytest.importorskip("matplotlib")
    write_plot(Curve((), (), 30, 4.0), tmp_path / "lr.svg")
    assert "falls fastest" not in (tmp_path / "lr.svg").read_text()


def test_what_cannot_be_written_is_refused(tmp_path, monkeypatch):
    with pytest.raises(ConfigError) as caught:
        check_plot(Path("lr.gif"))
    assert str(caught.value) == "plot: expected a file that ends in .svg or .png, got 'lr.gif'"
    with pytest.raises(ConfigError) as caught:
        check_plot(tmp_path / "nowhere" / "lr.svg")
    assert str(caught.value) == (
        f"plot: the folder '{tmp_path / 'nowhere'}' is not there; make it first"
    )
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ConfigError) as caught:
        check_plot(tmp_path / "lr.svg")
    assert str(caught.value) == (
        "plot: drawing needs the package matplotlib; install it with pip install tisslm[report]"
    )


@pytest.mark.parametrize("name", ["lr.svg", "lr.png"])
def test_a_disk_that_refuses_the_picture_leaves_the_old_one(tmp_path, monkeypatch, name):
    pytest.importorskip("matplotlib")
    (tmp_path / name).write_bytes(b"before")

    def no_space(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(OSError, match="No space"):
        write_plot(CURVE, tmp_path / name)
    assert (tmp_path / name).read_bytes() == b"before"
    assert os.listdir(tmp_path) == [name]
