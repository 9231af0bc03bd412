"""The best evaluation of a run so far, and whether the run has had enough of them.

Every evaluation is looked at once. One value is kept for each of two questions: the best of all,
which says what ``restore_best`` goes back to, and the last that was better by more than
``early_stopping_min_delta``, from which patience counts. Both are a function of the evaluations
alone, and are kept in checkpoints; so a run that is cut and goes on decides as the whole one.

The run is evaluated and ended by ``loop``; which checkpoints are kept is decided in
``tisslm.checkpoint``.

References
----------
L. Prechelt, "Early Stopping - But When?", Neural Networks: Tricks of the Trade, 1998: the class UP
of stopping criteria, with evaluations that are not better in place of such that are worse.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from tisslm.config import TrainingConfig
from tisslm.config.metric_types import Metric, names_text
from tisslm.config.metrics import BEST, resolve_mode
from tisslm.errors import CheckpointError, ConfigError
from tisslm.system.safe_files import show

__all__ = [
    "TRAIN_LOSS",
    "Standing",
    "Stopping",
    "check_bytes",
    "check_evaluations",
    "check_metric",
    "recent_loss",
]

#: The metric that needs no validation data: the mean of the losses since the last look.
TRAIN_LOSS = "train/loss"


@dataclass
class Standing:
    """What the evaluations of a run have come to.

    Attributes
    ----------
    metric : str
        The name of the metric that is compared.
    mode : {"min", "max"}
        "min" if a smaller value is better, "max" if a larger one is.
    best : float or None
        The best value; None before the first that is finite.
    best_step : int
        The step after which the best value was measured; of equal values, the first one's.
    bar : float or None
        The value that the next one must beat by more than ``early_stopping_min_delta``.
    waited : int
        How many evaluations in a row have not beaten ``bar``.
    looked : int
        The step of the last evaluation that was looked at.
    """

    metric: str
    mode: str
    best: float | None = None
    best_step: int = 0
    bar: float | None = None
    waited: int = 0
    looked: int = 0

    def passes(self, value: float, other: float | None, delta: float = 0.0) -> bool:
        """Tell whether a value is better than another one, by more than ``delta``."""
        if not math.isfinite(value):
            return False
        if other is None:
            return True
        return (other - value if self.mode == "min" else value - other) > delta


class Stopping:
    """Looks at every evaluation of a run; says which is the best, and when to end.

    Parameters
    ----------
    config : TrainingConfig
        ``best_metric``, ``best_mode``, and the settings of early stopping. Patience may be
        changed at any time; the metric is that of the start.
    own : sequence of Metric
        The metrics that the parts of the run declare.

    Attributes
    ----------
    standing : Standing
    ended : str
        Why the last ``train`` ended early, "" if it did not; ``restore_best`` does not change it.
    """

    def __init__(self, config: TrainingConfig, own: Sequence[Metric] = ()) -> None:
        self.config = config
        self.ended = ""
        metric = config.best_metric
        self.standing = Standing(metric, resolve_mode(metric, config.best_mode, own))

    def observe(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Take note of an evaluation.

        Parameters
        ----------
        step : int
            The number of updates after which it was made.
        metrics : mapping
            Its values by name; one that is not finite is no improvement.

        Raises
        ------
        ConfigError
            If a metric that is not among them is to end the run or to choose checkpoints.
        """
        now = self.standing
        if now.metric not in metrics:
            self._refuse_missing(metrics)
            return
        if now.looked == step:
            return
        now.looked = step
        value = float(metrics[now.metric])
        if now.passes(value, now.best):
            now.best, now.best_step = value, step
        if now.passes(value, now.bar, self.config.early_stopping_min_delta):
            now.bar, now.waited = value, 0
        else:
            now.waited += 1

    def _refuse_missing(self, metrics: Mapping[str, Any]) -> None:
        config = self.config
        wanted = config.restore_best or config.early_stopping_patience or config.keep_best
        if wanted and self.standing.metric.startswith("eval/"):
            known = ", ".join(sorted(name for name in metrics if name.startswith("eval/")))
            raise ConfigError(
                f"training.best_metric: expected a metric of the evaluations of this run, which "
                f'are {known}, got "{self.standing.metric}"; choose one of them'
            )

    @property
    def due(self) -> bool:
        """Whether the run is to end, because patience is used up."""
        patience = self.config.early_stopping_patience
        return 0 < patience <= self.standing.waited

    @property
    def reason(self) -> str:
        """Why the run is to end, "" if it is not."""
        if not self.due:
            return ""
        now, delta = self.standing, self.config.early_stopping_min_delta
        than = "no value was finite" if now.bar is None else f"none was better than {now.bar:.6g}"
        margin = f" by more than {delta:g}" if delta and now.bar is not None else ""
        what = "mean" if now.metric == TRAIN_LOSS else "evaluation"
        what = what if now.metric in BEST else "value"
        count = f"{now.waited} {what}{'s' if now.waited > 1 else ''}"
        return f"{now.metric}: of the last {count}, {than}{margin}"

    def is_best(self, step: int) -> bool:
        """Tell whether the evaluation after this step is the best so far."""
        return self.standing.best is not None and self.standing.best_step == step

    def summary(self) -> dict[str, Any] | None:
        """Return metric, value and step of the best evaluation, None before there is one."""
        now = self.standing
        if now.best is None:
            return None
        return {"metric": now.metric, "value": now.best, "step": now.best_step}

    # ------------------------------------------------------------------ checkpoints

    def state(self) -> dict[str, Any]:
        """Return what a resumed run needs, as plain JSON values."""
        return asdict(self.standing)

    def read(self, saved: object, where: Path) -> Standing:
        """Return the standing that ``state`` has written; nothing is taken over yet.

        A run that compares by another metric than the saved one begins anew.

        Parameters
        ----------
        saved : object
        where : Path
            What it was read from, for messages.

        Raises
        ------
        CheckpointError
            If it is no such state.
        """
        own = Standing(self.standing.metric, self.standing.mode)
        if saved == {}:  # of a checkpoint from before there was any
            return own
        found = _parse(saved, where)
        return found if (found.metric, found.mode) == (own.metric, own.mode) else own

    def check(self, saved: object, where: Path) -> None:
        """Check what ``read`` will be given, and say if the best begins anew, where it matters.

        Parameters and errors are those of ``read``.
        """
        if saved == {} or not (self.config.early_stopping_patience or self.config.restore_best):
            self.read(saved, where)
            return
        found, own = _parse(saved, where), self.standing
        if (found.metric, found.mode) != (own.metric, own.mode):
            warnings.warn(
                f"{where}: the best so far is by {found.metric} ({found.mode}), and the run now "
                f"goes by {own.metric} ({own.mode}): the best and its patience begin anew",
                RuntimeWarning,
                stacklevel=5,
            )


