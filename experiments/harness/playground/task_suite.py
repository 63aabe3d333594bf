"""The playground's tasks: for every scale one table of what is trained on, how large, how long, and what is asked.

Tasks, and at the paper's scale sizes, steps and learning rates, are those of Part 4.1 (arXiv 2512.17351), appendices A
and B; at smaller scales everything shrinks together. Each task is trained from scratch on fresh documents and tested at
its largest size. The base is a LLaMA whose positions are rotary; architectures are changes to it.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from experiments.harness.evaluation.loss_spikes import TrainingLog
from experiments.harness.evaluation.step_time import Pace
from experiments.harness.papers import part3_capacity
from experiments.harness.playground.comparison import Score, matched
from experiments.harness.run import Run, replicate
from lm.config import ModelConfig, TrainConfig
from synth.errors import UserError
from synth.registry import get_task

ALL = (("difficulty", "all"),)
# What stands for each task. The number of a capacity run is bits per parameter, else a share of answers.
SCORES = {
    "depo": Score("depth: k-th successor (Depo)", "Answers", "correct", "chance", ALL),
    "brevo": Score("breadth: all a node needs (Brevo)", "Solved", "correct", "chance", ALL),
    "mano": Score("arithmetic in the head (Mano)", "Answers", "correct", "chance", ALL),
    "capacity": Score("capacity: bits a parameter", "Capacity", "r", 0.0, solved=1.0),
    "cfg": Score("structure: valid sentences", "Validity", "valid_0", 0.0),
    "copy": Score("copying", "Answers", "correct", "chance", ALL),
    "recall": Score("associative recall", "Answers", "correct", "chance", ALL),
}
PLAYGROUND = ("depo", "brevo", "mano", "capacity", "cfg")
COST = Score("cost: time of a training step", "Pace", "seconds_a_step", solved=float("inf"))

# Appendix A: what does not change with size. Packing: a window begins with a whole document.
_COSINE = {"schedule": "cosine", "final_lr": 0.1, "eps": 1e-6}
_GRAPHS = {**_COSINE, "packing": "whole", "weight_decay": 0.03}
TRAINING: dict[str, dict[str, Any]] = {
    "depo": _GRAPHS,
    "brevo": _GRAPHS,
    "mano": {**_COSINE, "packing": "whole", "weight_decay": 0.1},
    "cfg": {"schedule": "linear", "weight_decay": 0.1, "eps": 1e-6},
    "copy": _GRAPHS,
    "recall": _GRAPHS,
    "capacity": {},  # experiments/harness/papers/part3_capacity.py has them
}


@dataclass(frozen=True)
class Play:
    """One task at one scale.

    fields: of the task; shape: layers, heads, width, and context of the base; train: steps, batch, window, warmup (for
    capacity exposures and batch); rates: learning rates to choose from, the same for all architectures; ask: fields of
    the evaluation.
    """

    fields: Mapping[str, Any]
    shape: tuple[int, int, int, int]
    train: Mapping[str, Any]
    rates: tuple[float, ...]
    ask: Mapping[str, Any] = field(default_factory=dict)
    init_std: float = 0.02


def _steps(steps: int, batch: int, window: int, warmup: int = 0, **more: Any) -> dict[str, Any]:
    return {"steps": steps, "batch": batch, "window": window, "warmup": warmup, **more}


def _tiny(fields: dict, shape: tuple, train: dict, rates: tuple, **ask: Any) -> Play:
    return Play(fields, shape, train, rates, ask, init_std=0.1)  # 0.02 costs so narrow a model hundreds of steps


_BIOD = {"kinds": 1, "chunks": 12, "set_size": 64, "length": 1, "alphabet": 64, "name_length": 3, "name_alphabet": 64}
_LETTERS = {"longest": 1, "alphabet": 26}
# Laptop sizes were searched on seed 99, which is not reported: at these the base with Canon layers is neither at floor
# nor at ceiling, or, for copy and recall, one layer of some width is not (docs/journal.md).
PLAYS: dict[str, dict[str, Play]] = {
    "smoke": {
        "depo": _tiny({"nodes": 4, "hops": 2, **_LETTERS}, (2, 2, 16, 64), _steps(30, 8, 64), (1e-2,), documents=20),
        "brevo": _tiny({"nodes": 4}, (2, 2, 16, 64), _steps(30, 8, 64), (1e-2,), documents=20),
        "mano": _tiny({"ops": 2}, (2, 2, 16, 64), _steps(30, 8, 64), (1e-2,), documents=20),
        "capacity": _tiny({"people": 32, **_BIOD}, (2, 2, 16, 64), {"exposures": 10, "batch": 8}, (1e-2,)),
        "cfg": _tiny({"grammar": "cfg3f", "root": "10"}, (2, 2, 16, 64), _steps(30, 8, 32), (1e-2,),
                     samples=32, cuts=(0,), kl_sentences=32),
        "copy": _tiny({"length": 4}, (1, 2, 16, 64), _steps(30, 8, 32), (1e-2,), documents=20),
        "recall": _tiny({"pairs": 4}, (1, 2, 16, 64), _steps(30, 8, 32), (1e-2,), documents=20),
    },
    "laptop": {
        "depo": _tiny({"nodes": 6, "hops": 2, "longest": 1, "alphabet": 12}, (2, 4, 64, 64), _steps(1500, 32, 64, 100),
                      (5e-3,)),
        "brevo": _tiny({"nodes": 6}, (2, 4, 64, 64), _steps(1000, 32, 64, 100), (5e-3,)),
        "mano": _tiny({"ops": 2, "modulus": 7}, (2, 4, 32, 64), _steps(1500, 32, 64, 100), (5e-3,), documents=1000),
        "capacity": _tiny({"people": 512, **_BIOD}, (2, 2, 16, 64), {"exposures": 100, "batch": 16}, (5e-3,)),
        "cfg": _tiny({"grammar": "cfg3f", "root": "13"}, (2, 4, 32, 64), _steps(1200, 16, 64, 50), (1e-2,),
                     samples=1000, cuts=(0,), kl_sentences=500),
        "copy": _tiny({"length": 24}, (1, 2, 16, 64), _steps(1500, 32, 56, 100), (1e-2,)),
        "recall": _tiny({"pairs": 6, "keys": 32, "values": 32}, (1, 2, 16, 64), _steps(1500, 32, 32, 100), (1e-2,)),
    },
    "overnight": {
        "depo": _tiny({"nodes": 10, "hops": 4, "longest": 1, "alphabet": 20}, (2, 4, 64, 128),
                      _steps(5000, 32, 96, 300), (5e-3,)),
        "brevo": _tiny({"nodes": 10}, (2, 4, 64, 128), _steps(4000, 32, 96, 300), (5e-3,)),
        "mano": _tiny({"ops": 3, "modulus": 11}, (2, 4, 64, 64), _steps(5000, 32, 64, 300), (5e-3,), documents=1000),
        "capacity": _tiny({"people": 2048, **_BIOD}, (2, 2, 32, 64), {"exposures": 100, "batch": 32}, (3e-3,)),
        "cfg": _tiny({"grammar": "cfg3f", "root": "16"}, (4, 4, 64, 128), _steps(4000, 16, 128, 100), (5e-3,),
                     samples=2000, cuts=(0,), kl_sentences=1000),
        "copy": _tiny({"length": 48}, (1, 2, 16, 128), _steps(4000, 32, 104, 400), (1e-2,)),
        "recall": _tiny({"pairs": 24}, (1, 2, 16, 128), _steps(4000, 32, 64, 400), (1e-2,)),
    },
    "gpu": {
        "depo": Play({"nodes": 30, "hops": 8}, (4, 4, 256, 256), _steps(2000, 64, 256, 200), (1e-3,)),
        "brevo": Play({"nodes": 20}, (4, 4, 256, 256), _steps(2000, 64, 256, 200), (1e-3,)),
        "mano": Play({"ops": 6}, (4, 4, 256, 256), _steps(2000, 128, 128, 200), (1e-3,), {"documents": 2000}),
        "capacity": Play({"people": 5000}, (2, 2, 128, 512), {"exposures": 100, "batch": 24}, (1e-3,)),
        "cfg": Play({"grammar": "cfg3f"}, (4, 4, 256, 512), _steps(2000, 32, 512), (1e-3,),
                    {"samples": 2000, "cuts": (0,), "kl_sentences": 1000}),
        "copy": Play({"length": 200}, (1, 1, 16, 512), _steps(3000, 32, 512, 400), (5e-3,)),
        "recall": Play({"pairs": 100, "keys": 200, "values": 200}, (1, 1, 16, 512), _steps(3000, 32, 512, 400),
                       (5e-3,)),
    },
    "paper": {
        "depo": Play({"nodes": 375, "hops": 8, "shortest": 1, "longest": 2, "alphabet": 50}, (12, 12, 768, 2048),
                     _steps(112_500, 128, 2048, 1000), (3e-4, 5e-4, 1e-3, 2e-3), {"documents": 1000}),
        "brevo": Play({"nodes": 110}, (12, 12, 768, 1024), _steps(150_000, 256, 1024, 1000),
                      (3e-4, 5e-4, 1e-3, 2e-3), {"documents": 1000}),
        "mano": Play({"ops": 16}, (12, 12, 768, 1024), _steps(110_000, 64, 1024, 1000), (1e-4, 2e-4, 3e-4, 5e-4),
                     {"documents": 4000}),
        "capacity": Play({"people": 500_000}, (12, 12, 768, 512), {"exposures": 100, "batch": 96}, (5e-4, 1e-3)),
        "cfg": Play({"grammar": "cfg3k"}, (12, 12, 768, 1536), _steps(100_000, 96, 1536), (2e-4, 3e-4, 5e-4, 1e-3),
                    {"samples": 20_000, "cuts": (0,), "kl_sentences": 4000}),
        "copy": Play({"length": 500}, (1, 1, 16, 1024), _steps(50_000, 32, 1024, 1000), (5e-4, 1e-3, 2e-3, 5e-3)),
        "recall": Play({"pairs": 250, "keys": 500, "values": 500}, (1, 1, 16, 1024),
                       _steps(50_000, 32, 1024, 1000), (5e-4, 1e-3, 2e-3, 5e-3)),
    },
}  # fmt: skip
# Appendix C: heads of the recurrent mixers at the papers' widths; smaller models have as many as the base.
HEADS = {"gpu": {"gla": 4, "gdn": 4, "mamba2": 16}, "paper": {"gla": 4, "gdn": 6, "mamba2": 16}}
# Mamba2's state has 64 numbers a channel at width 512, and a small model less.
STATE = {"smoke": 4, "laptop": 8, "overnight": 16}
# Depth is all or nothing in a seed (the same architecture may find it or not), so it has more of them.
SEEDS = {"smoke": 1, "laptop": 3, "overnight": 3, "gpu": 3, "paper": 3}
MORE_SEEDS = {"depo": 5}

SKILLS = {"depo": "depth", "brevo": "breadth", "mano": "arithmetic", "cfg": "structure"}
SEEN = ("smoke", "laptop")  # two operators modulo 7 make 6,174 expressions, all of which training shows many times


def skill(task: str, table: Any) -> str:
    """A task's skill in a claim about a table; of arithmetic by heart it is said."""
    by_heart = task == "mano" and table["scale"].isin(SEEN).any()
    return f"{SKILLS[task]} (expressions seen in training)" if by_heart else SKILLS[task]


