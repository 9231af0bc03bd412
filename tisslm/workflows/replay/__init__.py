"""Replaying steps of a run, bit for bit, from the nearest checkpoint before them.

``replay`` makes the steps with a trainer; ``trainer_of`` builds that trainer from a run directory.
Nothing is written, and the run may still be training.
"""

from __future__ import annotations

from tisslm.workflows.replay.building import trainer_of
from tisslm.workflows.replay.execution import replay
from tisslm.workflows.replay.incident_file import RecordedIncident, incident_files, read_incident
from tisslm.workflows.replay.outcome import Replayed, ReplayedStep
from tisslm.workflows.replay.record import Record, read_record
from tisslm.workflows.replay.start import find_start
from tisslm.workflows.replay.statistics import PlaceStatistics, Statistics

__all__ = [
    "PlaceStatistics",
    "Record",
    "RecordedIncident",
    "Replayed",
    "ReplayedStep",
    "Statistics",
    "find_start",
    "incident_files",
    "read_incident",
    "read_record",
    "replay",
    "trainer_of",
]
