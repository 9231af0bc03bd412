"""Building the trainer that replays a run from the run's directory, without writing anything."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

from tisslm.checkpoint import Found
from tisslm.checkpoint.run_directory import CONFIG
from tisslm.config import RunConfig
from tisslm.errors import CheckpointError, ConfigError
from tisslm.registry import Registry
from tisslm.system.safe_files import Refusal
from tisslm.system.strict_toml import read_toml
from tisslm.training.trainer import Trainer
from tisslm.workflows.build.trainer import build_trainer

__all__ = ["checkpoint_folder", "run_config", "trainer_of"]

_REFUSAL = Refusal(ConfigError, "cannot be replayed", "give the directory of a run")

#: Pattern of the warning about states of sinks and monitors, which a replay does not have.
_OBSERVERS = (
    r".*: has states of parts that this run is without: (?:(?:sink|monitor) [^,]*(?:, |$))+$"
)


def run_config(run: Path) -> RunConfig:
    """Read the configuration of a run.

    Raises
    ------
    ConfigError
        If the directory has none, or the run was composed in Python.
    """
    path = run / CONFIG
    if not path.is_file():
        raise ConfigError(
            f"replay: {run}: expected the directory of a run with its {CONFIG}, found none; "
            "give that of tisslm train"
        )
    if "data" not in read_toml(path, _REFUSAL):
        raise ConfigError(
            f"replay: {run}: this run was composed in Python, and no file has all of it; build "
            "its Trainer as then, and call tisslm.workflows.replay.replay(trainer, step)"
        )
    return RunConfig.load(path, env={})


def checkpoint_folder(config: RunConfig, run: Path) -> Path:
    """Return the folder of a run's checkpoints."""
    return run / config.training.checkpoint_dir


def trainer_of(
    config: RunConfig, run: Path, start: Found | None, *, registry: Registry | None = None
) -> Trainer:
    """Build the trainer of a run, at a checkpoint or at the start of the run.

    Parameters
    ----------
    config : RunConfig
        Configuration of the run.
    run : Path
        The run directory; nothing in it is changed.
    start : Found or None
        A checkpoint of the run; None for the start of the run.
    registry : Registry, optional

    Returns
    -------
    Trainer
        A trainer without sinks and monitors.
    """
    settings = {
        "output_dir": str(run),
        "log_gradients": False,
        "keep_best": 0,
        **_resume(config, run, start),
    }
    training = config.training.model_copy(update=settings)
    log = config.log.model_copy(update={"sinks": [], "monitors": []})
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=_OBSERVERS)
        return build_trainer(replace(config, training=training, log=log), registry=registry)


def _resume(config: RunConfig, run: Path, start: Found | None) -> dict[str, str]:
    """Return the settings by which the trainer resumes: from a checkpoint, or as the run did."""
    if start is not None:
        return {"resume": str(start.path), "resume_from": ""}
    target = config.training.resume_target
    if target in ("", "auto") or Path(target).absolute().is_relative_to(run.absolute()):
        return {"resume": "", "resume_from": ""}
    if not Path(target).exists():
        raise CheckpointError(
            f"replay: {run}: its nearest checkpoint is gone, and so is {target}, which the run "
            "began from; choose a step after a checkpoint that is left"
        )
    return {"resume": target, "resume_from": ""}
