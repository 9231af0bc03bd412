"""Hosts that are network namespaces of one machine, with links to a common switch.

Ranks on a host have a host name and shared memory of their own, so MPI finds no way to others but
the link. Linux, root and iproute2 are needed.

What does not live here: what runs on the hosts (``hosts.py``, and ``tests/soak/faults``).
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

__all__ = ["call", "hosts", "lacking", "link", "write_agent"]

SWITCH, NAMES, ADDRESSES = "tiss-switch", "tiss-host", "10.89.7"

#: What a launcher calls in place of ssh: options, a host, and a command for it.
AGENT = """#!/bin/sh
while [ "${1#-}" != "$1" ]; do
    case "$1" in -l | -o | -p) shift ;; esac
    shift
done
host=$1
shift
exec ip netns exec "$host" unshare --uts --ipc --mount sh -c \\
    'hostname "$0" && mount -t tmpfs tmpfs /dev/shm && exec sh -c "$*"' "$host" "$@"
"""


def lacking() -> str:
    """Say what keeps this process from making hosts, "" if nothing does."""
    if os.geteuid():
        return "network namespaces need root"
    missing = [name for name in ("ip", "tc", "unshare") if shutil.which(name) is None]
    return f"{', '.join(missing)} not installed" if missing else ""


def write_agent(folder: Path) -> Path:
    """Write the stand-in for ssh into a folder."""
    agent = folder / "agent.sh"
    agent.write_text(AGENT)
    agent.chmod(0o755)
    return agent


def call(*line: object) -> None:
    """Run a command that has to succeed."""
    subprocess.run([str(word) for word in line], check=True, capture_output=True, text=True)


def link(host: str, state: str) -> list[str]:
    """Return the command that cuts a host off (``down``) or connects it again (``up``)."""
    return ["ip", "-n", SWITCH, "link", "set", _port(host), state]


@contextmanager
def hosts(count: int, mbit: float) -> Iterator[list[str]]:
    """Make hosts and the switch between them, and remove them at the end."""
    names = [f"{NAMES}{number}" for number in range(1, count + 1)]
    addresses = [f"{ADDRESSES}.{number}" for number in range(1, count + 1)]
    table = "".join(f"{a} {n}\n" for a, n in zip(addresses, names, strict=True))
    limit = ("root", "tbf", "rate", f"{mbit:g}mbit", "burst", "512kb", "latency", "100ms")
    with ExitStack() as made:
        _namespace(made, SWITCH)
        call("ip", "-n", SWITCH, "link", "add", "bridge", "type", "bridge")
        call("ip", "-n", SWITCH, "link", "set", "bridge", "up")
        for name, address in zip(names, addresses, strict=True):
            _namespace(made, name)
            known = Path("/etc/netns") / name
            made.callback(shutil.rmtree, known, ignore_errors=True)
            known.mkdir(parents=True)
            (known / "hosts").write_text(f"127.0.0.1 localhost\n{table}")
            port = _port(name)
            call(
                *("ip", "-n", SWITCH, "link", "add", port, "type", "veth"),
                *("peer", "name", "eth0", "netns", name),
            )
            call("ip", "-n", SWITCH, "link", "set", port, "master", "bridge", "up")
            call("ip", "-n", name, "address", "add", f"{address}/24", "dev", "eth0")
            for device in ("lo", "eth0"):
                call("ip", "-n", name, "link", "set", device, "up")
            for side, device in ((name, "eth0"), (SWITCH, port)):  # both ways
                call("tc", "-n", side, "qdisc", "add", "dev", device, *limit)
        yield names


def _port(host: str) -> str:
    """Return the name that the switch has for a host's link."""
    return f"to-{host[-4:]}"


def _namespace(made: ExitStack, name: str) -> None:
    call("ip", "netns", "add", name)
    made.callback(call, "ip", "netns", "del", name)
