"""How busy the processors are, from counters that the tests write."""

from __future__ import annotations

from pathlib import Path

import pytest

from tisslm.tracking import processor
from tisslm.tracking.processor import ProcessorUse


class Machine:
    """A clock, and a file of counters in hundredths of a second."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.path, self.now = path, 100.0
        monkeypatch.setattr(processor, "STAT", str(path))
        monkeypatch.setattr(processor.time, "perf_counter", lambda: self.now)

    def tick(self, seconds: float, *counters: int) -> None:
        self.now += seconds
        line = f"cpu  {' '.join(map(str, counters))}\n"
        self.path.write_text(f"{line}cpu0 1 2 3 4 5 6 7 8 9 10\nintr 123 {'0 ' * 2000}\n")


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path / "stat", monkeypatch)


def test_it_is_the_share_that_was_not_idle_since_the_figure_before(machine: Machine) -> None:
    use = ProcessorUse()
    # user nice system idle iowait irq softirq steal guest guest_nice
    machine.tick(0, 1000, 100, 200, 5000, 300, 10, 20, 30, 400, 50)
    use.begin()
    machine.tick(0.2, 1040, 100, 200, 5000, 300, 10, 20, 30, 440, 50)
    assert use.metrics() == {}, "too early to tell"
    machine.tick(0.4, 1060, 110, 205, 5020, 305, 10, 20, 30, 460, 50)
    assert use.metrics() == {"system/cpu_percent": pytest.approx(75.0)}
    machine.tick(0.1, 2060, 110, 205, 5020, 305, 10, 20, 30, 460, 50)
    assert use.metrics() == {"system/cpu_percent": pytest.approx(75.0)}, "the last figure holds"
    machine.tick(0.5, 2060, 110, 205, 6020, 305, 10, 20, 30, 460, 50)
    assert use.metrics() == {"system/cpu_percent": pytest.approx(50.0)}


def test_counters_that_stand_still_or_step_back_are_no_figure(machine: Machine) -> None:
    use = ProcessorUse()
    machine.tick(0, 100, 0, 0, 1000, 50, 0, 0, 0, 0, 0)
    use.begin()
    machine.tick(1, 100, 0, 0, 1000, 50, 0, 0, 0, 0, 0)
    assert use.metrics() == {}
    machine.tick(1, 300, 0, 0, 1000, 40, 0, 0, 0, 0, 0)
    assert use.metrics() == {"system/cpu_percent": 100.0}


def test_a_system_without_counters_has_no_figure(machine: Machine) -> None:
    use = ProcessorUse()
    use.begin()
    machine.now += 5
    assert use.metrics() == {}


def test_this_machine_has_one() -> None:
    use = ProcessorUse()
    use._last = (0, 0)  # since the machine was started
    (percent,) = use.metrics().values()
    assert 0.0 <= percent <= 100.0
