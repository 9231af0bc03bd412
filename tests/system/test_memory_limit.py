"""Sizes as people write them, and what the machine and its control groups have left."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tisslm.errors import ConfigError
from tisslm.system.memory_limit import memory_left, parse_size, resident, resolve_limit

GIB = 2**30


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("8GiB", 8 * GIB),
        ("1.5 gib", 3 * GIB // 2),
        ("500MB", 500_000_000),
        (" 2 kB ", 2000),
        ("64KiB", 65536),
        ("1TiB", 2**40),
        ("8 G", 8 * 10**9),
        ("8Gi", 8 * GIB),
        ("500 mb", 500_000_000),
        ("2t", 2 * 10**12),
        ("0.3KB", 300),
        ("3B", 3),
        ("100", 100),
        ("100 B", 100),
        (4096, 4096),
        (1e9, 10**9),
    ],
)
def test_sizes(given, expected):
    assert parse_size(given) == expected


@given(st.integers(1, 2**50))
def test_a_number_of_bytes_is_itself(n):
    assert parse_size(n) == parse_size(str(n)) == parse_size(f"{n} B") == n


@pytest.mark.parametrize(
    "wrong",
    [
        "lots",
        "-1GiB",
        "0",
        0,
        -5,
        True,
        None,
        "8 GGB",
        "8GiBs",
        "",
        "GiB",
        "8iB",
        "1e9",
        "\u0663",
        "0.1 B",
        float("nan"),
        float("inf"),
    ],
)
def test_what_is_no_size_is_refused(wrong):
    with pytest.raises(ConfigError, match=r"training\.memory_limit: expected a size such as '8G"):
        parse_size(wrong)


def put(root: Path, **files: str) -> None:
    for name, text in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    put(tmp_path, proc__meminfo=f"MemTotal: 99 kB\nMemAvailable:  {8 * 2**20} kB\n")
    return tmp_path


def group(root: Path, folder: str, version: int, limit: object, used: int, cache: int = 0) -> None:
    path = root / "sys/fs/cgroup" / folder
    path.mkdir(parents=True, exist_ok=True)
    names = {1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")}
    names[2] = ("memory.max", "memory.current", "inactive_file")
    limit_name, used_name, cache_name = names[version]
    (path / limit_name).write_text(f"{limit}\n")
    (path / used_name).write_text(f"{used}\n")
    (path / "memory.stat").write_text(f"anon 1\n{cache_name} {cache}\n")


def test_without_groups_the_machine_decides(machine):
    found = memory_left(machine)
    assert (found.nbytes, found.source) == (8 * GIB, "what the machine has left")


def test_a_machine_that_does_not_say_is_an_error(tmp_path):
    put(tmp_path, proc__meminfo="MemTotal: 99 kB\n")
    with pytest.raises(ConfigError, match=r"no MemAvailable in it; set training\.memory_limit"):
        memory_left(tmp_path)


def test_the_tightest_group_on_the_way_up_counts(machine):
    put(machine, proc__self__cgroup="0::/jobs/mine\n")
    group(machine, "jobs/mine", 2, "max", 0)
    group(machine, "jobs", 2, 4 * GIB, 3 * GIB)
    group(machine, "", 2, 6 * GIB, 1)
    found = memory_left(machine)
    assert found.nbytes == GIB
    assert found.source == (
        f"what the control group {machine}/sys/fs/cgroup/jobs has left of 4 GiB"
    )


def test_page_cache_counts_as_left(machine):
    put(machine, proc__self__cgroup="0::/\n")
    group(machine, "", 2, 4 * GIB, 3 * GIB, cache=2 * GIB)
    assert memory_left(machine).nbytes == 3 * GIB


def test_a_group_whose_path_is_the_hosts_is_found_at_the_top(machine):
    put(machine, proc__self__cgroup="0::/docker/0123\n")
    group(machine, "", 2, 2 * GIB, GIB)
    assert memory_left(machine).nbytes == GIB


def test_a_group_that_is_over_its_limit_has_nothing_left(machine):
    put(machine, proc__self__cgroup="0::/\n")
    group(machine, "", 2, GIB, 2 * GIB)
    assert memory_left(machine).nbytes == 0


def test_version_1_groups(machine):
    put(machine, proc__self__cgroup="5:cpu:/a\n4:memory,hugetlb:/a/b\n0::/\n")
    group(machine, "memory/a/b", 1, 2**63 - 4096, 5)
    group(machine, "memory/a", 1, 3 * GIB, 2 * GIB, cache=GIB // 2)
    assert memory_left(machine).nbytes == 3 * GIB // 2


def test_a_limit_counts_for_the_whole_process():
    held = resident()
    assert held > 2**20
    found = resolve_limit("64GiB")
    assert abs(found.nbytes - (64 * GIB - held)) < GIB
    assert found.source.startswith("training.memory_limit = 64 GiB less ")
    assert resolve_limit(1).nbytes == 0
    assert resolve_limit("").nbytes > 0