def _parse(saved: object, where: Path) -> Standing:
    """Check every value of a saved standing."""
    names = [field.name for field in fields(Standing)]
    older = {"looked"}  # what checkpoints of earlier versions lack
    if isinstance(saved, Mapping) and set(names) - older <= saved.keys() <= set(names):
        found = Standing(**saved)
        strings = isinstance(found.metric, str) and found.mode in ("min", "max")
        values = all(
            value is None or (type(value) in (int, float) and math.isfinite(value))
            for value in (found.best, found.bar)
        )
        counts = all(
            type(count) is int and 0 <= count < 2**63
            for count in (found.best_step, found.waited, found.looked)
        )
        if strings and values and counts:
            return found
    raise CheckpointError(
        f"{where}: expected the standing of the evaluations (stopping: {', '.join(names)}), got "
        f"{show(saved)}; use an earlier checkpoint"
    )


def recent_loss(losses: Sequence[float], config: TrainingConfig) -> float:
    """Return the value of ``train/loss`` that a run is steered by.

    It is the mean over the updates since the last look, ``validation_frequency`` of them, because
    the loss of one batch says too little. Where a run never looks, it is the last update's loss.
    """
    window = losses[-max(1, config.validation_frequency) :]
    return math.fsum(window) / len(window)


def check_metric(config: TrainingConfig, own: Sequence[Metric]) -> None:
    """Make sure that the run has its best metric, and that its direction is known.

    Parameters
    ----------
    config : TrainingConfig
    own : sequence of Metric
        The metrics of parts that can be asked for at any step.

    Raises
    ------
    ConfigError
        If it is neither in the table of metrics nor declared, or says no direction.
    """
    name = config.best_metric
    if name in BEST:
        return
    known = {metric.name: metric for metric in own}
    if name not in known:
        theirs = f"which are {names_text(known)}" if known else "which are none"
        raise ConfigError(
            f"training.best_metric: expected {names_text(BEST)}, or a metric that the parts of "
            f'this run declare, {theirs}; got "{name}"'
        )
    if config.best_mode == "auto" and not known[name].better:
        raise ConfigError(
            f'training.best_mode: expected "min" or "max", since {name} does not say which is '
            'better, got "auto"'
        )


