"""What is drawn: ends of axes, points, gaps, cells, ids and colours."""

from __future__ import annotations

import io
import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib import colormaps
from matplotlib.colors import to_rgb
from matplotlib.image import imread
from metric_lines import histogram

from tisslm.contracts.metric_values import Histogram
from tisslm.tracking.report.canvas import Box, Canvas, Size, drawing
from tisslm.tracking.report.catalogue import Chart, Grid, Line
from tisslm.tracking.report.curves import draw_chart, limits
from tisslm.tracking.report.figures import Figures
from tisslm.tracking.report.heatmaps import draw_grid, gather
from tisslm.tracking.report.histograms import History, draw_history, moved
from tisslm.tracking.report.series import Series
from tisslm.tracking.report.svg import inline
from tisslm.tracking.report.theme import LIGHT

SIZE = Size(380.0, 236.0)


def chart(*series: Series, log: bool = False, style: str = "solid") -> Chart:
    lines = tuple(Line(f"line {i}", s, i, style) for i, s in enumerate(series))
    return Chart("slug", "Title", "", lines, log=log)


def series(*values: float) -> Series:
    return Series.of(range(len(values)), values)


# --------------------------------------------------------------------------- lines


@given(st.lists(st.floats(-1e12, 1e12), min_size=1, max_size=40))
def test_the_axis_holds_all_of_few_values(values):
    low, high, hidden = limits(chart(series(*values)))
    assert low <= min(values) <= max(values) <= high
    assert low < high
    assert hidden == ""


def test_one_value_far_away_does_not_flatten_the_others_and_is_told():
    values = [1.0 + 0.01 * (i % 10) for i in range(300)]
    low, high, hidden = limits(chart(series(*values, 900.0)))
    assert high < 2.0
    assert low < 1.0
    assert hidden == "1 value lies beyond the figure, between 1 and 900."
    assert limits(chart(series(*values, 900.0), log=True))[1] > 900.0


def test_what_is_never_negative_has_no_room_below_zero():
    assert limits(chart(series(0.0, 1.0)))[0] == 0.0
    assert limits(chart(series(-1.0, 1.0)))[0] < -1.0


@pytest.mark.parametrize("values", [(2e-311, 1.0), (2e-311,), (1e308, 1e-308), (1e308,)])
def test_the_smallest_and_largest_numbers_have_logarithmic_axes(values):
    low, high, _ = limits(chart(series(*values), log=True))
    assert 0.0 < low < high < math.inf
    with drawing():
        draw_chart(chart(series(*values), log=True), SIZE).canvas.as_svg("x")


@settings(max_examples=15)
@given(
    st.lists(
        st.floats(-1e30, 1e30) | st.sampled_from([math.nan, math.inf, -math.inf, 0.0]),
        min_size=1,
        max_size=30,
    ),
    st.booleans(),
)
def test_any_values_can_be_drawn(values, log):
    with drawing():
        text = draw_chart(chart(series(*values), log=log), SIZE).canvas.as_svg("x")
    assert text.count("<svg") == 1


def path_of_line(svg: str, color: str) -> str:
    return re.search(rf'<path d="([^"]*)"[^>]*style="[^"]*stroke: {color}', svg)[1]


def test_a_value_that_is_not_finite_is_a_gap_and_is_marked():
    with drawing():
        whole = draw_chart(chart(series(1, 2, 3, 4, 5)), SIZE).canvas.as_svg("x")
        gap = draw_chart(chart(series(1, 2, math.nan, 4, 5)), SIZE).canvas.as_svg("x")
    color = LIGHT["c0"]
    assert path_of_line(whole, color).count("M") == 1
    assert path_of_line(gap, color).count("M") == 2
    assert LIGHT["c4"] not in whole
    assert LIGHT["c4"] in gap
    figures = Figures()
    with drawing():
        text = figures.chart(chart(series(1, math.nan, math.inf)))
    assert "Not finite at 2 steps (x): 1, 2." in text
    assert figures.data["slug"]["lines"][0]["y"][0] == 1.0


def test_a_line_goes_through_its_points():
    with drawing():
        drawn = draw_chart(chart(series(0.0, 1.0)), SIZE)
        svg = drawn.canvas.as_svg("x")
    points = np.array(re.findall(r"[ML] ([\d.]+) ([\d.]+)", path_of_line(svg, LIGHT["c0"])), float)
    first, last = drawn.x
    left, right = drawn.box.left * SIZE.width, drawn.box.right * SIZE.width
    x = left + (np.array([0.0, 1.0]) - first) / (last - first) * (right - left)
    np.testing.assert_allclose(points[:, 0], x, atol=0.01)  # hundredths of a pixel
    bottom = drawn.box.bottom * SIZE.height
    assert points[0, 1] == pytest.approx(bottom, abs=0.01)
    assert points[1, 1] < points[0, 1]


