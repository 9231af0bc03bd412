"""The sink ``mlflow``: a run on an MLflow server, or in a file store in the run directory.

Names are adapted in ``names``; a resumed run finds its MLflow run by ``run_file``.

References
----------
MLflow tracking, https://mlflow.org/docs/latest/ml/tracking
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from numbers import Real
from typing import TYPE_CHECKING, Any, final

from tisslm.contracts import Histogram, RunInfo, Sink, Text
from tisslm.errors import ConfigError, DataError
from tisslm_mlflow import run_file
from tisslm_mlflow.names import key, settings

if TYPE_CHECKING:
    from mlflow import MlflowClient

__all__ = ["MlflowSink"]

#: The most metrics that a server accepts in one request.
MOST_METRICS, MOST_SETTINGS = 1000, 100


@final
class MlflowSink(Sink):
    """Write numbers as metrics of an MLflow run, and the settings as its parameters.

    MLflow has no histograms and no texts with a step, so these are artifacts: one file of all
    histograms a step, ``histograms/step-00000100.json``, in the form of ``metrics.jsonl``, and
    ``sample/1/step-00000100.txt``. Every call waits for the server; MLflow's own settings
    (``MLFLOW_HTTP_REQUEST_TIMEOUT``, ``MLFLOW_HTTP_REQUEST_MAX_RETRIES``) say how long.

    A resumed run continues the MLflow run that ``mlflow.json`` in its directory names. MLflow
    cannot delete values, so steps that were made again have two, of which the later one counts.

    Parameters
    ----------
    tracking_uri : str, optional
        A server (``http://127.0.0.1:5000``), or another store that MLflow knows. Left out, the
        environment variable ``MLFLOW_TRACKING_URI``, and without that files in ``mlruns`` of the
        run directory.
    experiment : str, default "tisslm"
        The experiment, created if it does not exist.
    tags : mapping of str to str, optional
    """

    accepts = frozenset({float, Histogram, Text})

    def __init__(
        self,
        *,
        tracking_uri: str | None = None,
        experiment: str = "tisslm",
        tags: Mapping[str, str] | None = None,
    ) -> None:
        if tracking_uri is not None and (not isinstance(tracking_uri, str) or not tracking_uri):
            raise ConfigError(
                "sink mlflow: tracking_uri: expected the address of a server such as "
                f"'http://127.0.0.1:5000', got {tracking_uri!r}"
            )
        if not isinstance(experiment, str) or not experiment.strip():
            raise ConfigError(
                f"sink mlflow: experiment: expected a name that is not empty, got {experiment!r}"
            )
        found = {} if tags is None else tags
        if not isinstance(found, Mapping) or not all(
            isinstance(text, str) and text for pair in found.items() for text in pair
        ):
            raise ConfigError(f"sink mlflow: tags: expected a table of texts, got {tags!r}")
        self._given_uri, self._experiment, self._tags = tracking_uri, experiment, dict(found)
        self._client: MlflowClient | None = None
        self._run_id = ""
        self._histograms: tuple[int, dict[str, object]] = (-1, {})
        self._outer: BaseException | None = None

    def open(self, run: RunInfo) -> None:
        """Continue the MLflow run of a resumed run, or begin one.

        Raises
        ------
        ConfigError
            If the server does not answer properly, or the run to continue is gone.
        """
        self.close()
        self._outer = sys.exc_info()[1]
        self._histograms = (-1, {})
        uri = self._given_uri or os.environ.get("MLFLOW_TRACKING_URI") or ""
        uri = uri or (run.directory / "mlruns").absolute().as_uri()
        client = _client(uri)
        known = run_file.read(run.directory, uri) if run.goes_on else None
        try:
            self._run_id = self._begin(client, run) if known is None else _go_on(client, known)
        except Exception as error:  # whatever client, network and server have to say
            raise ConfigError(
                f"sink mlflow: no run at {uri} ({type(error).__name__}: {_first_line(error)}); "
                f"check log.mlflow.tracking_uri, delete {run.directory / run_file.NAME} if the run "
                "that it names is gone, or leave the sink out of log.sinks"
            ) from error
        if known is None:
            run_file.write(run.directory, uri, self._run_id)
        self._client = client

    def write(self, step: int, metrics: Mapping[str, object]) -> None:
        """Send the metrics of one step.

        Raises
        ------
        DataError
            If the sink does not accept the type of a metric, or the server refuses it.
        """
        from mlflow.entities import Metric

        client = self._opened()
        now = int(time.time() * 1000)
        kinds = _by_kind(metrics)
        numbers = [Metric(key(n), v, now, int(step)) for n, v in kinds[float].items()]
        try:
            for start in range(0, len(numbers), MOST_METRICS):
                client.log_batch(self._run_id, metrics=numbers[start : start + MOST_METRICS])
            for name, text in kinds[Text].items():
                path = f"{key(name)}/step-{step:08}.txt"
                plain = text.text.encode(errors="backslashreplace").decode()
                client.log_text(self._run_id, plain, path)
            if kinds[Histogram]:
                self._write_histograms(client, int(step), kinds[Histogram])
        except Exception as error:
            raise DataError(
                f"sink mlflow: step {step} could not be written ({type(error).__name__}: "
                f"{_first_line(error)}); see to the server, or to the room on its disk"
            ) from error

    def close(self) -> None:
        """End the MLflow run: as failed if an exception is being raised, else as finished."""
        client, self._client = self._client, None
        if client is None:
            return
        error = sys.exc_info()[1]
        failed = error is not None and error is not self._outer
        status = "FINISHED"
        if failed:
            status = "FAILED" if isinstance(error, Exception) else "KILLED"
        try:
            client.set_terminated(self._run_id, status)
        except Exception as problem:
            raise DataError(
                f"sink mlflow: run {self._run_id} could not be ended "
                f"({type(problem).__name__}: {_first_line(problem)}); MLflow shows it as running"
            ) from problem

    def _opened(self) -> MlflowClient:
        if self._client is None:
            raise DataError("sink mlflow: it is not open; call open first")
        return self._client

    def _begin(self, client: MlflowClient, run: RunInfo) -> str:
        """Create a run with its settings and tags, and the experiment if it does not exist."""
        from mlflow.entities import Param

        found = client.get_experiment_by_name(self._experiment)
        number = found.experiment_id if found else client.create_experiment(self._experiment)
        own = {"tisslm.directory": str(run.directory), "tisslm.parameters": str(run.parameters)}
        made = client.create_run(number, run_name=run.name, tags={**own, **self._tags})
        run_id: str = made.info.run_id
        params = [Param(name, text) for name, text in settings(run.config).items()]
        for start in range(0, len(params), MOST_SETTINGS):
            client.log_batch(run_id, params=params[start : start + MOST_SETTINGS])
        return run_id

    def _write_histograms(
        self, client: MlflowClient, step: int, histograms: Mapping[str, Histogram]
    ) -> None:
        """Write the histograms of a step to one file, keeping those that it had before."""
        last, known = self._histograms
        record: dict[str, object] = dict(known) if last == step else {"step": step}
        for name, value in histograms.items():
            record[name] = {
                "edges": [float(edge) for edge in value.edges],
                "counts": [int(count) for count in value.counts],
                "total": float(value.total),
                "squares": float(value.squares),
            }
        client.log_dict(self._run_id, record, f"histograms/step-{step:08}.json")
        self._histograms = (step, record)


def _client(uri: str) -> MlflowClient:
    """Return a client that contacts nobody but the server."""
    # MLflow reports its own use to its makers unless it is told not to; a user may ask for it.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    if uri.startswith("file:"):  # MLflow 3.17 and later want to be asked for files
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri)


def _go_on(client: MlflowClient, run_id: str) -> str:
    """Mark a run as running again."""
    stage = client.get_run(run_id).info.lifecycle_stage
    if stage != "active":
        raise ConfigError(f"the run {run_id} was deleted; restore it")
    client.update_run(run_id, status="RUNNING")
    return run_id


def _by_kind(metrics: Mapping[str, object]) -> dict[type, dict[str, Any]]:
    """Group metrics by type; numbers become floats."""
    found: dict[type, dict[str, Any]] = {float: {}, Histogram: {}, Text: {}}
    for name, value in metrics.items():
        if isinstance(value, Real):
            found[float][name] = float(value)
        elif isinstance(value, Histogram | Text):
            found[type(value)][name] = value
        else:
            raise DataError(
                f"sink mlflow: metric {name!r}: expected a real number, a Histogram or a Text, got "
                f"{type(value).__name__}; convert it where the metric is made"
            )
    return found


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [""])[0]