def check_bytes(config: TrainingConfig, has_tokenizer: bool) -> None:
    """Make sure that bits per byte can be counted, if the best is to go by them.

    Parameters
    ----------
    config : TrainingConfig
    has_tokenizer : bool
        Whether the run has a tokenizer, which counts the bytes.

    Raises
    ------
    ConfigError
        If there is none.
    """
    wanted = config.early_stopping_patience or config.restore_best or config.keep_best
    if wanted and config.best_metric == "eval/bpb" and not has_tokenizer:
        raise ConfigError(
            "training.best_metric: expected a tokenizer, which counts the bytes of eval/bpb, got "
            'none; give the Trainer one, or set training.best_metric = "eval/loss"'
        )


def check_average(config: TrainingConfig, averages: bool) -> None:
    """Make sure that weights are averaged, if the best is to go by their average.

    Parameters
    ----------
    config : TrainingConfig
    averages : bool
        Whether the run averages its weights.

    Raises
    ------
    ConfigError
        If it does not.
    """
    wanted = config.early_stopping_patience or config.restore_best or config.keep_best
    if wanted and config.best_metric.startswith("eval/ema_") and not averages:
        raise ConfigError(
            f"training.best_metric: expected a section [ema], by which weights are averaged, "
            f"beside {config.best_metric}, got none; give the run one, or take "
            f'"{config.best_metric.replace("ema_", "")}"'
        )


def check_evaluations(config: TrainingConfig, needs_evaluations: bool, evaluates: bool) -> None:
    """Make sure that a run which is to be steered by evaluations makes some on the way.

    Parameters
    ----------
    config : TrainingConfig
    needs_evaluations : bool
        Whether the scheduler needs them.
    evaluates : bool
        Whether the run has validation data.

    Raises
    ------
    ConfigError
        If there are no data or no times to evaluate.
    """
    patience = config.early_stopping_patience
    if not config.best_metric.startswith("eval/") and not needs_evaluations:
        evaluates = True  # which takes no validation data
    who = "training.early_stopping_patience" if patience else ""
    who = who or ("scheduler" if needs_evaluations else "")
    if not who:
        return
    if not evaluates:
        raise ConfigError(
            f"{who}: expected validation data to go by, got none; give some, or do without"
        )
    at_saves = config.save_every > 0 and (config.keep_best > 0 or config.restore_best)
    if config.validation_frequency == 0 and not at_saves:
        raise ConfigError(
            f"{who}: expected evaluations on the way, got training.validation_frequency = 0; set "
            "the number of steps between two"
        )