def recurrent(scale: str, mixer: str, **changes: Any) -> dict[str, Any]:
    """The changes that put a recurrent mixer in the place of attention, without positions."""
    heads = {"heads": HEADS[scale][mixer]} if scale in HEADS else {}
    state = {"state": STATE[scale]} if mixer == "mamba2" and scale in STATE else {}
    return {"mixer": mixer, "positions": "none", **heads, **state, **changes}


def seeds_of(scale: str, task: str) -> int:
    """How many seeds a task has at a scale."""
    return max(SEEDS[scale], MORE_SEEDS.get(task, 0)) if scale != "smoke" else SEEDS[scale]


def fewer_seeds(scale: str, task: str) -> int:
    """How many where there are many architectures: no more for depth, but at the paper's scale."""
    return seeds_of(scale, task) if scale == "paper" else SEEDS[scale]


def task_of(scale: str, name: str) -> Any:
    """The task as it is trained on. Raises UserError for a name that is not in the table."""
    if name not in PLAYS[scale]:
        raise UserError(f"no task {name!r} in the playground; choose among {', '.join(PLAYS[scale])}")
    if name != "capacity":
        return get_task(name, **PLAYS[scale][name].fields)
    fields = PLAYS[scale][name].fields
    return part3_capacity.paper_people(fields["people"]) if scale in ("gpu", "paper") else get_task("bioD", **fields)


