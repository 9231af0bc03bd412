"""The latest metrics of a run as Prometheus metric families, built at each scrape.

A name such as ``train/loss`` becomes the gauge ``tisslm_train_loss``. If a name contains a
parameter or a place (``grad_norm/<parameter>``, ``activation/<place>/mean``), that becomes a label,
so that one query shows all of them.

References
----------
https://prometheus.io/docs/practices/naming, https://prometheus.io/docs/concepts/metric_types
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Mapping
from numbers import Real
from typing import Any, NamedTuple

import numpy as np
from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily, Metric

from tisslm.contracts import FAMILIES, Histogram, RunInfo
from tisslm.errors import DataError

__all__ = ["Families", "Series", "series"]

#: The meaning of a name's second part, by the first: a parameter, or a place of the model.
BY = {family.group: family.by for family in FAMILIES}

#: Quantiles that stand for a histogram: bins that depend on the data would be ever new series.
QUANTILES = (0.01, 0.25, 0.5, 0.75, 0.99)


#: Names of families that are not metrics of the run.
RESERVED = frozenset({"tisslm_step", "tisslm_run_info", "tisslm_max_steps", "tisslm_parameters"})


class Series(NamedTuple):
    """The metric family of a metric, and its labels."""

    family: str
    labels: tuple[tuple[str, str], ...]


def series(name: str, *, statistic: bool = True) -> Series:
    """Return the metric family and the labels for the name of a metric.

    Parameters
    ----------
    name : str
    statistic : bool
        Whether the last of three parts, such as "mean", is part of the family's name.

    Examples
    --------
    >>> series("activation/blocks.0.mlp/mean")
    Series(family='tisslm_activation_mean', labels=(('place', 'blocks.0.mlp'),))
    """
    head, *rest = name.split("/")
    label = BY.get(head, "")
    if not label or not rest:
        return Series(_identifier(name), ())
    tail = rest[1:] if statistic else []
    where = rest[0] if tail or len(rest) == 1 else "/".join(rest)
    return Series(_identifier("_".join([head, *tail])), ((label, _utf8(where)),))


def _identifier(name: str) -> str:
    return "tisslm_" + re.sub(r"[^a-zA-Z0-9_]", "_", name)


def _utf8(text: str) -> str:
    """Return a text that can be encoded: lone surrogates, as in odd paths, become their number."""
    return text.encode(errors="backslashreplace").decode()


def quantiles(histogram: Histogram) -> dict[float, float]:
    """Return the quantiles of a histogram, as if the values in each bin were spread evenly."""
    ends = np.concatenate([[0.0], np.cumsum(histogram.counts, dtype=np.float64)])
    if not ends[-1]:
        return {}
    return {q: float(np.interp(q * ends[-1], ends, histogram.edges)) for q in QUANTILES}


class Families:
    """The data of a scrape: the last value of every metric, and the step of each group.

    Parameters
    ----------
    run : RunInfo
    """

    def __init__(self, run: RunInfo) -> None:
        self._run, self._name = run, _utf8(run.name)
        self._lock = threading.Lock()
        self._values: dict[str, float | Histogram] = {}
        self._steps: dict[str, int] = {}

    def update(self, step: int, metrics: Mapping[str, object]) -> None:
        """Set the metrics of one step; a scrape sees all of them or none.

        Raises
        ------
        DataError
            If the sink does not accept the type of a metric.
        """
        found: dict[str, float | Histogram] = {}
        for name, value in metrics.items():
            if not isinstance(value, Real | Histogram):
                raise DataError(
                    f"sink prometheus: metric {name!r}: expected a real number or a Histogram, got "
                    f"{type(value).__name__}; give it to a sink that accepts that kind of value"
                )
            found[name] = value if isinstance(value, Histogram) else float(value)
        groups = {name.split("/", 1)[0] for name in metrics}
        with self._lock:
            self._values.update(found)
            self._steps.update(dict.fromkeys(groups, int(step)))

    def collect(self) -> Iterator[Any]:
        """Yield the families; called by the HTTP server's threads."""
        with self._lock:
            values, steps = dict(self._values), dict(self._steps)
        yield from self._of_the_run()
        family = GaugeMetricFamily(
            "tisslm_step", "updates made when a group was last written", labels=["run", "group"]
        )
        for group, step in sorted(steps.items()):
            family.add_metric([self._name, _utf8(group)], step)
        yield family
        yield from self._of_metrics(values)

    def _of_the_run(self) -> Iterator[Any]:
        labels = {"run": self._name, "directory": _utf8(str(self._run.directory))}
        yield InfoMetricFamily("tisslm_run", "the run", value=labels)
        for name, text, value in (
            ("tisslm_max_steps", "step at which the run ends", self._run.max_steps),
            ("tisslm_parameters", "trainable parameters", self._run.parameters),
        ):
            family = GaugeMetricFamily(name, text, labels=["run"])
            family.add_metric([self._name], value)
            yield family

    def _of_metrics(self, values: Mapping[str, float | Histogram]) -> Iterator[Any]:
        """Yield gauges and summaries; a name that would be used twice gets a number."""
        families: dict[str, Any] = {}
        taken: set[Series] = set()
        for name, value in values.items():
            kind = "summary" if isinstance(value, Histogram) else "gauge"
            wanted, number = series(name, statistic=kind == "gauge"), 1
            chosen = wanted
            while chosen in taken or self._is_other(chosen.family, kind, families):
                number += 1
                chosen = wanted._replace(family=f"{wanted.family}_{number}")
            taken.add(chosen)
            about = _utf8(name.split("/", 1)[0] if chosen.labels else name)
            family = families.setdefault(chosen.family, Metric(chosen.family, about, kind))
            _add(family, {"run": self._name, **dict(chosen.labels)}, value)
        yield from families.values()

    @staticmethod
    def _is_other(family: str, kind: str, families: Mapping[str, Any]) -> bool:
        """Return True if a family has the name of one of the run's own, or another kind."""
        return family in RESERVED or (family in families and families[family].type != kind)


def _add(family: Any, labels: dict[str, str], value: float | Histogram) -> None:
    """Add a value to a gauge, or a histogram to a summary."""
    if not isinstance(value, Histogram):
        family.add_sample(family.name, labels, value)
        return
    for q, at in quantiles(value).items():
        family.add_sample(family.name, {**labels, "quantile": str(q)}, at)
    family.add_sample(f"{family.name}_count", labels, value.count)
    family.add_sample(f"{family.name}_sum", labels, value.total)
