"""The one training loop. Protocol of Part 1 (arXiv 2305.13673): AdamW, linear decay, windows of joined documents."""

import atexit
import math
import time
from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lm.config import TrainConfig
from lm.data import Feed, feeds
from lm.heap import keep_freed_memory
from lm.leaks import require_causality
from lm.masking import IGNORED
from lm.mixers import is_file
from lm.mlp import Costs
from lm.model import Decoder
from lm.state import Diverged, Follow, History, Progress, Recorder, Run, held, identity_of, restore_run, save_run
from lm.stopping import postponed
from synth.errors import UserError
from synth.mixture import Stream, corpus_of
from synth.task import Task


class Objective(nn.Module):
    """Sum over the targets that count of their losses and of what the layers charge (nats): what is compiled and what
    data parallel wraps."""

    def __init__(self, model: Decoder) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: Tensor, targets: Tensor, documents: Tensor | None) -> Tensor:
        costs: Costs = []
        logits = self.model(inputs, documents, costs=costs)
        loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="sum")
        return loss + sum(costs) * (targets != IGNORED).sum() if costs else loss


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
    the end, and, in a single process, before Ctrl-C or SIGTERM ends it; the same call with the same folder goes on from
    the last checkpoint and ends with the same weights, bit for bit (on a CPU, with the same number of threads). Under
    `accelerate launch` or torchrun each rank trains on its rows of the same global batch. `progress(step, steps, loss)`
    is called at every row; without it a terminal shows a bar. `follow(row)` is called with every row of the history
    (lm.tracking shows them), those of an earlier attempt first.

    Raises UserError when the settings do not fit each other, when the checkpoint belongs to another run or is damaged,
    when one cannot be written, and when another process is training in the folder; Diverged, which is one, when the
    loss is not finite.
    """
    place = where()
    corpus = corpus_of(task, data_seed, "train", config.window, config.packing, order_seed)
    check(model, corpus, config, place.num_processes)
    keep_freed_memory()
    model.to(place.device)
    run = Run(make_optimizer(model, config), corpus.start())
    if corpus.items is not None:
        run.history.exposures = np.zeros(corpus.items, np.int64)
    home = Path(folder) if folder is not None else None
    identity = identity_of(model, task, config, data_seed, order_seed, log_every) if home else {}
    with ExitStack() as stack:
        if home:
            if place.is_main_process:
                stack.enter_context(held(home))
            restore_run(home, identity, model, run)
            place.wait_for_everyone()
        # ranks stop at different steps, so of several none is asked to save first
        stopping = stack.enter_context(postponed()) if home and place.num_processes == 1 else []
        record = stack.enter_context(Recorder(home if place.is_main_process else None, run, config, progress, follow))
        step = _stepper(model, config, run.optimizer, place)
        began = time.perf_counter() - run.history.seconds
        for data in feeds(corpus, config, run.cursor, config.steps - run.step):
            loss = step(data, run.step)
            advance(run, data, loss)
            last = run.step == config.steps
            log = last or run.step % log_every == 0
            stop = bool(stopping)  # asked once a step: what comes later waits for the next one to be saved
            save = last or stop or bool(checkpoint_every and run.step % checkpoint_every == 0)
            if not (log or save):
                continue
            check_loss(run)
            run.history.seconds = time.perf_counter() - began
            if log:
                log_row(run, config, log_every)
                record()
            if save:
                check_weights(model, run)
            if home and save and place.is_main_process:
                save_run(home, identity, model, run)
            if stop and not last:
                raise KeyboardInterrupt
    return run.history


def where() -> Any:
    """Device and rank of this process, as `accelerate launch` or torchrun set them (accelerate's PartialState)."""
    from accelerate import PartialState
    from accelerate.utils import parse_flag_from_env

    # without being told, accelerate would take several CPU processes for unrelated ones
    place = PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.accelerator.is_available())
    if place.num_processes > 1:
        atexit.register(place.destroy_process_group)  # a rank that leaves without it takes the others down
    return place


def check(model: Decoder, corpus: Stream, config: TrainConfig, ranks: int) -> None:
    """Raise UserError when model, data and settings do not fit each other."""
    model.check_length(config.window)
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


def learning_rate(config: TrainConfig, step: int) -> float:
    """The rate of step 0, 1, ...: a linear rise over `warmup` steps, then the schedule down to final_lr * lr."""
    if step < config.warmup:
        return config.lr * (step + 1) / config.warmup
    done = (step - config.warmup) / max(config.steps - config.warmup, 1)
    share = {"constant": 1.0, "linear": 1 - done, "cosine": (1 + math.cos(math.pi * done)) / 2}[config.schedule]
    floor = 1.0 if config.schedule == "constant" else config.final_lr
    return config.lr * (floor + (1 - floor) * share)


def _stepper(
    model: Decoder, config: TrainConfig, optimizer: torch.optim.Optimizer, place: Any
) -> Callable[[Feed, int], Tensor]:
    """The function that takes one optimizer step and returns the mean loss of the whole batch."""
    device, ranks = place.device, place.num_processes
    net: Any = Objective(model)
    if ranks > 1:
        net = nn.parallel.DistributedDataParallel(net)
    hold = net.no_sync if ranks > 1 else nullcontext
    # CUDA graphs write gradients to fixed places, where the next micro-batch would overwrite the last one's
    net = compiled(net, config, device, graphs=ranks == 1 and config.accumulate == 1)
    bf16 = in_bf16(config, device)
    share = config.batch // ranks
    part = share // config.accumulate
    parameters = [p for p in model.parameters() if p.requires_grad]

    def step(data: Feed, number: int) -> Tensor:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(config, number)
        total = torch.zeros((), device=device)
        begin = place.process_index * share
        for row in range(begin, begin + share, part):
            cut = slice(row, row + part)
            inputs, targets, documents = (
                None if tensor is None else tensor[cut].to(device, non_blocking=True)
                for tensor in (data.inputs, data.targets, data.documents)
            )
            with nullcontext() if row + part == begin + share else hold():
                with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                    loss = net(inputs, targets, documents) / max(data.trained, 1)
                (loss * ranks).backward()  # data parallel averages gradients over the ranks; the batch wants their sum
            total += loss.detach()
        if ranks > 1:
            torch.distributed.all_reduce(total)
        if config.clip:
            nn.utils.clip_grad_norm_(parameters, config.clip)
        optimizer.step()
        optimizer.zero_grad()
        return total

    return step


def compiled(net: nn.Module, config: TrainConfig, device: torch.device, graphs: bool) -> Any:
    """The objective as the configuration and the device want it run; graphs: with CUDA graphs on a GPU."""
    if config.compile is not True and (config.compile != "auto" or device.type != "cuda"):
        return net
    torch.compiler.reset()  # else dynamo falls back to eager after eight models in one process
    return torch.compile(net, mode="reduce-overhead" if graphs and device.type == "cuda" else None, dynamic=False)


def in_bf16(config: TrainConfig, device: torch.device) -> bool:
    """Whether the forward pass runs under bf16 autocast."""
    return config.precision == "bf16" or (config.precision == "auto" and device.type == "cuda")


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
    if not all(bool(torch.isfinite(p).all()) for p in model.parameters()):
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
