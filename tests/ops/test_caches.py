"""The caches that products are blocked for: forced, read, or safe."""

from __future__ import annotations

import os

import pytest

from tisslm.errors import ConfigError
from tisslm.ops.caches import SAFE, resolve_caches

ZEN_3 = {
    "1": ("Data", "32K", "0-1"),
    "2": ("Unified", "512K", "0-1"),
    "3": ("Unified", "32M", "0-7"),
}


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """``machine(caches)``: a machine of eight threads, two a core, with such caches, described."""
    monkeypatch.setattr(os, "sysconf", lambda name: 0)

    def describe(caches, processors=range(8)):
        for number in processors:
            folder = tmp_path / f"cpu{number}"
            (folder / "topology").mkdir(parents=True)
            first = number // 2 * 2
            (folder / "topology" / "thread_siblings_list").write_text(f"{first}-{first + 1}\n")
            for level, (kind, size, shared) in caches.items():
                index = folder / "cache" / f"index{level}"
                index.mkdir(parents=True)
                described = {"level": level, "type": kind, "size": size, "shared_cpu_list": shared}
                for name, text in described.items():
                    (index / name).write_text(text + "\n")
        return resolve_caches({}, tmp_path, processors)

    return describe


def test_a_core_has_its_share_of_what_cores_share(machine):
    found = machine(ZEN_3)
    assert (found.level_1, found.level_2, found.level_3) == (32 << 10, 512 << 10, 8 << 20)
    assert str(found) == "L1d 32 KiB, L2 512 KiB, L3 8192 KiB of a core"
    assert found.reason.startswith("told by ")


def test_a_second_level_of_four_cores_is_cut_in_four(machine):
    found = machine(ZEN_3 | {"2": ("Unified", "2048K", "0-7")})
    assert found.level_2 == 512 << 10


def test_instructions_do_not_count(machine):
    found = machine(ZEN_3 | {"0": ("Instruction", "64K", "0-1")})
    assert found.level_1 == 32 << 10


@pytest.mark.parametrize("second", ["4096K", "16K", "0K"])
def test_what_no_core_has_is_not_believed(machine, second):
    found = machine(ZEN_3 | {"2": ("Unified", second, "0-1")})
    assert (found.level_1, found.level_2) == (SAFE.level_1, SAFE.level_2)
    assert found.reason.startswith("safe sizes, for the machine tells ")


@pytest.mark.parametrize("caches", [{}, {"1": ("Data", "much", "0")}])
def test_safe_sizes_where_nobody_tells(machine, caches):
    found = machine(caches)
    assert (found.level_1, found.level_2, found.level_3) == (32 << 10, 256 << 10, 0)
    assert found.reason == "safe sizes, for the machine tells none"


def test_the_library_is_asked_where_linux_is_silent(tmp_path, monkeypatch):
    sizes = {"SC_LEVEL1_DCACHE_SIZE": 49152, "SC_LEVEL2_CACHE_SIZE": 1 << 20}
    monkeypatch.setattr(os, "sysconf", sizes.__getitem__)
    found = resolve_caches({}, tmp_path, [0])
    assert (found.level_1, found.level_2) == (49152, 1 << 20)
    assert found.reason == "told by the C library"


def test_the_variable_wins(machine):
    machine(ZEN_3)
    found = resolve_caches({"TISSLM_CACHES": "48K, 1M"})
    assert (found.level_1, found.level_2) == (48 << 10, 1 << 20)
    assert found.reason == "TISSLM_CACHES=48K, 1M"


@pytest.mark.parametrize(
    "text", ["32K", "512K,32K", "32K,512K,8M", "0,0", "-32K,512K", "l,m", "32K,1G"]
)
def test_nonsense_is_refused(text):
    with pytest.raises(ConfigError) as refused:
        resolve_caches({"TISSLM_CACHES": text})
    assert str(refused.value) == (
        "TISSLM_CACHES: expected L1d (16K to 256K) and L2 (128K to 3M) of one core, such as "
        f"32K,512K, got {text!r}; correct or unset it"
    )
