"""Where a run stands, in the words of the Trainer: its steps, epochs, losses, and what is left.

What does not live here: how the position is kept and saved (``trainer_state``), and what moves it
(``update``).
"""

from __future__ import annotations

from tisslm.config import TrainingConfig
from tisslm.contracts import Dataset
from tisslm.loss_history import LossHistory
from tisslm.loss_scaling import LossScaler
from tisslm.trainer_state import TrainerState

__all__ = ["Position"]


class Position:
    """What a Trainer says of its position; whoever inherits sets the attributes.

    Attributes
    ----------
    state : TrainerState
    config : TrainingConfig
    dataset : Dataset or None
        What it trains on.
    scaler : LossScaler
    """

    state: TrainerState
    config: TrainingConfig
    dataset: Dataset | None
    scaler: LossScaler

    @property
    def loss_history(self) -> LossHistory:
        """The loss of every update, in nats."""
        return self.state.loss_history

    @property
    def current_step(self) -> int:
        """Number of updates made."""
        return self.state.step

    @property
    def current_epoch(self) -> int:
        """Number of passes over the dataset that are complete."""
        return self.state.epoch

    @property
    def skipped_steps(self) -> int:
        """Number of steps that made no update; each has used up its windows."""
        return self.state.skipped

    @property
    def loss_scale(self) -> float:
        """What the gradients of the next step are multiplied by."""
        return self.scaler.scale

    @property
    def rows_per_update(self) -> int:
        """Rows of one update."""
        return self.config.batch_size * self.config.gradient_accumulation_steps

    @property
    def steps_per_epoch(self) -> int:
        """Batches of one pass over the dataset, the last of which may be smaller."""
        return 0 if self.dataset is None else -(-len(self.dataset) // self.rows_per_update)