def test_names_are_no_formulas_and_our_settings_do_not_stay():
    import matplotlib

    before = dict(matplotlib.rcParams)
    lines = tuple(
        Line(name, series(1, 2), i) for i, name in enumerate(("$a_{", "_b", "日本 & <c>"))
    )
    with drawing():
        svg = draw_chart(Chart("s", "t", "", lines), SIZE, "$\\title$").canvas.as_svg("x")
    for text in ("$a_{", "_b", "日本 &amp; &lt;c&gt;", "$\\title$"):
        assert f">{text}</text>" in svg
    assert dict(matplotlib.rcParams) == before


def test_the_same_drawing_has_the_same_bytes():
    with drawing():
        first, second = (draw_chart(chart(series(1, 2)), SIZE).canvas.as_svg("x") for _ in "ab")
    assert first == second


# --------------------------------------------------------------------------- heat maps


def test_rows_with_other_steps_share_one_matrix():
    found = gather([Series.of([1, 3], [1.0, math.inf]), Series.of([2], [5.0])])
    assert found.steps.tolist() == [1, 2, 3]
    np.testing.assert_array_equal(found.values, [[1, np.nan, np.nan], [np.nan, 5, np.nan]])


def test_many_looks_are_averaged_in_columns():
    steps = np.arange(1000.0)
    found = gather([Series(steps, steps), Series(steps, np.full(1000, np.nan))])
    assert found.looks == 1000
    assert found.values.shape == (2, 240)
    assert found.steps[-1] == 999
    np.testing.assert_allclose(found.values[0], np.convolve(steps, [1])[found.steps.astype(int)],
                               atol=3)  # fmt: skip
    assert np.isnan(found.values[1]).all()
    wide = gather([Series(steps, steps)] * 1000)
    assert wide.values.shape == (1000, 24)


@pytest.mark.parametrize("scale", ["log", "share", "linear", "signed"])
@pytest.mark.parametrize("values", [(0.0,), (math.nan,), (1.0, 1.0), (-1.0, 2.0, 1e-20, 1e20)])
def test_any_heat_map_can_be_drawn(scale, values):
    figures, rows = Figures(), ("a", "blocks.0." + "x" * 80)
    with drawing():
        text = figures.grid(Grid("g", "Heat", "", rows, (series(*values),) * 2, scale))
    assert text.count("<image") == 4  # cells and colour bar, for a phone and a desk
    assert figures.data["g"]["rows"] == rows
    assert len(figures.data["g"]["values"][0]) == len(values)


def picture(canvas: Canvas) -> np.ndarray:
    """Return a drawing as red, green and blue in rows from the top."""
    return imread(io.BytesIO(canvas.as_png()), format="png")[:, :, :3]


def colour_at(image: np.ndarray, box: Box, across: float, down: float) -> np.ndarray:
    """Return the colour at a place of the axes, in shares from the upper left."""
    y = box.top + down * (box.bottom - box.top)
    x = box.left + across * (box.right - box.left)
    return image[int(y * image.shape[0]), int(x * image.shape[1])]


def test_cells_have_the_colours_of_their_values_first_row_on_top():
    rows = (series(0.0, 0.5), series(1.0, math.nan))
    grid = Grid("g", "Heat", "", ("first", "second"), rows, "share")
    with drawing():
        drawn = draw_grid(grid, gather(rows), 380.0)
        image = picture(drawn.canvas)
    cells = {(0.2, 0.2): 0.0, (0.8, 0.2): 0.5, (0.2, 0.8): 1.0}
    for (across, down), value in cells.items():
        expected = colormaps["viridis"](value)[:3]
        # colours of a PNG are 256ths
        np.testing.assert_allclose(colour_at(image, drawn.box, across, down), expected, atol=0.01)
    gap = colour_at(image, drawn.box, 0.8, 0.8)
    np.testing.assert_allclose(gap, to_rgb(LIGHT["rule"]), atol=0.01)
    with drawing():
        svg = drawn.canvas.as_svg("x")
    heights = [float(re.search(rf'y="([\d.]+)"[^>]*>{row}</text>', svg)[1]) for row in grid.rows]
    assert heights[0] < heights[1]


