"""When and where the state of a run is saved, and what is done when the disk refuses."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from tisslm import checkpoint
from tisslm.checkpoint.owner import Owner
from tisslm.checkpoint.resume import was_begun
from tisslm.checkpoint.run_directory import RunDirectory
from tisslm.checkpoint.saver import is_failed_write
from tisslm.errors import CheckpointError, RunDirectoryError, SinkError
from tisslm.tracking.environment import describe_environment
from tisslm.training.ranks.agreement import first_says
from tisslm.training.refusals.incident_files import set_aside
from tisslm.training.session import Session

__all__ = ["Saves"]


class Saves:
    """The run directory while the run goes on, and the checkpoints in it.

    Parameters
    ----------
    session : Session

    Attributes
    ----------
    begun : bool
        Whether the directory has what this very run began.
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        self._owner: Owner | None = None
        self.begun = False
        self._saved: tuple[int, int] | None = None

    @contextmanager
    def owned(self) -> Iterator[None]:
        """Keep other processes out of the run directory, on the rank that writes there."""
        if self.session.parts.communicator.rank != 0:
            yield
            return
        with Owner(self.session.run.path) as self._owner:
            yield

    def claim(self) -> None:
        """Make the directory this run's, and take the memory that saving needs."""
        session = self.session
        if isinstance(session.run, RunDirectory):
            self._prepare_files(session.run)
        self.finish()  # of a train() that a second signal ended
        nbytes = session.make_saver()
        session.leaving.save_seconds = lambda: session.saver.expected_seconds(nbytes)

    def _prepare_files(self, run: RunDirectory) -> None:
        """Set aside what an earlier run has left there, and describe this one."""
        session = self.session
        if session.config.resume_target == "auto":
            run.refuse_strangers()
            self.begun = was_begun(run, session.settings)
        run.clean()
        run.write_config(session.settings)
        run.write_environment(describe_environment())
        run.write_declared(session.parts.own.declared)
        checkpoint.clean(run.checkpoints)
        checkpoint.set_aside(run.checkpoints, session.state.step)
        set_aside(run.path, session.state.position)

    def _make_durable(self) -> None:
        """Put on disk what a checkpoint of now must not be without: the metrics up to here."""
        self.confirm()
        self.session.parts.sinks.sync()

    def confirm(self) -> None:
        """Make sure that the directory is there and this run's: whatever writes in it asks."""
        self.session.run.confirm()
        if self._owner is not None:
            self._owner.confirm()

    def on_the_way(self) -> None:
        """Save on the way; what the disk refuses is told, and tried again at the next interval."""
        session, policy = self.session, self.session.config.on_save_error
        self._make_durable()
        self._attempt(session.saver.wait, policy)
        saved = self._attempt(session.save, policy)
        self._saved = self._position() if saved else None

    def finish(self) -> None:
        """Wait for what is being written; its failure is told, for a save of now follows."""
        self._attempt(self.session.saver.wait, "continue")

    def _attempt(self, action: Callable[[], None], policy: str) -> bool:
        """Tell whether an action could be done; what is no fault of a disk is raised."""
        try:
            action()
        except CheckpointError as error:
            self.session.run.confirm()  # that the directory has gone says more
            if policy == "stop" or not is_failed_write(error):
                raise
            warnings.warn(
                f"{error}. Training goes on and tries again when the next checkpoint is due",
                RuntimeWarning,
                stacklevel=2,
            )
            return False
        return True

    def last(self) -> None:
        """Save the state of the last update, unless that is what was saved last."""
        session = self.session
        self.finish()
        is_due = self._saved != self._position() or bool(session.saver.failures)
        if first_says(session.parts.communicator, is_due):
            self._make_durable()
            session.save_now()

    def before_error(self) -> None:
        """Save what was reached when a sink, a schedule or unreadable data end the run."""
        session = self.session
        if not session.leaving.progressed:
            return
        session.parts.optimizer.zero_grad()  # those of a window that is dropped
        session.leaving.announce(f"saving at step {session.state.step}")
        with suppress(SinkError):  # of another sink
            self.last()

    def elsewhere(self, lost: RunDirectoryError) -> None:
        """Save in the directory that was renamed, or in one that is made anew and whole.

        Raises
        ------
        RunDirectoryError
        """
        session = self.session
        if not session.run.recover():
            raise RunDirectoryError(
                f"{lost}, and nothing was written there; choose another training.output_dir"
            ) from lost
        if self._owner is not None:
            self._owner.move(session.run.path)
        session.run.write_config(session.settings)
        session.run.write_environment(describe_environment())
        session.run.write_declared(session.parts.own.declared)
        with suppress(CheckpointError, RunDirectoryError):  # of the thread that saves
            session.saver.wait()
        session.parts.optimizer.zero_grad()  # those of a window that is dropped
        self._saved = None
        self.last()
        raise RunDirectoryError(
            f"{lost}; the run was saved in {session.run.path} at step {session.state.step} and "
            "ends; go on there with training.output_dir and --resume auto"
        ) from lost

    def _position(self) -> tuple[int, int]:
        return self.session.state.step, self.session.state.position
