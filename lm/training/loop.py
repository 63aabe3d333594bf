"""The one training loop. Protocol of Part 1 (arXiv 2305.13673): AdamW, linear decay, windows of joined documents."""

import math
import time
from collections.abc import Collection, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from lm.causality import require_causality
from lm.config import TrainConfig
from lm.data.batches import TrainBatch, prefetch_batches
from lm.memory import check_batch
from lm.mixers import is_file_spec
from lm.model import Decoder
from lm.startup import leave_uncompiled
from lm.training.distributed import DistContext, any_rank, dist_context, full_tensor, shard_model, unshard_into
from lm.training.history import Diverged, History, MetricsLogger, OnLog, OnSnapshot, OnStep, no_progress
from lm.training.lock import exclusive_lock
from lm.training.malloc import tune_malloc
from lm.training.schedule import learning_rate
from lm.training.signals import defer_signals
from lm.training.snapshots import check_snapshots, take_snapshot
from lm.training.step import make_train_step
from lm.training.train_state import TrainState, restore_on_all_ranks, run_fingerprint, save_checkpoint
from lm.transforms.frozen_tokens import FrozenTokens
from synth.errors import UserError
from synth.mixture import AnyCorpus, make_corpus
from synth.task import TrainingData


def train(
    model: Decoder,
    task: TrainingData,
    config: TrainConfig,
    data_seed: int,
    order_seed: int = 0,
    folder: str | Path | None = None,
    checkpoint_every: int | None = None,
    log_every: int = 10,
    on_step: OnStep | None = None,
    on_log: OnLog | None = None,
    snapshot_steps: Collection[int] = (),
    on_snapshot: OnSnapshot | None = None,
    frozen_tokens: Sequence[int] = (),
) -> History:
    """Train `model` in context on the training split of `task` and return its history.

    folder: where metrics.jsonl grows and a checkpoint is written every `checkpoint_every` steps, at the end, and before
    a signal (lm/training/signals.py) ends the training. The same call with the same folder resumes from the last
    checkpoint and ends with the same weights, bit for bit on a CPU with the same number of threads.
    log_every: steps between rows of the history. on_step(step, steps, loss): called at every row; without it a terminal
    shows a progress bar. on_log(row): called with every row, those from before a resume first (lm.training.trackers).

    on_snapshot(step, model): called after each of `snapshot_steps` (from 1 to config.steps) with the model in eval mode
    and gradients off. It must not change the model; whatever it draws or computes, weights and history are the same bit
    for bit, and its time is not in `seconds`. If it returns True, the training ends at this step with a row and a
    checkpoint, as if it were the last; a later call with the folder ends there too. A snapshot is taken before the
    checkpoint of its step, so a call that resumes takes only those after the checkpoint, some of them again.

    frozen_tokens: ids whose embeddings stay as they are (lm/transforms/frozen_tokens.py); not with FSDP.

    Under `accelerate launch` or torchrun each rank trains on its rows of the same global batch
    (lm/training/distributed.py); checkpoints equal those of one process, a signal stops all ranks at the next row, only
    the first rank calls on_step, on_log and on_snapshot, and with FSDP the whole model is on the CPU in a snapshot and
    at the end.

    Raises UserError when settings do not fit each other, when the checkpoint is damaged or of another run, when it
    cannot be written, and when another process trains in the folder; Diverged when the loss is not finite, or the
    weights where they are to be saved or evaluated.
    """
    context = dist_context()
    first = context.is_main_process
    corpus = make_corpus(task, data_seed, "train", config.seq_len, config.packing, order_seed)
    check_settings(model, corpus, config, context.num_processes)
    snapshots = check_snapshots(snapshot_steps, on_snapshot, config)
    home = Path(folder) if folder is not None else None
    identity = run_fingerprint(model, task, config, data_seed, order_seed, log_every) if home else {}
    if len(frozen_tokens):
        require_unsharded(context)
    identity |= {"frozen_tokens": sorted(map(int, frozen_tokens)) or None}
    part = shard_model(model, context)
    run = init_train_state(part, corpus, config)
    with ExitStack() as stack:
        if home:
            if first:
                stack.enter_context(exclusive_lock(home))
            restore_on_all_ranks(home, identity, part, run, context)
        stopping = stack.enter_context(defer_signals()) if home else []
        logger_args = (home, run, config, on_step, on_log) if first else (None, run, config, no_progress)
        record = stack.enter_context(MetricsLogger(*logger_args))
        frozen = FrozenTokens(part, frozen_tokens) if len(frozen_tokens) else None
        step = make_train_step(part, config, run.optimizer, context, frozen)
        began = time.perf_counter() - run.history.seconds
        for data in prefetch_batches(corpus, config, run.cursor, steps_left(run, config)):
            loss = step(data, run.step)
            record_batch(run, data, loss)
            if run.step in snapshots:
                require_finite_loss(run)
                paused = time.perf_counter()
                run.ended = ends_at_snapshot(part, model, run, on_snapshot, context)
                began += time.perf_counter() - paused
            last = run.ended or run.step == config.steps
            log = last or run.step % log_every == 0
            save = last or bool(checkpoint_every and run.step % checkpoint_every == 0)
            # read once a step: a later signal waits for the next step. Ranks may be at different steps when a signal
            # comes, so they agree only where they wait for the loss anyway
            stop = any_rank(bool(stopping), context) if log or save or context.num_processes == 1 else False
            if not (log or save or stop):
                continue
            require_finite_loss(run)
            run.history.seconds = time.perf_counter() - began
            if log:
                append_log_row(run, config, log_every)
                record()
            if save or stop:
                require_finite_weights(part, run)
            if home and (save or stop):
                save_checkpoint(home, identity, part, run, first)
            if stop and not last:
                context.wait_for_everyone()  # the first still writes; launchers kill all when one ends
                raise KeyboardInterrupt
            if run.ended:
                break
        unshard_into(part, model)  # within the stack: a signal at the last step must not end a rank before
    return run.history


