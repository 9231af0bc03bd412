"""From run directories to files: the page, and figures of their own."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from tisslm.errors import ConfigError, DataError
from tisslm.system.durable import replacing
from tisslm.tracking.report.reading import Run, read_run

__all__ = ["FORMATS", "MOST_RUNS", "Written", "write_report"]

FORMATS = ("svg", "png")
MOST_RUNS = 16
FOLDER = "plots"

#: Bytes at the beginning of a figure that have the name of its maker.
_HEAD = 4096


class Written:
    """What a report left behind.

    Attributes
    ----------
    page : Path
    figures : list of Path
    problems : list of str
        Sentences about damaged files of the runs.
    """

    def __init__(self, page: Path, figures: list[Path], problems: list[str]) -> None:
        self.page, self.figures, self.problems = page, figures, problems


def write_report(
    paths: Sequence[str | os.PathLike[str]],
    output: str | os.PathLike[str] | None = None,
    formats: Sequence[str] = (),
) -> Written:
    """Write the report of a run, or the comparison of several, as one file of HTML.

    Parameters
    ----------
    paths : sequence of path
        Run directories: from one to sixteen.
    output : path, optional
        Left out: ``report.html`` in the run directory, or ``comparison.html`` here.
    formats : sequence of str
        "svg" and "png": each figure as a file of its own, in ``plots`` beside the page.

    Returns
    -------
    Written

    Raises
    ------
    ConfigError
        If matplotlib is not installed, there are too many runs, a format is unknown, or the page
        would replace a file that is no report.
    DataError
        If a run cannot be read, or a file not be written.
    """
    runs = _read(paths)
    _check_formats(formats)
    page = Path(output) if output is not None else _default_page(runs)
    _check_page(page)
    _require_matplotlib()
    from tisslm.tracking.report.canvas import drawing
    from tisslm.tracking.report.page import comparison_page, run_page

    with drawing():
        text = run_page(runs[0]) if len(runs) == 1 else comparison_page(runs)
        _write(page, text.encode("utf-8", "replace"))
        figures = [
            _write_figure(page.parent / FOLDER / name, content)
            for name, content in _figure_files(runs, formats)
        ]
    return Written(page, figures, [s for run in runs for s in run.problems.sentences])


def _read(paths: Sequence[str | os.PathLike[str]]) -> list[Run]:
    folders = [Path(path) for path in paths]
    if not 1 <= len(folders) <= MOST_RUNS:
        raise ConfigError(f"report: expected 1 to {MOST_RUNS} runs, got {len(folders)}; name fewer")
    names = [folder.resolve().name for folder in folders]
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise ConfigError("report: expected different runs, got one twice; name each once")
    labels = names if len(set(names)) == len(names) else [str(folder) for folder in folders]
    return [read_run(folder, label) for folder, label in zip(folders, labels, strict=True)]


def _check_formats(formats: Sequence[str]) -> None:
    for name in formats:
        if name not in FORMATS:
            raise ConfigError(f"--figures: expected {' or '.join(FORMATS)}, got {name!r}")


def _default_page(runs: Sequence[Run]) -> Path:
    return runs[0].path / "report.html" if len(runs) == 1 else Path("comparison.html")


def _check_page(page: Path) -> None:
    """Refuse to replace what is no report."""
    from tisslm.tracking.report.page import MARK

    if page.is_dir():
        raise ConfigError(f"{page}: expected the name of a file to write, got a directory")
    try:
        with page.open("rb") as file:
            known = file.read(len(MARK)) == MARK.encode()
    except FileNotFoundError:
        return
    except OSError as error:
        raise ConfigError(f"{page}: cannot be written ({error.strerror}); name another") from None
    if not known:
        raise ConfigError(
            f"{page}: this file is no report of TissLM and is left as it is; name another by "
            "--output, or move it away"
        )


def _require_matplotlib() -> None:
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            f"report: drawing needs the package matplotlib ({error}); "
            "run 'pip install tisslm[report]'"
        ) from None


def _figure_files(runs: Sequence[Run], formats: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    """Yield names and contents of figures in files of their own."""
    from tisslm.tracking.report import catalogue
    from tisslm.tracking.report.canvas import Canvas, Size
    from tisslm.tracking.report.curves import draw_chart
    from tisslm.tracking.report.heatmaps import draw_grid, gather
    from tisslm.tracking.report.histograms import draw_history
    from tisslm.tracking.report.page import histories_of

    def canvases() -> Iterator[tuple[str, Canvas]]:
        single = len(runs) == 1
        charts = catalogue.curves(runs[0]) if single else catalogue.comparison(runs)
        others = catalogue.others(runs[0])[0] if single else []
        for chart in [*charts, *others]:
            yield chart.slug, draw_chart(chart, Size(640.0, 400.0), chart.title).canvas
        for grid in catalogue.grids(runs[0]) if single else []:
            yield grid.slug, draw_grid(grid, gather(grid.series), 760.0, grid.title).canvas
        for i, history in enumerate(histories_of(runs[0]) if single else []):
            yield f"histogram-{i}", draw_history(history, history.name)

    if not formats:
        return
    for slug, canvas in canvases():
        for name in dict.fromkeys(formats):
            content = canvas.as_png() if name == "png" else canvas.as_svg(slug).encode()
            yield f"{slug}.{name}", content


def _write_figure(path: Path, content: bytes) -> Path:
    """Replace a figure of an earlier report, and nothing else."""
    from tisslm.tracking.report.canvas import MAKER

    with contextlib.suppress(OSError):  # there is none, or writing says what is wrong
        with path.open("rb") as file:
            known = MAKER.encode() in file.read(_HEAD)
        if not known:
            raise ConfigError(
                f"{path}: this file is no figure of TissLM and is left as it is; name another "
                "place by --output, or move it away"
            )
    return _write(path, content)


def _write(path: Path, content: bytes) -> Path:
    """Replace a file whole, or not at all."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as file:
            file.write(content)
    except OSError as error:
        raise DataError(
            f"{path}: the report cannot be written ({error.strerror}); make room on that disk, or "
            "name another place by --output"
        ) from None
    return path
