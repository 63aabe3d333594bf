"""Many small models trained at once: lm.train for a sweep over seeds, learning rates and data.

A step of a small model costs more in calls than in arithmetic. Models of one shape that see batches of one shape share
the calls (lm/ensemble/stacked_model.py); everything else is theirs alone: data, loss, clipping, optimizer, history,
checkpoints.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from lm.config import TrainConfig
from lm.data.batches import feeds
from lm.ensemble.group import Crew, Member, Source
from lm.ensemble.stacked_model import Unstackable
from lm.model import Decoder
from lm.training.checkpoint import checkpoints
from lm.training.loop import check, check_loss, check_weights, log_row, where
from lm.training.signals import postponed
from lm.training.train_state import Diverged, History, Recorder, held, restore_run, save_run, silent
from synth.errors import UserError
from synth.mixture import Stream, corpus_of
from synth.task import Task

VARY = ("lr", "betas", "eps", "weight_decay", "warmup", "schedule", "final_lr", "clip")  # all else must be equal
NEUTRAL = {name: getattr(TrainConfig(steps=1), name) for name in VARY}
Progress = Callable[[int, int], None]  # number of the model in the list, its step


def train_many(
    models: Sequence[Decoder],
    tasks: Sequence[Task],
    configs: Sequence[TrainConfig],
    data_seeds: Sequence[int],
    order_seeds: Sequence[int] | None = None,
    folders: Sequence[str | Path] | None = None,
    checkpoint_every: int | None = None,
    log_every: int = 10,
    progress: Progress | None = None,
) -> list[History | Diverged]:
    """Train every model in place as `lm.training.loop.train` would with its part of each list, and return the
    histories.

    The losses are those of lm.train to about 1e-4 over some hundred steps, not bit for bit: sums are taken in another
    order. But whatever the company, and alone, a model gets the same weights, bit for bit (on a CPU, with the same
    number of threads), so that a result does not show who was trained with whom. `seconds` is a model's share of the
    time of all. Checkpoints and metrics.jsonl in a model's folder are those of lm.train, so that either goes on where
    the other was stopped; models whose checkpoints stand at different steps go on in groups of equal steps. A model
    that diverges is taken out, with the error in place of its history, and the rest go on. `progress(number, step)` at
    every row.

    Raises Unstackable, which is a UserError, for models or settings that cannot be trained together, and UserError as
    lm.train does.
    """
    homes = [None] * len(models) if folders is None else [Path(folder) for folder in folders]
    parts = (models, tasks, configs, data_seeds, order_seeds or [0] * len(models), homes)
    members = [Member(number, *part) for number, part in enumerate(zip(*parts, strict=True))]
    _check_alike(members)
    told = progress or (lambda number, step: None)
    results: dict[int, History | Diverged] = {}
    for group in _by_step(members):
        results |= _together(group, checkpoint_every, log_every, told)
    return [results[number] for number in range(len(members))]


def alike(config: TrainConfig) -> TrainConfig:
    """The settings without those that may differ from model to model: equal for settings that can go together."""
    return replace(config, **NEUTRAL)


def _check_alike(members: Sequence[Member]) -> None:
    """Raise Unstackable where the group is none."""
    if not members:
        return
    for what, values in (
        ("configurations", {m.model.config for m in members}),
        ("vocabularies", {m.model.vocab_size for m in members}),
        (f"settings beside {', '.join(VARY)}", {alike(m.config) for m in members}),
    ):
        if len(values) > 1:
            raise Unstackable(f"models of different {what} cannot be trained together; make a group of each kind")
    if members[0].config.accumulate > 1:
        raise Unstackable("accumulate > 1 is for batches that fill the memory; set it to 1 or train one by one")
    if any(not p.requires_grad for m in members for p in m.model.parameters()):
        raise Unstackable("models with frozen weights cannot be trained together; train them one by one")
    if where().num_processes > 1:
        raise Unstackable("several ranks train one model; start a single process to train several")


def _by_step(members: Sequence[Member]) -> list[list[Member]]:
    """The members in groups that have come equally far."""
    groups: dict[str, list[Member]] = defaultdict(list)
    for member in members:
        found = checkpoints(member.home) if member.home else []
        groups[found[-1].name if found else ""].append(member)
    return list(groups.values())


def _together(
    group: Sequence[Member], checkpoint_every: int | None, log_every: int, told: Progress
) -> dict[int, History | Diverged]:
    """Train a group that has come equally far. See `train_many`."""
    with ExitStack() as stack:
        corpora = _begin(group, log_every, stack)
        steps, first = group[0].config.steps, group[0].run.step
        # an error ends all at once, so the group is asked to save before a signal ends it, as in lm.train
        stopping = stack.enter_context(postponed()) if any(m.home for m in group) else []
        records = {m.number: stack.enter_context(Recorder(m.home, m.run, m.config, silent)) for m in group}
        flows = {m.stream: feeds(corpora[m.stream], m.config, m.run.cursor, steps - first) for m in group}
        crew = Crew(group)
        for step in range(first + 1, steps + 1):
            crew.step({stream: next(flows[stream]) for stream in {m.stream for m in crew.members}}, step - 1)
            stop = bool(stopping)  # asked once a step: what comes later waits for the next one to be saved
            save = step == steps or stop or bool(checkpoint_every and step % checkpoint_every == 0)
            log = step == steps or step % log_every == 0
            if not (log or save):
                continue
            crew.settle(log, save)
            for member in list(crew.members):
                try:
                    _keep(member, log, log_every, records[member.number], save)
                except Diverged as error:
                    crew.lost[member.number] = error
                else:
                    told(member.number, step)
            if stop and step < steps:
                raise KeyboardInterrupt
            if crew.without_the_lost() is None:
                break
        return {m.number: crew.lost.get(m.number, m.run.history) for m in group}


def _begin(group: Sequence[Member], log_every: int, stack: ExitStack) -> dict[Source, Stream]:
    """Hold the folders, restore what they hold, and return the corpora, each once."""
    corpora: dict[Source, Stream] = {}
    for member in group:
        config = member.config
        if member.stream not in corpora:
            source = (member.task, member.data_seed, "train", config.window, config.packing, member.order_seed)
            corpora[member.stream] = corpus_of(*source)
        check(member.model, corpora[member.stream], config, 1)
        member.begin(corpora[member.stream], log_every)
        if member.home:
            stack.enter_context(held(member.home))
            restore_run(member.home, member.identity, member.model, member.run)
    if len({member.run.step for member in group}) > 1:
        raise UserError("another process has trained some of these models meanwhile; run again")
    return corpora


def _keep(member: Member, log: bool, log_every: int, record: Callable[[], None], save: bool) -> None:
    """Log and save one model, as lm.train does. Raises Diverged before anything not finite is kept."""
    check_loss(member.run)
    if log:
        log_row(member.run, member.config, log_every)
        record()
    if save:
        check_weights(member.model, member.run)
    if save and member.home:
        save_run(member.home, member.identity, member.model, member.run)
