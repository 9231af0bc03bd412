"""From the parts that a Trainer was given to a session that can make steps.

Everything that can be refused is refused here: parts are built and checked against each other, data
are fitted to the model, the run is planned within its memory, and its directory is opened.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tisslm import checkpoint
from tisslm.checkpoint.remote_run import RemoteRun
from tisslm.checkpoint.resume import keeping, open_run
from tisslm.checkpoint.run_directory import RunDirectory
from tisslm.config import TrainingConfig
from tisslm.contracts import Communicator, Dataset, Encoder, Model
from tisslm.memory.freezing import check_frozen
from tisslm.registry import Registry
from tisslm.tracking.monitoring import Monitoring, wants_of
from tisslm.tracking.pass_arrays import Room, planned_room
from tisslm.training.batches import few_windows, fit_dataset, steps_per_epoch
from tisslm.training.components import (
    Components,
    Given,
    Wanted,
    build_components,
    check_kept,
    describe,
    named_options,
)
from tisslm.training.early_stopping import (
    Stopping,
    check_average,
    check_bytes,
    check_evaluations,
    check_metric,
)
from tisslm.training.interruption import Leaving
from tisslm.training.memory_plan.passes import resolve_precision
from tisslm.training.memory_plan.planner import Planner, RunPlan, settle
from tisslm.training.ranks.agreement import check_alike, check_weights, first_says
from tisslm.training.ranks.placing import place_ranks
from tisslm.training.ranks.share import for_ranks
from tisslm.training.samples import make_sampler
from tisslm.training.session import Session
from tisslm.training.snapshot import Conditions, Snapshot
from tisslm.training.state import LossHistory, TrainerState
from tisslm.training.step import Step

__all__ = ["compose"]


def compose(
    wanted: Wanted,
    given: Given,
    config: TrainingConfig,
    registry: Registry,
    *,
    settings: Mapping[str, Any] | None = None,
    plan: RunPlan | None = None,
) -> tuple[Session, checkpoint.Where | None]:
    """Build the parts of a run, and the session that trains by them.

    Parameters
    ----------
    wanted, given : Wanted, Given
    config : TrainingConfig
    registry : Registry
        Where names are looked up.
    settings : mapping, optional
        The whole resolved configuration; left out, it is described by the parts.
    plan : RunPlan, optional
        What was settled before the model took its memory, for these parts; its monitors take the
        place of those that are wanted. Left out, the run is planned here.

    Returns
    -------
    session : Session
        Before its first step.
    saved : str, Path, Found or None
        The checkpoint that the run is to go on from.

    Raises
    ------
    TissLMError
        If names, options, data or sizes do not fit, or the run directory is not to be used.
    """
    communicator = registry.build("communicator", wanted.communicator)
    wanted = replace(wanted, communicator=communicator)
    config = for_ranks(config, communicator.size)
    places = place_ranks(communicator, config.threads)
    given = _fitted(given, config)
    if plan is None:
        plan = _plan(wanted, given, config, registry)
    given.model.prepare(**plan.passes._asdict())
    per_epoch = steps_per_epoch(given.dataset, config)
    max_steps = config.max_steps or config.epochs * max(1, per_epoch)
    precision = plan.passes.precision
    parts = build_components(registry, wanted, given, plan.monitors, config, precision, max_steps)
    settings = describe(config, parts) if settings is None else settings
    session, saved = _session(config, settings, parts, plan, max_steps, registry)
    session.places = places
    return session, saved


def _fitted(given: Given, config: TrainingConfig) -> Given:
    """Check model and data against each other, and return what the run reads of the data."""
    model, tokenizer = given.model, given.tokenizer
    if not isinstance(model, Encoder):
        check_kept("model", model, Model)
    check_frozen(model.parameters, config.freeze)
    for dataset, where in ((given.dataset, "dataset"), (given.val_dataset, "val_dataset")):
        if dataset is not None:
            check_kept(where, dataset, Dataset)
            fit_dataset(dataset, model, where, config.rows_per_update, config.seed)
    tokenizer = tokenizer or (None if given.dataset is None else given.dataset.tokenizer)
    train, valid = few_windows(given.dataset, given.val_dataset, config)
    return replace(given, dataset=train, val_dataset=valid, tokenizer=tokenizer)


def _plan(wanted: Wanted, given: Given, config: TrainingConfig, registry: Registry) -> RunPlan:
    """Settle how a run is made that was composed in Python."""
    planner = Planner(
        given.model,
        config,
        wanted.optimizer,
        registry,
        datasets=(given.dataset, given.val_dataset),
        precision=resolve_precision(config.precision),
        monitors=tuple(wanted.monitors),
        ranks=wanted.communicator.size,
        averages=wanted.ema is not None,
    )
    return settle(planner)


def _open_run(
    config: TrainingConfig, settings: Mapping[str, Any], communicator: Communicator
) -> tuple[RunDirectory | RemoteRun, checkpoint.Where | None]:
    """Return the run's directory, and what it goes on from, as rank 0 decides."""
    run, saved = open_run(config, settings) if communicator.rank == 0 else (None, None)
    told = None if run is None else [str(run.path), None if saved is None else str(saved.path)]
    path, place = first_says(communicator, told)
    return (RemoteRun(path, config.checkpoint_dir), place) if run is None else (run, saved)


def _session(
    config: TrainingConfig,
    settings: Mapping[str, Any],
    parts: Components,
    plan: RunPlan,
    max_steps: int,
    registry: Registry,
) -> tuple[Session, checkpoint.Where | None]:
    """Put around the parts what acts on them, and open the run directory."""
    precision, has_valid = plan.passes.precision, parts.val_dataset is not None
    communicator = parts.communicator
    sampler = make_sampler(parts.model, parts.tokenizer, config) if not communicator.rank else None
    check_evaluations(config, parts.scheduler.needs_evaluations, has_valid)
    check_bytes(config, parts.tokenizer is not None)
    check_average(config, parts.average is not None)
    check_metric(config, parts.own.comparable)
    leaving, stopping = Leaving(parts.communicator), Stopping(config, parts.own.declared)
    wants, rows = wants_of(parts.monitors), config.batch_size
    room = Room(planned_room(wants, parts.model, rows, plan.time, precision))
    monitoring = Monitoring(parts.monitors, parts.model, room)
    conditions = Conditions(
        parts,
        config,
        precision,
        scheduler=settings.get("scheduler") or {},
        optimizer=named_options(parts.optimizer),
        loss=named_options(parts.loss),
    )
    if communicator.size > 1:
        check_alike(communicator, {**conditions.as_json(), "configuration": settings})
        check_weights(communicator, parts.model.parameters.data, 0)
        for frozen in (parts.model.parameters.frozen_data, parts.model.parameters.stored_data):
            check_weights(communicator, frozen, 0)
    run, saved = _open_run(config, settings, communicator)
    session = Session(
        config=config,
        settings=settings,
        parts=parts,
        passes=plan.passes,
        planned=plan.nbytes,
        imports=plan.imports,
        max_steps=max_steps,
        step=Step(parts, config, precision, monitoring, leaving.check, max_steps),
        snapshot=Snapshot(conditions, stopping, registry),
        run=run,
        retention=keeping(config, has_valid, parts.own.declared),
        leaving=leaving,
        stopping=stopping,
        sampler=sampler,
        state=TrainerState(loss_history=LossHistory(room=max_steps)),
    )
    return session, saved
