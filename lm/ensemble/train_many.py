"""Train many small models at once: lm.train for a sweep over seeds, learning rates and data.

A step of a small model costs more in operator calls than in arithmetic. Models of one shape with batches of one shape
share the calls (lm/ensemble/stacked_model.py); data, loss, clipping, optimizer, history and checkpoints stay separate.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from lm.config import TrainConfig
from lm.data.batches import TrainBatch, prefetch_batches
from lm.ensemble.group import Ensemble, Member, OnModelSnapshot, StreamKey
from lm.ensemble.stacked_model import Unstackable
from lm.model import Decoder
from lm.training.checkpoint import list_checkpoints
from lm.training.history import Diverged, History, MetricsLogger, no_progress
from lm.training.lock import exclusive_lock
from lm.training.loop import append_log_row, check_settings, dist_context, require_finite_loss, require_finite_weights
from lm.training.signals import defer_signals
from lm.training.snapshots import check_snapshots
from lm.training.train_state import restore_checkpoint, save_checkpoint
from synth.errors import UserError
from synth.mixture import AnyCorpus, make_corpus
from synth.task import TrainingData

# All else must be equal.
PER_MODEL_SETTINGS = "lr betas eps weight_decay warmup_steps schedule min_lr_ratio max_grad_norm".split()
PER_MODEL_DEFAULTS = {name: getattr(TrainConfig(steps=1), name) for name in PER_MODEL_SETTINGS}
OnModelStep = Callable[[int, int], None]  # number of the model in the list, its step


@dataclass(frozen=True)
class _Schedule:
    """When models are saved, logged and evaluated, and what is called then; see `train_many`."""

    checkpoint_every: int | None
    log_every: int
    on_step: OnModelStep
    snapshot_steps: Collection[int]
    on_snapshot: OnModelSnapshot | None


def train_many(
    models: Sequence[Decoder],
    tasks: Sequence[TrainingData],
    configs: Sequence[TrainConfig],
    data_seeds: Sequence[int],
    order_seeds: Sequence[int] | None = None,
    folders: Sequence[str | Path] | None = None,
    checkpoint_every: int | None = None,
    log_every: int = 10,
    on_step: OnModelStep | None = None,
    snapshot_steps: Collection[int] = (),
    on_snapshot: OnModelSnapshot | None = None,
) -> list[History | Diverged]:
    """Train every model in place as `lm.training.loop.train` would with its part of each list, and return the
    histories.

    Losses agree with lm.train to about 1e-4 over some hundred steps, not bit for bit, because sums are taken in another
    order. Weights are bit-identical whatever else is in the group, also in a group of one (on a CPU with the same
    number of threads). `seconds` in a history is the model's share of the group's time. Checkpoints and metrics.jsonl
    are those of lm.train: either function resumes what the other left; models whose checkpoints are at different steps
    are trained in groups of equal steps. A model that diverges is dropped, with the error in place of its history.
    on_step(number, step) is called at every row, number being the model's index. on_snapshot(number, step, model) is
    called with every model as in lm.train; a model for which it returns True ends there, and the others go on.

    Raises Unstackable, which is a UserError, for models or settings that cannot be trained together, and UserError as
    lm.train does.
    """
    paths = [None] * len(models) if folders is None else [Path(folder) for folder in folders]
    parts = (models, tasks, configs, data_seeds, order_seeds or [0] * len(models), paths)
    members = [Member(number, *part) for number, part in enumerate(zip(*parts, strict=True))]
    _check_stackable(members)
    report = on_step or (lambda number, step: None)
    schedule = _Schedule(checkpoint_every, log_every, report, snapshot_steps, on_snapshot)
    results: dict[int, History | Diverged] = {}
    for group in _group_by_step(members):
        results |= _train_group(group, schedule)
    return [results[number] for number in range(len(members))]


def shared_settings(config: TrainConfig) -> TrainConfig:
    """The settings with those that may differ between models at their defaults: equal within a group."""
    return replace(config, **PER_MODEL_DEFAULTS)


def _check_stackable(members: Sequence[Member]) -> None:
    """Raise Unstackable unless the models can be trained together."""
    if not members:
        return
    for what, values in (
        ("configurations", {m.model.config for m in members}),
        ("vocabularies", {m.model.vocab_size for m in members}),
        (f"settings beside {', '.join(PER_MODEL_SETTINGS)}", {shared_settings(m.config) for m in members}),
    ):
        if len(values) > 1:
            raise Unstackable(f"models of different {what} cannot be trained together; make a group of each kind")
    if members[0].config.grad_accum_steps > 1:
        raise Unstackable("grad_accum_steps > 1 is for batches that fill the memory; set it to 1 or train one by one")
    if any(not p.requires_grad for m in members for p in m.model.parameters()):
        raise Unstackable("models with frozen weights cannot be trained together; train them one by one")
    if dist_context().num_processes > 1:
        raise Unstackable("several ranks train one model; start a single process to train several")


def _group_by_step(members: Sequence[Member]) -> list[list[Member]]:
    """The members grouped by the step of their last checkpoint."""
    groups: dict[str, list[Member]] = defaultdict(list)
    for member in members:
        found = list_checkpoints(member.folder) if member.folder else []
        groups[found[-1].name if found else ""].append(member)
    return list(groups.values())


def _train_group(group: Sequence[Member], schedule: _Schedule) -> dict[int, History | Diverged]:
    """Train members that are all at the same step; see `train_many`."""
    every, log_every, on_snapshot = schedule.checkpoint_every, schedule.log_every, schedule.on_snapshot
    snapshots = check_snapshots(schedule.snapshot_steps, on_snapshot, group[0].config)
    with ExitStack() as stack:
        corpora = _init_group(group, log_every, stack)
        steps, first = group[0].config.steps, group[0].state.step
        # an exception would end all models at once, so a signal is deferred until they are saved, as in lm.train
        stopping = stack.enter_context(defer_signals()) if any(m.folder for m in group) else []
        loggers: dict[int, Callable[[], None]] = {}
        batches: dict[StreamKey, Iterator[TrainBatch]] = {}
        for m in group:
            loggers[m.number] = stack.enter_context(MetricsLogger(m.folder, m.state, m.config, no_progress))
        active = [m for m in group if not m.state.ended]
        for m in active:
            corpus = corpora[m.stream_key]
            batches[m.stream_key] = prefetch_batches(corpus, m.config, m.state.cursor, steps - first)
        if not active:
            return {m.number: m.state.history for m in group}
        ensemble = Ensemble(active)
        for step in range(first + 1, steps + 1):
            streams = {m.stream_key for m in ensemble.members}
            ensemble.step({stream: next(batches[stream]) for stream in streams}, step - 1)
            stop = bool(stopping)  # read once a step: a later signal waits for the next step
            save = step == steps or stop or bool(every and step % every == 0)
            log = step == steps or step % log_every == 0
            if not (log or save or step in snapshots):
                continue
            ensemble.sync_histories(log, save or step in snapshots)
            if step in snapshots and on_snapshot is not None:
                ensemble.take_snapshots(on_snapshot)
            for member in ensemble.still_finite():
                last = member.state.ended
                if not (log or save or last):
                    continue
                try:
                    _log_and_save(member, log or last, log_every, loggers[member.number], save or last)
                except Diverged as error:
                    ensemble.diverged[member.number] = error
                else:
                    schedule.on_step(member.number, step)
            if ensemble.drop_finished() is None:
                break
            if stop and step < steps:
                raise KeyboardInterrupt
        return {m.number: ensemble.diverged.get(m.number, m.state.history) for m in group}


def _init_group(group: Sequence[Member], log_every: int, stack: ExitStack) -> dict[StreamKey, AnyCorpus]:
    """Lock the folders, restore their checkpoints, and return one corpus for each stream."""
    corpora: dict[StreamKey, AnyCorpus] = {}
    for member in group:
        config = member.config
        if member.stream_key not in corpora:
            source = (member.task, member.data_seed, "train", config.seq_len, config.packing, member.order_seed)
            corpora[member.stream_key] = make_corpus(*source)
        check_settings(member.model, corpora[member.stream_key], config, 1)
        member.init_state(corpora[member.stream_key], log_every)
        if member.folder:
            stack.enter_context(exclusive_lock(member.folder))
            restore_checkpoint(member.folder, member.fingerprint, member.model, member.state)
    if len({member.state.step for member in group}) > 1:
        raise UserError("another process has trained some of these models meanwhile; run again")
    return corpora


def _log_and_save(member: Member, log: bool, log_every: int, record: Callable[[], None], save: bool) -> None:
    """Log and save one model as lm.train does. Raises Diverged before anything not finite is logged or saved."""
    require_finite_loss(member.state)
    if log:
        append_log_row(member.state, member.config, log_every)
        record()
    if save:
        require_finite_weights(member.model, member.state)
    if save and member.folder:
        save_checkpoint(member.folder, member.fingerprint, member.model, member.state)
