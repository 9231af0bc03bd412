"""``TrainingConfig``: how a run trains; the section ``[training]``."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, final

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, field_validator

from tisslm.config.base import Section
from tisslm.config.fields import (
    Count,
    CountOrZero,
    Expects,
    Flag,
    NameList,
    Path,
    PositiveNumber,
    number,
    refused,
    show,
    whole,
)
from tisslm.config.training_types import (
    BestMetric,
    BestMode,
    Checkpointing,
    Duration,
    FrozenPrecision,
    LossScale,
    MemoryLimit,
    MinDelta,
    OnNonfinite,
    OnSaveError,
    OnSinkError,
    Precision,
    Prompts,
    SpikeAction,
    SpikeWindow,
    StartingScale,
)
from tisslm.errors import ConfigError

__all__ = ["TrainingConfig"]

_SEED_LIMIT = 2**64


def _steps(value: object) -> object:
    """Read -1 as "no limit", as other trainers do: TOML has no word for nothing."""
    value = whole(value)
    return None if value == -1 and not isinstance(value, bool) else value


def _file_name(value: str) -> str:
    plain = value.isprintable() and not set(value) & set("/\\")
    if not plain or value != value.strip() or value.startswith("."):
        raise ValueError("not a file name")
    return value


_Steps = Annotated[
    Count | None, BeforeValidator(_steps), Expects("an integer >= 1, or -1 for no limit")
]
_Threads = Annotated[Count | None, Expects("an integer >= 1")]
_CountOrNone = Annotated[Count | None, Expects("an integer >= 1")]
_Seconds = Annotated[
    float,
    BeforeValidator(number),
    Field(ge=0, allow_inf_nan=False),
    Expects("a finite number of seconds >= 0", "0 waits for ever"),
]
_Norm = Annotated[
    float,
    BeforeValidator(number),
    Field(ge=0, allow_inf_nan=False),
    Expects("a finite number >= 0", "0 switches clipping off"),
]
_Seed = Annotated[
    int,
    BeforeValidator(whole),
    Field(ge=0, lt=_SEED_LIMIT),
    Expects("an integer from 0 to 2^64 - 1"),
]
_CONTRADICTION = (
    'training.precision: expected "auto", "bf16" or "fp16" with use_mixed_precision = true, got '
    '"fp32"; keep one of the two'
)
_Directory = Annotated[Path, Field(min_length=1), Expects("a path that is not empty")]
_FileName = Annotated[
    str,
    Field(min_length=1),
    AfterValidator(_file_name),
    Expects("a name that can be part of a directory's, without slashes or a leading dot"),
]


@final
class TrainingConfig(Section):
    """How a run trains; every field may be given by keyword or assigned later.

    A step is always one optimizer update. Spellings of other trainers (``max_iters``,
    ``num_train_epochs``, ``grad_clip``, ...) are accepted with a ``ConfigNote``.

    Parameters
    ----------
    epochs : int, default 10
        Passes over the training split; ``max_steps`` wins over it.
    batch_size : int, default 32
        Rows (windows of T tokens) per micro-batch and process.
    learning_rate : float, default 1e-4
        The base learning rate of the optimizer, which the scheduler varies.
    max_grad_norm : float, default 1.0
        Gradients are scaled down to this global Euclidean norm; 0 switches that off.
    save_every : int, default 1000
        Steps between checkpoints; 0 keeps only the one at the end.
    checkpoint_dir : str, default "checkpoints"
        Relative to the run directory.
    keep_checkpoints : int, default 3
        How many of the newest checkpoints are kept; 0 keeps all.
    resume_from : str, default ""
        A checkpoint to go on from; the founding spelling of ``resume`` with a path.
    use_mixed_precision : bool, default False
        The founding spelling of ``precision="auto"``; with it, ``precision`` may be "bf16" or
        "fp16", and not "fp32".
    gradient_accumulation_steps : int, default 1
        Micro-batches per step and process.
    log_gradients : bool, default False
        Whether to measure the norm of every parameter's gradient.
    validation_frequency : int, default 100
        Steps between evaluations on the validation split; 0 means never on the way.
    max_steps : int, optional
        Steps of the whole run; None or -1 leaves it to ``epochs``.
    seed : int, default 42
        The key of every random draw, from 0 to 2^64 - 1.
    precision : {"fp32", "bf16", "fp16", "auto"}, default "fp32"
        The type of matrix products and stored activations; parameters, gradients and the state of
        the optimizer are always float32. "auto" is "bf16" where the processor multiplies bf16, else
        "fp32".
        The data types' own names and the modes of other trainers ("bf16-mixed", 16) are read, too.
    threads : int, optional
        Number of threads of the kernels; None leaves it to the environment and the machine.
    output_dir : str, default ""
        The run directory; "" means ``runs/<name>-<time>``.
    name : str, default "run"
        Name of the run.
    logging_steps : int, default 1
        The sinks get a line every so many steps.
    resume : str, default ""
        "" starts anew, "auto" goes on with the newest run of the same name and configuration,
        anything else is the path of a checkpoint or run.
    activation_checkpointing : str, default "none"
        Which blocks keep no activations and are computed again in backward: "none", "full" (all),
        "every=N" (every N-th), or "auto": no more than ``memory_limit`` asks for. True means
        "full".
    memory_limit : str or int, default ""
        The most that the run may take: a size such as "8GiB" or "500MB", or bytes; "" means what
        the machine or its control group has left.
    loss_scale : "dynamic" or int, default "dynamic"
        What the loss is multiplied by before backward, for "fp16" only: a power of two, or one
        that is lowered when gradients overflow and raised when they have not for a while.
    loss_scale_init : int, default 65536
        What a dynamic scale begins with.
    loss_scale_growth_interval : int, default 2000
        Steps without an overflow after which a dynamic scale is doubled.
    keep_best : int, default 0
        How many checkpoints with the best ``best_metric`` are kept, beside the newest. If it is not
        0, the model is evaluated before every checkpoint is written.
    keep_every : int, default 0
        Checkpoints whose step is a multiple of it are never deleted; 0 switches that off.
    best_metric : str, default "eval/loss"
        The metric that "best" means: "eval/loss", "eval/perplexity", "eval/bpb", "eval/accuracy",
        "eval/top5_accuracy"; of an encoder what its evaluations find, such as "eval/recall_at_10"
        or "eval/spearman"; of preferences "eval/rewards/accuracies" or "eval/rewards/margins"; or
        "train/loss" (the mean of the last ``validation_frequency`` updates); other trainers' "loss"
        and "eval_loss" are read, too.
    best_mode : {"auto", "min", "max"}, default "auto"
        Whether less or more is better; "auto" knows: less for losses, perplexity
        and bits per byte, else more.
    on_nonfinite : {"skip", "stop"}, default "skip"
        What to do about a step whose loss or gradient norm is not finite: leave it out with a
        warning, or end the run at once. It is applied in neither case.
    max_nonfinite : int, default 3
        How many skipped steps in a row, for whatever reason, end the run.
    spike_action : {"off", "warn", "skip", "stop"}, default "warn"
        What to do about a step whose loss is far above those before it: nothing, warn, leave it
        out, or end the run.
    spike_window : int, default 100
        How many of the last losses it is compared with; at least 10.
    spike_threshold : float, default 10.0
        How many deviations above their median a loss is a spike.
    max_time : str or float, default ""
        How long ``train`` may take in this process: "3h30m", "90s", or a number of seconds. It
        ends early enough to save. "" means no limit but Slurm's, where there is one.
    on_save_error : {"continue", "stop"}, default "continue"
        What happens when a checkpoint cannot be written on the way: a warning and another try at
        the next interval, or the end of the run. The last save of a run always has to succeed.
    async_save : bool, default False
        Whether checkpoints are copied to memory and written while training goes on.
    monitor_steps : int, default 100
        The monitors look every so many steps, and at the last.
    on_sink_error : {"disable", "fail"}, default "disable"
        What happens when a sink raises on the way: it is switched off with a warning, or the run
        saves and ends with its error.
    eval_batches : int, default 0
        Batches of an evaluation, of windows spread evenly over the validation split; 0 is all.
    sample_every : int, default 0
        Steps between samples of text, which go to every sink that takes text; 0: none.
    sample_prompts : list of str, default [""]
        What each sample begins with; "" is the end of a text, or a line's end.
    sample_tokens : int, default 100
        Tokens that a sample adds to its prompt.
    early_stopping_patience : int, default 0
        How many evaluations in a row without a better ``best_metric`` end the run; 0: never.
    early_stopping_min_delta : float, default 0.0
        By how much a value must be better to count, in units of the metric.
    restore_best : bool, default False
        Whether the trainer goes back to the best checkpoint when the run is complete; with it,
        every evaluation that is the best so far is saved, and one checkpoint of it is kept.
    overfit_batches : int, default 0
        Train on the windows of this many first steps, over and over, and evaluate on them: the
        loss must approach 0. 0 switches that off.
    profile_steps : int, default 0
        How many steps, after a few to warm up, are recorded kernel by kernel: ``trace.json`` in the
        run directory opens in https://ui.perfetto.dev. 0: none.
    global_batch_size : int, optional
        Rows per step of all processes together, a multiple of ``batch_size``; the number of
        micro-batches follows. Left out, those of one process, times their number.
    reduction_parts : int, optional
        Parts of a step whose gradients are added in one order for any number of processes. Left
        out, as many as there are processes when the run begins.
    rank_check_steps : int, default 100
        Steps between comparisons of the parameters of all processes; 0: none.
    stall_timeout : float, default 300
        Seconds after which processes that wait for one another in vain are ended; 0: never.
    freeze : list of str, default []
        Patterns of names of parameters that are not trained, such as "blocks.0.*": they have no
        gradient and no state of the optimizer.
    frozen_precision : {"fp32", "bf16"}, default "fp32"
        How frozen matrices are kept; "bf16" rounds them, and takes half the memory.

    Raises
    ------
    ConfigError
        If a key is unknown, or a value is of another type or out of range; also when assigned,
        and then the old value stays.

    Examples
    --------
    >>> config = TrainingConfig(batch_size=12, max_steps=2000)
    >>> config.epochs = 10
    """

    section: ClassVar[str] = "training"

    epochs: Count = 10
    batch_size: Count = 32
    learning_rate: PositiveNumber = 1e-4
    max_grad_norm: _Norm = 1.0
    save_every: CountOrZero = 1000
    checkpoint_dir: _Directory = "checkpoints"
    keep_checkpoints: CountOrZero = 3
    resume_from: Path = ""
    use_mixed_precision: Flag = False
    gradient_accumulation_steps: Count = 1
    log_gradients: Flag = False
    validation_frequency: CountOrZero = 100
    max_steps: _Steps = None
    seed: _Seed = 42
    precision: Precision = "fp32"
    threads: _Threads = None
    output_dir: Path = ""
    name: _FileName = "run"
    logging_steps: Count = 1
    resume: Path = ""
    activation_checkpointing: Checkpointing = "none"
    memory_limit: MemoryLimit = ""
    loss_scale: LossScale = "dynamic"
    loss_scale_init: StartingScale = 65536
    loss_scale_growth_interval: Count = 2000
    keep_best: CountOrZero = 0
    keep_every: CountOrZero = 0
    best_metric: BestMetric = "eval/loss"
    best_mode: BestMode = "auto"
    on_nonfinite: OnNonfinite = "skip"
    max_nonfinite: Count = 3
    spike_action: SpikeAction = "warn"
    spike_window: SpikeWindow = 100
    spike_threshold: PositiveNumber = 10.0
    max_time: Duration = ""
    on_save_error: OnSaveError = "continue"
    async_save: Flag = False
    monitor_steps: Count = 100
    on_sink_error: OnSinkError = "disable"
    eval_batches: CountOrZero = 0
    sample_every: CountOrZero = 0
    sample_prompts: Prompts = Field(default_factory=lambda: [""])
    sample_tokens: Count = 100
    early_stopping_patience: CountOrZero = 0
    early_stopping_min_delta: MinDelta = 0.0
    restore_best: Flag = False
    overfit_batches: CountOrZero = 0
    profile_steps: CountOrZero = 0
    global_batch_size: _CountOrNone = None
    reduction_parts: _CountOrNone = None
    rank_check_steps: CountOrZero = 100
    stall_timeout: _Seconds = 300.0
    freeze: NameList = Field(default_factory=list)
    frozen_precision: FrozenPrecision = "fp32"

    def check_assignment(self, name: str, value: object) -> None:
        """Refuse mixed precision where float32 was asked for."""
        wants_fp32 = "precision" in self.model_fields_set and self.precision == "fp32"
        if name == "use_mixed_precision" and value is True and wants_fp32:
            raise ConfigError(_CONTRADICTION)

    def follow(self) -> None:
        """Set a precision that was never given to what ``use_mixed_precision`` means."""
        if "precision" not in self.model_fields_set:
            self.__dict__["precision"] = "auto" if self.use_mixed_precision else "fp32"

    @field_validator("precision")
    @classmethod
    def _mixed(cls, value: str, info: ValidationInfo) -> str:
        if value == "fp32" and info.data.get("use_mixed_precision"):
            raise refused(_CONTRADICTION)
        return value

    @field_validator("global_batch_size")
    @classmethod
    def _whole(cls, value: int | None, info: ValidationInfo) -> int | None:
        """Refuse rows that are not whole micro-batches, or that contradict their number."""
        rows, steps = info.data.get("batch_size", 1), info.data.get("gradient_accumulation_steps")
        if value is not None and value % rows:
            raise refused(
                f"training.global_batch_size: expected a multiple of batch_size = {rows}, "
                f"got {value}"
            )
        if value is not None and steps not in (None, 1):
            raise refused(
                f"training.global_batch_size: expected gradient_accumulation_steps to be left "
                f"out, since it follows, got {steps}; keep one of the two"
            )
        return value

    @field_validator("resume", "resume_from")
    @classmethod
    def _agree(cls, value: str, info: ValidationInfo) -> str:
        other: Any = {"resume": "resume_from", "resume_from": "resume"}[info.field_name or ""]
        given = info.data.get(other, "")
        if value and given and value != given:
            raise refused(
                f"training.{info.field_name}: expected the same as {other} = {show(given)}, "
                f"got {show(value)}; keep one of the two"
            )
        return value

    @property
    def resume_target(self) -> str:
        """What the run resumes from, by either spelling: "", "auto" or a path."""
        return self.resume or self.resume_from

    @property
    def micro_batches_per_update(self) -> int:
        """Micro-batches of one update of all processes."""
        return self.rows_per_update // self.batch_size

    @property
    def rows_per_update(self) -> int:
        """Rows of one update of all processes, cut into micro-batches of ``batch_size``."""
        return self.global_batch_size or self.batch_size * self.gradient_accumulation_steps
