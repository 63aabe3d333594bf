"""What test_lm_parallel trains in one process and in several: python ranks_job.py FOLDER NAME ORDER ...

An order is `case:CASE`, `alone:CASE`, `stop:HOME`, `go on:HOME`, `apart:HOME|OTHER` or `spread`. Losses and counts go
to FOLDER/NAME<rank>.json, weights to files beside it.
"""

import json
import signal
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from lm.config import ModelConfig, TrainConfig
from lm.model import build
from lm.training.distributed import dist_context, shard_model, single_process
from lm.training.history import Diverged
from lm.training.loop import init_train_state, require_finite_weights, train
from lm.transforms.lora import add_lora
from synth import Task, UserError, get_task
from synth.mixture import make_corpus
from synth.tasks.bios import BioS

TREES = get_task("cfg3f", root="13")
PEOPLE = BioS(people=30, first=5, middle=4, last=6, cities=4, universities=5, majors=3, employers=4)
SMALL = ModelConfig(2, 2, 16, max_seq_len=32, bias=False)  # a key's bias has no gradient but what rounding makes of it
CONFIG = TrainConfig(steps=20, batch_size=8, seq_len=32, lr=3e-3)


@dataclass(frozen=True)
class Case:
    """A model and how it is trained; halved: one process cuts its batch as two ranks do."""

    model: ModelConfig = SMALL
    task: Task = TREES
    config: TrainConfig = CONFIG
    rank: int = 0
    halved: bool = False


CASES = {
    "people": Case(SMALL, PEOPLE, replace(CONFIG, steps=200)),
    "canon": Case(replace(SMALL, canon="ABCD", qk_norm=True), config=replace(CONFIG, grad_accum_steps=2)),
    "uniform": Case(replace(SMALL, positions="uniform"), config=replace(CONFIG, document_mask=True, max_grad_norm=0.1)),
    "relative": Case(replace(SMALL, positions="relative", causal=False), config=replace(CONFIG, objective="masked")),
    "experts": Case(ModelConfig.llama(2, 2, 16, n_experts=4), halved=True),
    "adapters": Case(ModelConfig.gpt2(2, 2, 16, max_seq_len=32), rank=2),
    "resumed": Case(),
}


def result(name: str, folder: Path | None = None, progress: Any = lambda *_: None) -> dict[str, Any]:
    """Losses, counts and weights of a case."""
    case, config = CASES[name], CASES[name].config
    if case.halved and dist_context().num_processes == 1:
        config = replace(config, grad_accum_steps=2)
    model = build(case.model, case.model.model_vocab_size(case.task.vocab()), 0)
    if case.rank:
        model = add_lora(model, case.rank, case.rank)
    history = train(model, case.task, config, 0, folder=folder, log_every=1 if folder is None else 2, on_step=progress)
    shown = None if history.exposures is None else history.exposures.tolist()
    counts = {"tokens": history.tokens, "documents": history.documents, "exposures": shown}
    return {"losses": [row["loss"] for row in history], "counts": counts, "weights": model.state_dict()}


def stop(home: Path) -> list[int]:
    """Send a signal to the first rank in the sixth step of a training; return the signals that this rank received."""
    received: list[int] = []

    def on_step(step: int, steps: int, loss: float) -> None:
        if step == 6:
            signal.raise_signal(signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, lambda number, frame: received.append(number))
    try:
        result("resumed", home, on_step)
        raise AssertionError("it went on")
    except KeyboardInterrupt:
        return received
    finally:
        signal.signal(signal.SIGUSR1, before)


def spread_out() -> dict[str, Any]:
    """Number of weights that this rank holds, and whether it raises Diverged when the last rank's are not finite."""
    ranks = dist_context()
    own = shard_model(build(SMALL, SMALL.model_vocab_size(TREES.vocab()), 0), ranks)
    run = init_train_state(own, make_corpus(TREES, 0, "train", 32, "cut", 0), CONFIG)
    parts = [p.to_local() if ranks.sharded else p for p in own.parameters()]
    if ranks.process_index == ranks.num_processes - 1:
        with torch.no_grad():
            parts[-1][-1] = torch.nan
    try:
        require_finite_weights(own, run)
    except Diverged:
        return {"weights held": sum(p.numel() for p in parts), "diverged": True}
    return {"weights held": sum(p.numel() for p in parts), "diverged": False}


def apart(home: Path, other: Path) -> dict[str, Any]:
    """The error when the first rank resumes from one folder and the others from another."""
    try:
        result("resumed", home if dist_context().is_main_process else other)
    except UserError as error:
        return {"kind": type(error).__name__, "said": str(error)}
    raise AssertionError("it went on")


def follow(order: str) -> dict[str, Any]:
    """The results of an order, by name."""
    what, _, which = order.partition(":")
    if what == "stop":
        return {order: {"heard": stop(Path(which))}}
    if what == "go on":
        return {order: result("resumed", Path(which))}
    if what == "apart":
        return {order: apart(*map(Path, which.split("|")))}
    if what == "spread":
        return {order: spread_out()}
    if what == "case":
        return {order: result(which)}
    first = dist_context().is_main_process
    with single_process():  # it trains while the others wait for it
        found = {order: result(which)} if first else {}
    dist_context().wait_for_everyone()
    return found


def main(folder: str, name: str, *orders: str) -> None:
    found: dict[str, Any] = {}
    for order in orders:
        found |= follow(order)
    rank = dist_context().process_index
    if rank == 0:
        for key, each in found.items():
            if "weights" in each:
                safetensors.torch.save_file(each.pop("weights"), Path(folder) / f"{name} {key.replace('/', ' ')}")
    plain = {key: {k: v for k, v in each.items() if k != "weights"} for key, each in found.items()}
    (Path(folder) / f"{name}{rank}.json").write_text(json.dumps(plain))


if __name__ == "__main__":
    main(*sys.argv[1:])
