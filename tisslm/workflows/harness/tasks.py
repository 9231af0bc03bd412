"""Running tasks of lm-evaluation-harness on a model."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tisslm.contracts import Loss, Model, Tokenizer
from tisslm.errors import ConfigError, DataError, TissLMError

__all__ = ["TaskResult", "evaluate_tasks"]


@dataclass(frozen=True)
class TaskResult:
    """What one task came to.

    Attributes
    ----------
    task : str
    samples : int
    metrics : dict of str to float
        By the harness' names, such as ``acc`` and ``acc_stderr``; those of a filter of answers end
        in a comma and its name, unless it is "none".
    """

    task: str
    samples: int
    metrics: dict[str, float]


def evaluate_tasks(
    model: Model,
    tokenizer: Tokenizer,
    loss: Loss,
    tasks: Sequence[str],
    *,
    include_path: Path | None = None,
    limit: int | None = None,
    few_shot: int | None = None,
    batch_size: int = 8,
) -> list[TaskResult]:
    """Evaluate a model on tasks of lm-evaluation-harness.

    Parameters
    ----------
    model : Model
    tokenizer : Tokenizer
    loss : Loss
        The cross-entropy.
    tasks : sequence of str
        Names, of the harness' own tasks or of those in ``include_path``.
    include_path : Path, optional
        A folder with YAML files of tasks.
    limit : int, optional
        Only so many samples of each task.
    few_shot : int, optional
        Solved examples before each question; left out, what the task says.
    batch_size : int
        Rows of a pass.

    Raises
    ------
    ConfigError
        If the harness is not installed, or a task is not known.
    DataError
        If the harness cannot carry a task out, as when its data are not on this machine.
    """
    _check_installed()
    if include_path is not None and not include_path.is_dir():
        raise ConfigError(f"--include-path: expected a folder with tasks, got {include_path}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the harness' and its sixty libraries' own
        logging.getLogger("lm_eval").setLevel(logging.ERROR)
        from lm_eval.evaluator import simple_evaluate
        from lm_eval.tasks import TaskManager

        from tisslm.workflows.harness.adapter import HarnessModel

        manager = TaskManager(include_path=None if include_path is None else str(include_path))
        unknown = [name for name in tasks if name not in manager.all_tasks]
        if unknown:
            raise ConfigError(
                f"--tasks: unknown task {unknown[0]!r:.200}; give names that the harness has, or "
                "--include-path with the folder of its YAML file"
            )
        try:
            found: Any = simple_evaluate(
                model=HarnessModel(model, tokenizer, loss, batch_size),
                tasks=list(tasks),
                num_fewshot=few_shot,
                limit=limit,
                task_manager=manager,
                log_samples=False,
                bootstrap_iters=1000,
            )
        except TissLMError:
            raise
        except Exception as error:  # whatever a task's own code or a library raises
            said = " ".join(str(error).split())
            raise DataError(
                f"--tasks {','.join(tasks)}: the harness gave up ({type(error).__name__}: "
                f"{said:.300}); its data must be on this machine, or the network reachable"
            ) from error
    return [_result(name, found) for name in found["results"]]


def _result(name: str, found: Any) -> TaskResult:
    values = found["results"][name]
    metrics = {
        key.removesuffix(",none"): float(value)
        for key, value in values.items()
        if isinstance(value, (int, float)) and not isinstance(value, bool) and "," in key
    }
    samples = found.get("n-samples", {}).get(name, {}).get("effective", 0)
    return TaskResult(name, int(samples), {k: v for k, v in metrics.items() if not math.isnan(v)})


def _check_installed() -> None:
    if find_spec("lm_eval") is None:
        raise ConfigError(
            "--tasks: needs lm-evaluation-harness, which is not installed; pip install tisslm[eval]"
        )
