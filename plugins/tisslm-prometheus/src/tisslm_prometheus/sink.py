"""The sink ``prometheus``: the latest metrics over HTTP, while the run trains.

Metric families are built in ``families``.

References
----------
https://prometheus.io/docs/instrumenting/exposition_formats
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, final

from tisslm.contracts import Histogram, RunInfo, Sink
from tisslm.contracts.sink_files import write_record
from tisslm.errors import ConfigError, DataError

if TYPE_CHECKING:
    from tisslm_prometheus.families import Families
    from tisslm_prometheus.server import Server

__all__ = ["PrometheusSink"]

#: The file in the run directory that Prometheus can read (``file_sd_configs``).
TARGETS = "prometheus.json"


@final
class PrometheusSink(Sink):
    """Answer scrapes of ``http://<host>:<port>/metrics`` with the last value of every metric.

    ``train/loss`` is the gauge ``tisslm_train_loss{run="..."}``; ``grad_norm/<parameter>`` and
    ``activation/<place>/mean`` have the parameter and the place as a label; a histogram is a
    summary with five quantiles. ``tisslm_step{group="train"}`` is the step of the values.

    The server is a thread that waits for scrapes; it ends with the run, and the values with it.
    While it is there, ``prometheus.json`` in the run directory has its address, in the form that
    Prometheus reads by ``file_sd_configs``.

    Parameters
    ----------
    port : int, default 9464
        The port; 0 chooses a free one.
    host : str, default "127.0.0.1"
        The address that the server listens at; "0.0.0.0" lets other machines scrape.
    """

    accepts = frozenset({float, Histogram})
    test_options = ({"port": 0},)

    def __init__(self, *, port: int = 9464, host: str = "127.0.0.1") -> None:
        if not isinstance(port, int) or isinstance(port, bool) or not 0 <= port < 65536:
            raise ConfigError(
                f"sink prometheus: port: expected an integer from 0 to 65535, got {port!r}"
            )
        if not isinstance(host, str) or not host.strip():
            raise ConfigError(
                f"sink prometheus: host: expected an address such as '127.0.0.1', got {host!r}"
            )
        self._port, self._host = port, host
        self._families: Families | None = None
        self._server: Server | None = None
        self._targets = Path()

    @property
    def address(self) -> str:
        """The address that the server listens at, such as ``127.0.0.1:9464``; "" if closed."""
        return self._server.address if self._server is not None else ""

    def open(self, run: RunInfo) -> None:
        """Start the server.

        Raises
        ------
        ConfigError
            If it cannot listen at the address, or the run directory cannot be written.
        """
        from prometheus_client import CollectorRegistry

        from tisslm_prometheus.families import Families
        from tisslm_prometheus.server import Server

        self.close()
        registry = CollectorRegistry()
        families = Families(run)
        registry.register(families)
        try:
            self._server = Server(self._host, self._port, registry)
        except (OSError, ValueError) as error:  # ValueError: it cannot be the name of a host
            why = getattr(error, "strerror", None) or error
            raise ConfigError(
                f"sink prometheus: nothing can listen at {self._host} port {self._port} "
                f"({why}); set log.prometheus.port to another, or to 0 for one that is "
                "free"
            ) from None
        self._families, self._targets = families, run.directory / TARGETS
        record = [{"targets": [self.address], "labels": {"run": run.name}}]
        try:
            write_record("prometheus", self._targets, record)
        except ConfigError:
            self.close()
            raise

    def write(self, step: int, metrics: Mapping[str, object]) -> None:
        """Set the metrics for the next scrape.

        Raises
        ------
        DataError
            If the sink does not accept the type of a metric.
        """
        if self._families is None:
            raise DataError("sink prometheus: it is not open; call open first")
        self._families.update(step, metrics)

    def close(self) -> None:
        """Stop the server, free its port and wait for its thread."""
        self._families = None
        if self._server is None:
            return
        self._server.close()
        self._server = None
        with contextlib.suppress(OSError):
            self._targets.unlink()
