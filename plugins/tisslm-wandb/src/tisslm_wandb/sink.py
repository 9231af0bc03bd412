"""The sink ``wandb``: a Weights & Biases run, written to files unless it is set to be online.

The process that W&B starts is handled in ``service``.

References
----------
https://docs.wandb.ai/guides/track
"""

from __future__ import annotations

import html
import json
import secrets
import string
import sys
from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from pathlib import Path
from typing import Any, Literal, final

from tisslm.contracts import Histogram, RunInfo, Sink, Text
from tisslm.contracts.sink_files import read_record, write_record
from tisslm.errors import ConfigError, DataError
from tisslm_wandb.service import Service

__all__ = ["WandbSink"]

#: The metric on the horizontal axis of all others.
STEP = "global_step"

#: Characters of a run id, the file that stores it in the run directory, and the most bytes of it.
ALPHABET = string.ascii_lowercase + string.digits
ID_FILE = "wandb-id.json"

#: Seconds of an offline run that a crash may lose.
FLUSH_SECONDS = 1.0

_service = Service()


@final
class WandbSink(Sink):
    """Write numbers, histograms and texts to a run of Weights & Biases.

    Offline, nothing leaves the machine: the run is a file in ``wandb`` of the run directory, which
    ``wandb sync`` uploads when you say so. Online, wandb uploads while the run goes on, with the
    account of ``wandb login`` or ``WANDB_API_KEY``.

    The horizontal axis is ``global_step``, the number of updates. A resumed run goes on with the
    same run id. W&B cannot delete values, so steps that were made again have two, of which the
    later one counts.

    Parameters
    ----------
    project : str, default "tisslm"
    mode : {"offline", "online"}, default "offline"
    entity : str, optional
        The team or user to which the run belongs.
    group : str, optional
        The group under which runs are shown together.
    tags : sequence of str, optional
    """

    accepts = frozenset({float, Histogram, Text})

    def __init__(
        self,
        *,
        project: str = "tisslm",
        mode: Literal["offline", "online"] = "offline",
        entity: str | None = None,
        group: str | None = None,
        tags: Sequence[str] = (),
    ) -> None:
        if mode not in ("offline", "online"):
            raise ConfigError(f'sink wandb: mode: expected "offline" or "online", got {mode!r}')
        names = {"project": project, "entity": entity, "group": group}
        for option, value in names.items():
            if value is None and option != "project":
                continue
            if not isinstance(value, str) or not value.strip():
                raise ConfigError(
                    f"sink wandb: {option}: expected a name that is not empty, got {value!r}"
                )
        if not isinstance(tags, list | tuple) or not all(isinstance(t, str) and t for t in tags):
            raise ConfigError(f"sink wandb: tags: expected a list of texts, got {tags!r}")
        self._names, self._mode, self._tags = names, mode, tuple(tags)
        self._run: Any = None
        self._outer: BaseException | None = None

    def open(self, run: RunInfo) -> None:
        """Begin a W&B run, with the id of the earlier session if the run is resumed.

        Raises
        ------
        ConfigError
            If W&B cannot begin a run.
        """
        self.close()
        self._outer = sys.exc_info()[1]
        run_id = _run_id(run)
        wandb = _service.load()
        try:
            self._run = wandb.init(
                id=run_id,
                name=run.name,
                dir=str(run.directory),
                config=json.loads(json.dumps(dict(run.config), default=str)),
                tags=self._tags or None,
                resume="allow" if self._mode == "online" else None,
                reinit="create_new",
                settings=_settings(wandb, self._mode, str(run.directory)),
                **self._names,
            )
        except Exception as error:  # whatever wandb, the network and the server have to say
            _service.leave()
            raise ConfigError(
                f"sink wandb: no run could be begun ({type(error).__name__}: "
                f"{_first_line(error)}); run `wandb login` or set WANDB_API_KEY, set "
                'log.wandb.mode to "offline", or leave the sink out of log.sinks'
            ) from error
        self._run.define_metric(STEP, hidden=True)
        self._run.define_metric("*", step_metric=STEP)

    def write(self, step: int, metrics: Mapping[str, object]) -> None:
        """Pass the metrics of one step to wandb, which writes them in the background.

        Raises
        ------
        DataError
            If the sink does not accept the type of a metric.
        """
        if self._run is None:
            raise DataError("sink wandb: it is not open; call open first")
        if STEP in metrics:
            raise DataError(f"sink wandb: {STEP!r} is the axis of every metric; rename the metric")
        values = {name: _value(name, value) for name, value in metrics.items()}
        self._run.log({STEP: int(step), **values})

    def close(self) -> None:
        """End the W&B run, as failed if an exception is being raised, and wait until it is written.

        Online, wandb first uploads what is left.
        """
        run, self._run = self._run, None
        if run is None:
            return
        error = sys.exc_info()[1]
        try:
            run.finish(exit_code=int(error is not None and error is not self._outer))
        finally:
            _service.leave()


def _settings(wandb: Any, mode: str, directory: str) -> Any:
    """Return settings with which wandb observes nothing, and writes at once and only here."""
    quiet: dict[str, Any] = {
        "console": "off",
        "silent": True,
        "save_code": False,
        "disable_code": True,
        "disable_git": True,
        "disable_job_creation": True,
        "x_disable_stats": True,
        "x_disable_meta": True,
        "x_disable_machine_info": True,
        "x_save_requirements": False,
        "x_transaction_log_flush_interval": FLUSH_SECONDS,
    }
    # Those that begin with x_ come and go with wandb's versions.
    known = {name: value for name, value in quiet.items() if name in wandb.Settings.model_fields}
    return wandb.Settings(mode=mode, root_dir=directory, **known)


def _value(name: str, value: object) -> object:
    """Return a metric in the type that wandb takes."""
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return float(value)
    if isinstance(value, Histogram):
        import wandb

        return wandb.Histogram(np_histogram=(value.counts, value.edges))
    if isinstance(value, Text):
        import wandb

        text = value.text.encode(errors="backslashreplace").decode()
        style = "white-space: pre-wrap; overflow-wrap: anywhere"
        return wandb.Html(f'<pre style="{style}">{html.escape(text)}</pre>', inject=False)
    raise DataError(
        f"sink wandb: metric {name!r}: expected a real number, a Histogram or a Text, got "
        f"{type(value).__name__}; convert it where the metric is made"
    )


def _run_id(run: RunInfo) -> str:
    """Return the run id of earlier sessions, or a new one, which is stored in a file."""
    path = run.directory / ID_FILE
    known = _read_id(path) if run.goes_on else None
    if known is not None:
        return known
    new = "".join(secrets.choice(ALPHABET) for _ in range(8))
    write_record("wandb", path, {"id": new})
    return new


def _read_id(path: Path) -> str | None:
    """Return the run id in a file, None if there is no file.

    Raises
    ------
    ConfigError
        If the file exists and has no id.
    """
    record = read_record("wandb", path, ("id",))
    if record is None:
        return None
    found = str(record["id"])
    if not set(found) <= set(ALPHABET):
        raise ConfigError(
            f"sink wandb: {path} does not hold the id of a W&B run; delete it to begin a new one"
        )
    return found


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [""])[0]
