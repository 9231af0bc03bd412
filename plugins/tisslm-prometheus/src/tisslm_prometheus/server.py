"""The HTTP server that answers scrapes, in a thread of its own.

The client library has one, too; this one asks no name server for the name of its address, and
ends within a tenth of a second.
"""

from __future__ import annotations

import socket
import threading
from socketserver import TCPServer, ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import CollectorRegistry, make_wsgi_app

__all__ = ["Server"]

#: Seconds between two checks whether the server should end.
POLL = 0.1


class _Handler(WSGIRequestHandler):
    """A handler of one request that writes no log."""

    #: Seconds that a client may be silent.
    timeout = 10

    def log_message(self, *args: Any) -> None:
        """Write nothing, because scrapes come every few seconds."""


class _ThreadingServer(ThreadingMixIn, WSGIServer):
    """A server with a thread for each request; no thread keeps the process alive."""

    daemon_threads = True

    def server_bind(self) -> None:
        """Bind without looking up the name of the address."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]  # type: ignore[assignment]
        self.setup_environ()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore clients that have disconnected."""


class Server:
    """An HTTP server that answers scrapes until it is closed.

    Parameters
    ----------
    host : str
    port : int
        The port; 0 chooses a free one.
    registry : CollectorRegistry

    Raises
    ------
    OSError
        If the address cannot be listened at.
    """

    def __init__(self, host: str, port: int, registry: CollectorRegistry) -> None:
        flags = socket.AI_PASSIVE
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)[
            0
        ]
        kind = type("_Server", (_ThreadingServer,), {"address_family": family})
        self._server: WSGIServer = kind(address[:2], _Handler)
        self._server.set_app(make_wsgi_app(registry))
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(POLL,), name="tisslm-prometheus", daemon=True
        )
        self._thread.start()

    @property
    def address(self) -> str:
        """The address that it listens at, such as ``127.0.0.1:9464``."""
        host, port = self._server.server_address[:2]
        return f"[{host!s}]:{port}" if ":" in str(host) else f"{host!s}:{port}"

    def close(self) -> None:
        """Stop answering, free the port and wait for the thread."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