def test_histograms_through_time_have_values_up_and_steps_across():
    low, high = (Histogram(np.array(c), np.linspace(0.0, 4.0, 5), 0.0, 0.0)
                 for c in ([9, 0, 0, 0], [0, 0, 0, 9]))  # fmt: skip
    with drawing():
        canvas = draw_history(History("w", [(1, low), (2, high)]))
        image = picture(canvas)
        axes = canvas.figure.axes[1].get_position()
    box = Box(axes.x0, 1 - axes.y1, axes.x1, 1 - axes.y0)
    bright, dark = (np.array(colormaps["viridis"](v)[:3]) for v in (1.0, 0.0))
    for across, down, expected in ((0.2, 0.9, bright), (0.2, 0.1, dark), (0.8, 0.1, bright)):
        np.testing.assert_allclose(colour_at(image, box, across, down), expected, atol=0.01)


def test_a_heat_map_of_many_rows_stays_a_page_high():
    rows = tuple(f"blocks.{i}.mlp" for i in range(700))
    figures = Figures()
    with drawing():
        text = figures.grid(Grid("g", "Heat", "", rows, (series(1.0, 2.0),) * 700, "log"))
    heights = [float(x) for x in re.findall(r'viewBox="0 0 [\d.]+ ([\d.]+)"', text)]
    assert max(heights) <= 960


# --------------------------------------------------------------------------- histograms


def counted(values) -> Histogram:
    return Histogram.of(np.asarray(values, float), 32)


def test_how_far_a_distribution_went():
    values = np.random.default_rng(0).normal(size=20_000)
    looks = [(1, counted(values)), (2, counted(values + 2.0))]
    # moved by two spreads; bins are as wide as a quarter of one
    assert moved(looks) == pytest.approx(2.0, abs=0.02)
    assert moved(looks[:1]) == 0.0
    assert moved([looks[0], (2, counted(values * 1.5))]) == pytest.approx(0.4, abs=0.02)


@pytest.mark.parametrize(
    "counts_edges", [([4], [0, 1]), ([0, 0], [0, 1, 2]), ([1, 2, 3], [0, 0, 1, 1])]
)
def test_any_histogram_can_be_drawn(counts_edges):
    counts, edges = (np.array(x) for x in counts_edges)
    found = Histogram(counts, edges.astype(float), math.nan, math.inf)
    assert moved([(1, found), (2, found)]) == 0.0
    with drawing():
        svg = draw_history(History("w", [(1, found), (5, found)])).as_svg("x")
    assert svg.count("<image") == 1
    assert "nan" not in svg.lower().replace("dominant", "")


# --------------------------------------------------------------------------- parts of a page


def test_ids_are_the_figures_own_and_all_references_hold():
    with drawing():
        document = draw_chart(chart(series(1, 2, 3), style="points"), SIZE).canvas.as_svg("x")
    found = inline(document, "mine", 'a "label"')
    ids = re.findall(r' id="([^"]*)"', found)
    used = set(re.findall(r'(?:url\(#|href="#)([^)"]+)', found))
    assert len(ids) == len(set(ids))
    assert set(ids) == used
    assert all(name.startswith("mine-") for name in ids)
    assert 'aria-label="a &quot;label&quot;"' in found


def test_pictures_keep_their_size():
    with drawing():
        grid = Grid("g", "Heat", "", ("a",) * 7, (series(*range(13)),) * 7, "linear")
        document = draw_grid(grid, gather(grid.series), 380.0).canvas.as_svg("x")
    matrix = r'<image[^>]*transform="(matrix[^"]*)"'
    assert re.findall(matrix, inline(document, "mine", "label")) == re.findall(matrix, document)
    assert re.search(matrix, document)


def test_colours_have_names_and_fonts_are_the_pages():
    with drawing():
        document = draw_chart(chart(series(1, 2, 3)), SIZE).canvas.as_svg("x")
    found = inline(document, "mine", "label")
    assert "stroke: var(--c0)" in found
    assert not re.search("#[0-9a-f]{6}", found)
    assert "font-family" not in found
    assert "<metadata" not in found
    assert "\n" not in found


def test_a_long_legend_takes_rows():
    lines = tuple(Line("a run with a long name " * 2, series(1, 2), i) for i in range(6))
    with drawing():
        one = draw_chart(chart(series(1, 2)), SIZE).box.top
        many = draw_chart(Chart("s", "t", "", lines), Size(380.0, 400.0)).box.top
        canvas = Canvas(Size(100, 100), "title")
        _, box = canvas.axes()
    assert many * 400 > one * 236 + 5 * 15
    assert box.top * 100 > 20


def test_histograms_of_lines_are_those_of_values():
    values = np.random.default_rng(1).normal(size=100)
    assert histogram(values, 64)["counts"] == Histogram.of(values).counts.tolist()
