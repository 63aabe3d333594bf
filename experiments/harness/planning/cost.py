"""What runs will cost, before anything runs: parameters, tokens, FLOPs, memory, R_max and the time on this machine.

Everything comes from formulas on shapes, so that the papers' sizes are counted as fast as the smallest. FLOPs follow
PaLM (arXiv 2204.02311, appendix B). R_max, the most bits per parameter that the data allows: Part 3.3 (arXiv
2404.05405), section 3.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

from experiments.harness.execution.execute import has_result
from experiments.harness.execution.model_cache import cache_key, model_dir
from experiments.harness.execution.tuning import first_trials
from experiments.harness.run import MATCHED_PARAMETERS, Run, Stage, configuration_id, seed_major_order
from lm.memory import MemoryProfile, bytes_per_device
from lm.throughput import efficiency, has_compiled_kernels, measure_matmul_flops, single_thread
from synth.mixture import main_part


@dataclass(frozen=True)
class Cost:
    """The cost of one configuration: of a single run, except runs, finished and the last three, which cover all seeds.

    tokens, flops: of all trainings of a run, flops with its evaluations; memory_bytes: on this machine in fp32;
    memory_profile: of the largest training on a GPU, None without a model; seconds: expected in one process with one
    thread, or on the GPU; timed_on_gpu: whether from steps timed on a GPU of this machine; matched_ratio: parameters
    over those that the run's tag says they are to equal. total_flops: without trainings that another configuration has
    counted; remaining_seconds: of the runs without a result one after another, without trainings that are cached or
    counted already; new_models: cached models that they add.
    """

    label: str
    runs: int
    finished: int
    parameters: int
    width: int
    steps: int
    tokens: int
    flops: float
    memory_bytes: float
    memory_profile: MemoryProfile | None
    seconds: float
    timed_on_gpu: bool
    r_max: float | None
    matched_ratio: float | None
    total_flops: float
    remaining_seconds: float
    new_models: int


@dataclass(frozen=True)
class CostShare:
    """The cost of one training, or of all evaluations of a run."""

    flops: float
    seconds: float


CountedModels = set[tuple[str, bool]]  # cache keys of counted models, and whether their training is still to be done


def estimate_costs(
    runs: Sequence[Run], runs_dir: Path, time_steps: bool = False, counted: CountedModels | None = None
) -> list[Cost]:
    """The cost of every distinct configuration, the first trials of grids before the runs themselves; with time_steps a
    few steps of each are timed on this machine.

    counted: models that other experiments have counted already; those counted here are added to it.
    """
    groups: dict[str, list[Run]] = {}
    for run in seed_major_order([*first_trials(runs), *runs]):
        groups.setdefault(configuration_id(run), []).append(run)
    counted = set() if counted is None else counted
    return [_cost(group, runs_dir, time_steps, counted) for group in groups.values()]


def _cost(group: Sequence[Run], runs_dir: Path, time_steps: bool, counted: CountedModels) -> Cost:
    run = group[0]
    pending = [not has_result(each, runs_dir) for each in group]
    parameters = _num_parameters(run)
    *trainings, evaluating = shares = _cost_shares(run, time_steps)
    information_content = getattr(main_part(run.task), "information_content", None)
    total_flops, remaining, new_models = evaluating.flops * len(group), evaluating.seconds * sum(pending), 0
    for each, is_pending in zip(group, pending, strict=True):
        for stage_number, share in enumerate(trainings, 1):
            key = cache_key(each, stage_number)
            is_new = (key, False) not in counted
            total_flops += share.flops * is_new
            new_models += is_new * (1 + len(run.snapshot_steps(stage_number - 1)))
            cached = (key, True) in counted or model_dir(each, runs_dir, stage_number).exists()
            remaining += share.seconds * (is_pending and not cached)
            counted |= {(key, False), (key, is_pending)}
    host_memory = _largest_memory_profile(run, parameters, autocast=False)
    return Cost(
        label=run.label,
        runs=len(group),
        finished=len(group) - sum(pending),
        parameters=parameters,
        width=run.model.d_model if run.model else 0,
        steps=run.steps,
        tokens=sum(stage.train.batch_size * stage.train.seq_len * stage.train.steps for stage in run.stages),
        flops=sum(share.flops for share in shares),
        memory_bytes=bytes_per_device(host_memory) if host_memory else 0.0,
        memory_profile=_largest_memory_profile(run, parameters, autocast=True),
        seconds=sum(share.seconds for share in shares),
        timed_on_gpu=time_steps and _has_gpu(),
        r_max=information_content().bits / parameters if information_content and parameters else None,
        matched_ratio=parameters / dict(run.tags)[MATCHED_PARAMETERS] if MATCHED_PARAMETERS in dict(run.tags) else None,
        total_flops=total_flops,
        remaining_seconds=remaining,
        # untrained models are stored by their runs
        new_models=new_models + len(group) * (run.model is not None and not trainings),
    )


def _cost_shares(run: Run, time_steps: bool) -> list[CostShare]:
    """The trainings, then the evaluations."""
    if run.model is None:
        return [CostShare(0.0, 0.0)]
    *trainings, evaluating = _flops(run)
    rate = measure_matmul_flops("cuda" if _has_gpu() else "cpu") * efficiency(
        run.model.d_model, has_compiled_kernels(run.model)
    )
    shares = [
        CostShare(flops, time_training_step(run, stage) * stage.train.steps if time_steps else flops / rate)
        for stage, flops in zip(run.stages, trainings, strict=True)
    ]
    if time_steps and shares:
        rate = sum(share.flops for share in shares) / sum(share.seconds for share in shares)
    return [*shares, CostShare(evaluating, evaluating / rate)]


def _flops(run: Run) -> list[float]:
    """Of the trainings, then of the evaluations. A training by adapters is counted as one of all weights."""
    assert run.model is not None
    configs = [stage.train for stage in run.stages]
    trainings = [_flops_per_token(run, each.seq_len) * each.batch_size * each.seq_len * each.steps for each in configs]
    # a forward pass, which evaluations need, is a third of a training step
    seq_len = run.train.seq_len if run.train else run.model.max_seq_len
    tokens = sum(_num_tokens(each, run) for each in run.evaluations)
    if run.curve is not None:
        tokens += len(run.curve.steps) * sum(_num_tokens(each, run) for each in run.curve_evaluations)
    return [*trainings, _flops_per_token(run, seq_len) * tokens / 3]


def _num_tokens(evaluation: Any, run: Run) -> int:
    return evaluation.tokens(run.task) if hasattr(evaluation, "tokens") else 0


def _num_parameters(run: Run) -> int:
    """As the model begins; adapters of the embedding untie it, so that there may be more at the end."""
    from lm.model_size import num_parameters

    return num_parameters(run.model, run.task) if run.model else 0


def _flops_per_token(run: Run, seq_len: int) -> float:
    """FLOPs to train on one token."""
    from lm.model_size import flops_per_token

    assert run.model is not None
    return flops_per_token(run.model, run.model.model_vocab_size(run.task.vocab()), seq_len)


def _largest_memory_profile(run: Run, parameters: int, autocast: bool) -> MemoryProfile | None:
    """Of a run's trainings the one that takes the most memory; None without a model."""
    if run.model is None:
        return None
    vocab_size = run.model.model_vocab_size(run.task.vocab())
    trains = [stage.train for stage in run.stages]
    shapes = [(train.batch_size // train.grad_accum_steps, train.seq_len) for train in trains] or [(1, 0)]
    profiles = (MemoryProfile.from_model(run.model, vocab_size, parameters, *shape, autocast) for shape in shapes)
    return max(profiles, key=bytes_per_device)


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def time_training_step(
    run: Run, stage: Stage, steps: int = 12, clock: Callable[[], float] = time.perf_counter
) -> float:
    """Median seconds of a whole training step of `lm.train`, with its data and optimizer, on one thread or the GPU.

    The first four steps, which compile and warm up, are left out. (The evaluation StepTime times the eager forward and
    backward pass alone.) clock: time.process_time does not count what other processes take.
    """
    from lm.model import build
    from lm.training.loop import train

    assert run.model is not None
    moments: list[float] = []
    model, config = build(run.model, run.model.model_vocab_size(run.task.vocab()), 0), replace(stage.train, steps=steps)
    with single_thread():
        train(model, stage.task, config, 0, log_every=1, on_step=lambda *_: moments.append(clock()))
    return median(later - earlier for earlier, later in zip(moments[3:], moments[4:], strict=False))


def relative_time(run: Run) -> float:
    """A number by which runs are ordered: on one machine the run with the larger one is expected to take longer."""
    return sum(_flops(run)) / efficiency(run.model.d_model, has_compiled_kernels(run.model)) if run.model else 0.0
