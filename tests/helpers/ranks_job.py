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
from lm.training.distributed import alone, spread, where
from lm.training.loop import begin, check_weights, train
from lm.training.train_state import Diverged
from lm.transforms.lora import adapt
from synth import Task, UserError, get_task
from synth.mixture import corpus_of
from synth.tasks.bios import BioS

TREES = get_task("cfg3f", root="13")
PEOPLE = BioS(people=30, first=5, middle=4, last=6, cities=4, universities=5, majors=3, employers=4)
SMALL = ModelConfig(2, 2, 16, context=32, bias=False)  # a key's bias has no gradient but what rounding makes of it
CONFIG = TrainConfig(steps=20, batch=8, window=32, lr=3e-3)


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
    "canon": Case(replace(SMALL, canon="ABCD", qk_norm=True), config=replace(CONFIG, accumulate=2)),
    "uniform": Case(replace(SMALL, positions="uniform"), config=replace(CONFIG, isolate=True, clip=0.1)),
    "relative": Case(replace(SMALL, positions="relative", causal=False), config=replace(CONFIG, objective="masked")),
    "experts": Case(ModelConfig.llama(2, 2, 16, experts=4), halved=True),
    "adapters": Case(ModelConfig.gpt2(2, 2, 16, context=32), rank=2),
    "resumed": Case(),
}


def result(name: str, folder: Path | None = None, progress: Any = lambda *_: None) -> dict[str, Any]:
    """Losses, counts and weights of a case."""
    case, config = CASES[name], CASES[name].config
    if case.halved and where().num_processes == 1:
        config = replace(config, accumulate=2)
    model = build(case.model, case.model.ids(case.task.vocab()), 0)
    if case.rank:
        model = adapt(model, case.rank, case.rank)
    history = train(model, case.task, config, 0, folder=folder, log_every=1 if folder is None else 2, progress=progress)
    shown = None if history.exposures is None else history.exposures.tolist()
    counts = {"tokens": history.tokens, "documents": history.documents, "exposures": shown}
    return {"losses": [row["loss"] for row in history], "counts": counts, "weights": model.state_dict()}


def stop(home: Path) -> list[int]:
    """A training that gets a signal in its sixth step, in the first rank alone; returns what this rank heard of it."""
    heard: list[int] = []

    def told(step: int, steps: int, loss: float) -> None:
        if step == 6:
            signal.raise_signal(signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, lambda number, frame: heard.append(number))
    try:
        result("resumed", home, told)
        raise AssertionError("it went on")
    except KeyboardInterrupt:
        return heard
    finally:
        signal.signal(signal.SIGUSR1, before)


def spread_out() -> dict[str, Any]:
    """How many weights this rank has, and what it says of those of all when the last rank's are not finite."""
    place = where()
    own = spread(build(SMALL, SMALL.ids(TREES.vocab()), 0), place)
    run = begin(own, corpus_of(TREES, 0, "train", 32, "cut", 0), CONFIG)
    parts = [p.to_local() if place.sharded else p for p in own.parameters()]
    if place.process_index == place.num_processes - 1:
        with torch.no_grad():
            parts[-1][-1] = torch.nan
    try:
        check_weights(own, run)
    except Diverged:
        return {"weights held": sum(p.numel() for p in parts), "diverged": True}
    return {"weights held": sum(p.numel() for p in parts), "diverged": False}


def apart(home: Path, other: Path) -> dict[str, Any]:
    """What is said when the first rank goes on from one folder and the rest from another."""
    try:
        result("resumed", home if where().is_main_process else other)
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
    first = where().is_main_process
    with alone():  # it trains while the others wait for it
        found = {order: result(which)} if first else {}
    where().wait_for_everyone()
    return found


def main(folder: str, name: str, *orders: str) -> None:
    found: dict[str, Any] = {}
    for order in orders:
        found |= follow(order)
    rank = where().process_index
    if rank == 0:
        for key, each in found.items():
            if "weights" in each:
                safetensors.torch.save_file(each.pop("weights"), Path(folder) / f"{name} {key.replace('/', ' ')}")
    plain = {key: {k: v for k, v in each.items() if k != "weights"} for key, each in found.items()}
    (Path(folder) / f"{name}{rank}.json").write_text(json.dumps(plain))


if __name__ == "__main__":
    main(*sys.argv[1:])
