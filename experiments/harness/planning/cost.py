"""What runs will cost, before anything runs: parameters, tokens, FLOPs, memory, R_max and the time on this machine.

Everything comes from formulas on shapes, so that the papers' sizes are counted as fast as the smallest. FLOPs follow
PaLM (arXiv 2204.02311, appendix B). R_max, the most bits per parameter that the data allows: Part 3.3 (arXiv
2404.05405), section 3.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any

from experiments.harness.execution.execute import finished
from experiments.harness.execution.trainings import folder_of, key_of
from experiments.harness.planning.gpu import Load, memory
from experiments.harness.run import MATCHED, Run, Stage, configuration_id
from lm.throughput import efficiency
from synth.mixture import main_part


@dataclass(frozen=True)
class Cost:
    """Of one configuration: per run, except the last three, which are of all its seeds.

    matched: parameters over those that the run's tag says they are to equal; memory in bytes; seconds: expected of one
    process with one thread, or with the GPU; on_gpu: whether by steps timed on a GPU of this machine; load: what
    decides a GPU's memory. all_flops: what another configuration has trained before is not in it; left: seconds that
    the runs without a result will take one after another, without what is trained already or counted in another
    configuration; models: how many kept models they add.
    """

    label: str
    runs: int
    finished: int
    parameters: int
    width: int
    steps: int
    tokens: int
    flops: float
    memory: float
    load: Load | None
    seconds: float
    on_gpu: bool
    r_max: float | None
    matched: float | None
    all_flops: float
    left: float
    models: int


@dataclass(frozen=True)
class Part:
    """A training, or the evaluations."""

    flops: float
    seconds: float


Seen = set[tuple[str, bool]]  # keys of models that are counted, and whether their training is still to be done


def costs(runs: Sequence[Run], root: Path, measure: bool = False, seen: Seen | None = None) -> list[Cost]:
    """The cost of every distinct configuration; with measure=True a few steps of each are timed on this machine.

    seen: the models that other experiments have counted already; those counted here are added.
    """
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(configuration_id(run), []).append(run)
    seen = set() if seen is None else seen
    return [_cost(group, root, measure, seen) for group in groups.values()]


def _cost(group: Sequence[Run], root: Path, measure: bool, seen: Seen) -> Cost:
    run = group[0]
    ended = [finished(each, root) for each in group]
    done = sum(ended)
    parameters = _parameters(run)
    *trainings, asking = parts = _parts(run, measure)
    facts = getattr(main_part(run.task), "facts", None)
    all_flops, left, models = asking.flops * len(group), asking.seconds * (len(group) - done), 0
    for each, todo in zip(group, (not one for one in ended), strict=True):
        for stages, part in enumerate(trainings, 1):
            key = key_of(each, stages)
            fresh = (key, False) not in seen
            all_flops += part.flops * fresh
            models += fresh
            left += part.seconds * (todo and (key, True) not in seen and not folder_of(each, root, stages).exists())
            seen |= {(key, False), (key, todo)}
    load = _load(run, parameters)
    return Cost(
        label=run.label,
        runs=len(group),
        finished=done,
        parameters=parameters,
        width=run.model.width if run.model else 0,
        steps=run.steps,
        tokens=sum(stage.train.batch * stage.train.window * stage.train.steps for stage in run.trainings),
        flops=sum(part.flops for part in parts),
        memory=_memory(run, parameters),
        load=load,
        seconds=sum(part.seconds for part in parts),
        on_gpu=measure and _has_gpu(),
        r_max=facts(None).bits / parameters if facts and parameters else None,
        matched=parameters / dict(run.tags)[MATCHED] if MATCHED in dict(run.tags) else None,
        all_flops=all_flops,
        left=left,
        models=models + len(group) * (run.model is not None and not trainings),  # untrained ones are kept by their runs
    )


def _parts(run: Run, measure: bool) -> list[Part]:
    """The trainings, then the evaluations."""
    if run.model is None:
        return [Part(0.0, 0.0)]
    *trainings, asking = _flops(run)
    rate = matmul_rate() * efficiency(run.model.width)
    parts = [
        Part(flops, time_of_a_step(run, stage) * stage.train.steps if measure else flops / rate)
        for stage, flops in zip(run.trainings, trainings, strict=True)
    ]
    if measure and parts:
        rate = sum(part.flops for part in parts) / sum(part.seconds for part in parts)
    return [*parts, Part(asking, asking / rate)]


def _flops(run: Run) -> list[float]:
    """Of the trainings, then of the evaluations. A training by adapters is counted as one of all weights."""
    assert run.model is not None
    configs = [stage.train for stage in run.trainings]
    trainings = [_per_token(run, each.window) * each.batch * each.window * each.steps for each in configs]
    # a forward pass, which evaluations need, is a third of a training step
    window = run.train.window if run.train else run.model.context
    return [*trainings, _per_token(run, window) * sum(_tokens(each, run) for each in run.evaluations) / 3]


def _tokens(evaluation: Any, run: Run) -> int:
    return evaluation.tokens(run.task) if hasattr(evaluation, "tokens") else 0


def _parameters(run: Run) -> int:
    """As the model begins; adapters of the embedding untie it, so that there may be more at the end."""
    if run.model is None:
        return 0
    from lm.model_size import size_of

    return size_of(run.model, run.model.ids(run.task.vocab())).total


def _per_token(run: Run, window: int) -> float:
    """FLOPs to train on one token."""
    from lm.model_size import flops_per_token

    assert run.model is not None
    return flops_per_token(run.model, run.model.ids(run.task.vocab()), window)


def _memory(run: Run, parameters: int) -> float:
    """Bytes on this machine, all in fp32: weights, gradients and Adam's two moments, activations of a micro-batch, and
    a KV cache.

    Activations: per layer about 8 D + 2 M floats a token are kept for the backward pass (M the width of the MLP), and
    about 3 V for the loss; a cache holds 2 L D floats for each of the 256 sequences that are sampled together.
    """
    if run.model is None:
        return 0.0
    model, vocab = run.model, run.model.ids(run.task.vocab())
    trains = [stage.train for stage in run.trainings]
    tokens = max((train.batch // train.accumulate * train.window for train in trains), default=0)
    kept = tokens * (model.layers * (8 * model.width + 2 * model.hidden_width) + 3 * vocab)
    cache_ = 2 * model.layers * model.width * model.context * 256
    return 4.0 * (4 * parameters + max(kept, cache_))


def _load(run: Run, parameters: int) -> Load | None:
    """The training, of those of a run, that takes the most memory on a GPU."""
    if run.model is None:
        return None
    vocab = run.model.ids(run.task.vocab())
    rows = [(stage.train.batch // stage.train.accumulate, stage.train.window) for stage in run.trainings]
    return max((Load.of(run.model, vocab, parameters, *each) for each in rows or [(1, 0)]), key=memory)


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


@cache
def matmul_rate() -> float:
    """FLOPs a second of large matrix products on this machine, one thread or the GPU: the best of 0.3 s of them, as
    other processes may be at work."""
    import torch

    kind = "cuda" if _has_gpu() else "cpu"
    dtype = torch.bfloat16 if kind == "cuda" else torch.float32
    n = 4096 if kind == "cuda" else 512
    a = torch.randn(n, n, device=kind, dtype=dtype)
    best = 0.0
    with _one_thread():
        begin = time.perf_counter()
        while (start := time.perf_counter()) < begin + 0.3:
            float((a @ a)[0, 0])  # waits for the device
            best = max(best, 2 * n**3 / (time.perf_counter() - start))
    return best


@contextmanager
def _one_thread() -> Iterator[None]:
    """As in a worker process when there is one for each core."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def time_of_a_step(run: Run, stage: Stage, steps: int = 12, clock: Callable[[], float] = time.perf_counter) -> float:
    """Median seconds of a training step, the first ones (which compile and warm up) left out.

    clock: what seconds are; time.process_time does not count what other processes take.
    """
    from lm.model import build
    from lm.training.loop import train

    assert run.model is not None
    moments: list[float] = []
    with _one_thread():
        train(
            build(run.model, run.model.ids(run.task.vocab()), 0),
            stage.task,
            replace(stage.train, steps=steps),
            data_seed=0,
            log_every=1,
            progress=lambda *_: moments.append(clock()),
        )
    return median(later - earlier for earlier, later in zip(moments[3:], moments[4:], strict=False))


def relative_time(run: Run) -> float:
    """What the order of runs goes by: of two runs on one machine, the one with more is expected to take longer."""
    return sum(_flops(run)) / efficiency(run.model.width) if run.model else 0.0