def require_unsharded(context: DistContext) -> None:
    """Raise UserError with FSDP, where no rank has a whole embedding."""
    if context.sharded:
        raise UserError("frozen_tokens need whole weights, which FSDP splits; train on one process, or with DDP")


def steps_left(run: TrainState, config: TrainConfig) -> int:
    """Number of steps that the training has yet to take."""
    return 0 if run.ended else config.steps - run.step


def ends_at_snapshot(
    part: Decoder, model: Decoder, run: TrainState, on_snapshot: OnSnapshot | None, context: DistContext
) -> bool:
    """Take a snapshot on the first rank, and return on all ranks whether it ends the training. Raises Diverged instead
    when a weight is not finite."""
    require_finite_weights(part, run)
    unshard_into(part, model)
    asked = on_snapshot is not None and context.is_main_process and take_snapshot(run.step, model, on_snapshot)
    return any_rank(asked, context)


def init_train_state(model: Decoder, corpus: AnyCorpus, config: TrainConfig) -> TrainState:
    """The training state of step 0; moves the model to the device of this process."""
    tune_malloc()
    model.to(dist_context().device)
    run = TrainState(make_optimizer(model, config), corpus.start())
    if corpus.num_items is not None:
        run.history.exposures = np.zeros(corpus.num_items, np.int64)
    return run


def check_settings(model: Decoder, corpus: AnyCorpus, config: TrainConfig, ranks: int) -> None:
    """Raise UserError when model, data and settings do not fit each other."""
    model.check_length(config.seq_len)
    check_batch(config)
    if model.config.causal != (config.objective == "causal"):
        raise UserError(
            f"objective={config.objective} does not train a model with causal={model.config.causal}; "
            "an encoder (causal=False) takes objective=masked, any other objective=causal"
        )
    if is_file_spec(model.config.mixer):
        require_causality(model, config.document_mask)
    needed = model.config.model_vocab_size(corpus.vocab)
    if model.vocab_size < needed:
        raise UserError(f"the model has {model.vocab_size} ids and the task needs {needed}; use vocab_size={needed}")
    parts = ranks * config.grad_accum_steps
    if config.batch_size % parts:
        problem = f"does not split over {ranks} ranks and grad_accum_steps={config.grad_accum_steps}"
        raise UserError(f"batch_size={config.batch_size} {problem}; make it a multiple of {parts}")


Optimizer = torch.optim.Optimizer
UNCOMPILED = (Optimizer.add_param_group, Optimizer.zero_grad, Optimizer.state_dict, Optimizer.load_state_dict)


def make_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.AdamW:
    """AdamW with weight decay on matrices and tables only, not on biases and norms."""
    matrices = [p for p in model.parameters() if p.requires_grad and p.ndim > 1]
    vectors = [p for p in model.parameters() if p.requires_grad and p.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": config.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    leave_uncompiled(UNCOMPILED)
    return torch.optim.AdamW(groups, lr=config.lr, betas=config.betas, eps=config.eps, fused=True)


def record_batch(run: TrainState, data: TrainBatch, loss: Tensor | float) -> None:
    """Count a batch that has reached the optimizer: step, cursor, tokens, documents, exposures."""
    run.step += 1
    run.cursor = data.cursor
    run.loss_sum = run.loss_sum + loss  # stays on the device: reading it would synchronise the GPU at every step
    run.history.tokens += data.num_tokens
    run.history.documents += data.num_documents
    if run.history.exposures is not None:
        run.history.exposures += np.bincount(data.item_ids, minlength=len(run.history.exposures))


REMEDY = "lower lr, raise warmup_steps or set max_grad_norm to 1"


def require_finite_loss(run: TrainState) -> None:
    """Raise Diverged if the loss since the last row is not finite; called before anything is logged or saved."""
    run.loss_sum = float(run.loss_sum)
    if not math.isfinite(run.loss_sum):
        raise Diverged(f"the loss at or before step {run.step} is not finite; {REMEDY}", run.step, run.history)


def require_finite_weights(model: Decoder, run: TrainState) -> None:
    """Raise Diverged if a weight is not finite; called before saving, so that the last checkpoint stays good."""
    if not all(bool(full_tensor(torch.isfinite(p).all())) for p in model.parameters()):
        raise Diverged(f"weights are no longer finite at step {run.step}; {REMEDY}", run.step, run.history)


def append_log_row(run: TrainState, config: TrainConfig, log_every: int) -> None:
    """Append a row over the steps since the last row to the history."""
    since = (run.step - 1) % log_every + 1
    history = run.history
    row = {"step": run.step, "tokens": history.tokens, "documents": history.documents, "loss": run.loss_sum / since}
    history.append({**row, "lr": learning_rate(config, run.step - 1), "seconds": history.seconds})
    run.loss_sum = 0.0