def base_of(scale: str, name: str) -> ModelConfig:
    """The model that architectures are changes to; tied in capacity, as in the paper."""
    play = PLAYS[scale][name]
    layers, heads, width, context = play.shape
    tied = name == "capacity"
    return ModelConfig.llama(layers, heads, width, context=context, init_std=play.init_std, tied=tied)


def train_of(scale: str, name: str, lr: float) -> TrainConfig:
    """The training at one of the rates."""
    play = PLAYS[scale][name]
    if name != "capacity":
        return TrainConfig(lr=lr, **TRAINING[name], **play.train)
    task, times, batch = task_of(scale, name), play.train["exposures"], play.train["batch"]
    if scale in ("gpu", "paper"):
        return part3_capacity.paper_training(task, task.people, times, lr=lr, batch=batch)
    return part3_capacity.tiny_training(task, times, batch, lr)


def evaluations_of(scale: str, name: str) -> tuple[Any, ...]:
    """What a trained model of the task is asked, the log of its training, and the time of a step."""
    train = train_of(scale, name, 1.0)
    pace = Pace(train.batch // train.accumulate, train.window)
    return _asked(SCORES[name].evaluation, PLAYS[scale][name].ask), TrainingLog(), pace


def _asked(evaluation: str, fields: Mapping[str, Any]) -> Any:
    # torch comes with these, and --help has no need of torch
    if evaluation == "Answers":
        from probing.reasoning.teacher_forced import Answers

        return Answers(**fields)
    if evaluation == "Solved":
        from probing.reasoning.free_running import Solved

        return Solved(**fields)
    if evaluation == "Capacity":
        from probing.capacity.bits_per_parameter import Capacity

        return Capacity(**fields)
    from probing.grammar.validity import Validity

    return Validity(**fields)


def configurations(
    experiment: str, scale: str, name: str, architectures: Mapping[str, Mapping[str, Any]], **tags: Any
) -> list[Run]:
    """Every architecture on one task at every rate, seed 0: alike in parameters, tokens, documents and evaluations.

    Columns: task, architecture, lr, and matched, the parameters of the base, which the dry run holds each against.
    """
    task, base = task_of(scale, name), base_of(scale, name)
    size = part3_capacity.parameters_of(base, task)
    made = []
    for architecture, changes in architectures.items():
        model = matched(base, changes, task)
        for lr in PLAYS[scale][name].rates:
            named = {"task": name, "architecture": architecture, "lr": lr, "matched": size, **tags}
            train = train_of(scale, name, lr)
            made.append(Run(experiment, task, model, train, evaluations_of(scale, name), tags=named))
    return made


def runs_of(
    experiment: str,
    scale: str,
    names: Iterable[str],
    architectures: Mapping[str, Mapping[str, Any]],
    seeds: Callable[[str, str], int] = seeds_of,
) -> list[Run]:
    """The configurations of several tasks, each with as many seeds as `seeds` gives it at the scale."""
    return [
        run
        for name in names
        for run in replicate(configurations(experiment, scale, name, architectures), seeds(scale, name))
    ]
