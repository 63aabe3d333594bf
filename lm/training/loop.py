"""The one training loop. Protocol of Part 1 (arXiv 2305.13673): AdamW, linear decay, windows of joined documents."""

import math
import time
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from lm.causality import require_causality
from lm.config import TrainConfig
from lm.data.batches import Feed, feeds
from lm.mixers import is_file
from lm.model import Decoder
from lm.training.distributed import anywhere, collect, spread, where, whole
from lm.training.malloc import keep_freed_memory
from lm.training.signals import postponed
from lm.training.step import learning_rate, stepper
from lm.training.train_state import (
    Diverged,
    Follow,
    History,
    Progress,
    Recorder,
    Run,
    held,
    identity_of,
    restore_alike,
    save_run,
    silent,
)
from lm.validation import check_batch
from synth.errors import UserError
from synth.mixture import Stream, corpus_of
from synth.task import Task


def train(
    model: Decoder,
    task: Task,
    config: TrainConfig,
    data_seed: int,
    order_seed: int = 0,
    folder: str | Path | None = None,
    checkpoint_every: int | None = None,
    log_every: int = 10,
    progress: Progress | None = None,
    follow: Follow | None = None,
) -> History:
    """Train `model` in place on the training split of `task` and return its history.

    With a folder, rows go to metrics.jsonl as they come and a checkpoint is written every `checkpoint_every` steps, at
    the end, and before a signal (lm/training/signals.py) ends it; the same call with the same folder goes on from the
    last checkpoint and ends with the same weights, bit for bit (on a CPU, with the same number of threads). Under
    `accelerate launch` or torchrun each rank trains on its rows of the same global batch (lm/training/distributed.py),
    checkpoints are those of one process, ranks stop for a signal at the next row, and with FSDP the model is left on
    the CPU. `progress(step, steps, loss)` is called at every row; without it a terminal shows a bar. `follow(row)` is
    called with every row of the history (lm.training.trackers shows them), those of an earlier attempt first. Of
    several ranks the first alone calls them.

    Raises UserError when the settings do not fit each other, when the checkpoint belongs to another run or is damaged,
    when one cannot be written, and when another process is training in the folder; Diverged, which is one, when the
    loss is not finite.
    """
    place = where()
    corpus = corpus_of(task, data_seed, "train", config.window, config.packing, order_seed)
    check(model, corpus, config, place.num_processes)
    home = Path(folder) if folder is not None else None
    identity = identity_of(model, task, config, data_seed, order_seed, log_every) if home else {}
    part = spread(model, place)
    run = begin(part, corpus, config)
    with ExitStack() as stack:
        if home:
            if place.is_main_process:
                stack.enter_context(held(home))
            restore_alike(home, identity, part, run, place)
        stopping = stack.enter_context(postponed()) if home else []
        told = (home, run, config, progress, follow) if place.is_main_process else (None, run, config, silent)
        record = stack.enter_context(Recorder(*told))
        step = stepper(part, config, run.optimizer, place)
        began = time.perf_counter() - run.history.seconds
        for data in feeds(corpus, config, run.cursor, config.steps - run.step):
            loss = step(data, run.step)
            advance(run, data, loss)
            last = run.step == config.steps
            log = last or run.step % log_every == 0
            save = last or bool(checkpoint_every and run.step % checkpoint_every == 0)
            # asked once a step: what comes later waits for the next one to be saved. Ranks, that stand at different
            # steps when a signal comes, only ask each other where they wait for the loss anyway
            stop = anywhere(bool(stopping), place) if log or save or place.num_processes == 1 else False
            if not (log or save or stop):
                continue
            check_loss(run)
            run.history.seconds = time.perf_counter() - began
            if log:
                log_row(run, config, log_every)
                record()
            if save or stop:
                check_weights(part, run)
            if home and (save or stop):
                save_run(home, identity, part, run, place.is_main_process)
            if stop and not last:
                place.wait_for_everyone()  # launchers end those that are left, and the first rank is still writing
                raise KeyboardInterrupt
        collect(part, model)  # before a signal that came at the last step ends one of the ranks
    return run.history


def begin(model: Decoder, corpus: Stream, config: TrainConfig) -> Run:
    """The state of step 0, with the model on the device of this process."""
    keep_freed_memory()
    model.to(where().device)
    run = Run(make_optimizer(model, config), corpus.start())
    if corpus.items is not None:
        run.history.exposures = np.zeros(corpus.items, np.int64)
    return run


def check(model: Decoder, corpus: Stream, config: TrainConfig, ranks: int) -> None:
    """Raise UserError when model, data and settings do not fit each other."""
    model.check_length(config.window)
    check_batch(config)
    if model.config.causal != (config.objective == "causal"):
        raise UserError(
            f"objective={config.objective} does not train a model with causal={model.config.causal}; "
            "an encoder (causal=False) takes objective=masked, any other objective=causal"
        )
    if is_file(model.config.mixer):
        require_causality(model, config.isolate)
    needed = model.config.ids(corpus.vocab)
    if model.vocab_size < needed:
        raise UserError(f"the model has {model.vocab_size} ids and the task needs {needed}; use vocab_size={needed}")
    if config.batch % (ranks * config.accumulate):
        raise UserError(
            f"batch={config.batch} does not split over {ranks} ranks and accumulate={config.accumulate}; "
            f"make it a multiple of {ranks * config.accumulate}"
        )


def make_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.AdamW:
    """AdamW with weight decay on matrices and tables only, not on biases and norms."""
    matrices = [p for p in model.parameters() if p.requires_grad and p.ndim > 1]
    vectors = [p for p in model.parameters() if p.requires_grad and p.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": config.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=config.lr, betas=config.betas, eps=config.eps, fused=True)


def advance(run: Run, data: Feed, loss: Tensor | float) -> None:
    """Count a batch that has reached the optimizer."""
    run.step += 1
    run.cursor = data.cursor
    run.pending = run.pending + loss  # stays on the device: reading it here would make a GPU wait at every step
    run.history.tokens += data.tokens
    run.history.documents += data.ended
    if run.history.exposures is not None:
        run.history.exposures += np.bincount(data.items, minlength=len(run.history.exposures))


def check_loss(run: Run) -> None:
    """Raise Diverged before anything not finite is logged or saved."""
    run.pending = float(run.pending)
    if not math.isfinite(run.pending):
        where = f"at or before step {run.step}"
        message = f"the loss {where} is not finite; lower lr, lengthen warmup or set clip to 1"
        raise Diverged(message, run.step, run.history)


def check_weights(model: Decoder, run: Run) -> None:
    """Raise Diverged rather than save weights that one bad update has ruined: the earlier checkpoint is still good."""
    if not all(bool(whole(torch.isfinite(p).all())) for p in model.parameters()):
        message = f"weights are no longer finite at step {run.step}; lower lr, lengthen warmup or set clip to 1"
        raise Diverged(message, run.step, run.history)


def log_row(run: Run, config: TrainConfig, log_every: int) -> None:
    """Add the row of the steps since the last one to the history."""
    since = (run.step - 1) % log_every + 1
    history = run.history
    history.append(
        {
            "step": run.step,
            "tokens": history.tokens,
            "documents": history.documents,
            "loss": run.pending / since,
            "lr": learning_rate(config, run.step - 1),
            "seconds": history.seconds,
        }
    )
    run.pending = 0.0
