"""Metrics of probes: accuracy with interval and majority baseline, correlation, convergence; splits by group."""

from math import sqrt
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, Num, Shaped


def mean_or_nan(values: Shaped[np.ndarray, " N"]) -> float:
    """Mean, NaN of an empty array: a missing value, never a 0."""
    return float(values.mean()) if len(values) else float("nan")


def accuracy_row(
    hits: Int[np.ndarray, " G"], counts: Int[np.ndarray, " G"], confusion: Num[np.ndarray, "C C"]
) -> dict[str, Any]:
    """The columns of a probe's result: accuracy, its 95% confidence interval low..high over groups, majority (accuracy
    of the best constant prediction), mcc, n (predictions) and groups. NaN without predictions.

    hits, counts: correct and all predictions of each group (document, person); confusion[truth, prediction]: counts.
    """
    n = int(counts.sum())
    low, high = grouped_interval(hits, counts)
    accuracy, majority = (float(part / n) if n else float("nan") for part in (hits.sum(), confusion.sum(-1).max()))
    return {
        "accuracy": accuracy, "low": low, "high": high, "majority": majority, "mcc": float(matthews(confusion)),
        "n": n, "groups": int((counts > 0).sum()),
    }  # fmt: skip


def score(
    truth: Int[np.ndarray, " N"], answers: Int[np.ndarray, " N"], groups: Int[np.ndarray, " N"]
) -> dict[str, Any]:
    """`accuracy_row` of N single predictions, each with its group."""
    _, numbers = np.unique(groups, return_inverse=True)
    _, pairs = np.unique(np.concatenate([truth, answers]), return_inverse=True)
    confusion = np.zeros((pairs.max(initial=0) + 1,) * 2, int)
    np.add.at(confusion, (pairs[: len(truth)], pairs[len(truth) :]), 1)
    counts = np.bincount(numbers)
    return accuracy_row(np.bincount(numbers[truth == answers], minlength=len(counts)), counts, confusion)


def matthews(confusion: Num[np.ndarray, "*S C C"]) -> Float[np.ndarray, "*S"]:
    """Matthews correlation coefficient of confusion[..., truth, prediction] for C classes (Gorodkin 2004): 1 if all are
    correct, 0 for predictions independent of the truth at any balance of classes, and if either is constant."""
    table = confusion.astype(float)
    truth, answer, n = table.sum(-1), table.sum(-2), table.sum((-2, -1))
    right = table.trace(axis1=-2, axis2=-1)
    spread = (n**2 - (truth**2).sum(-1)) * (n**2 - (answer**2).sum(-1))
    return np.where(spread > 0, (right * n - (truth * answer).sum(-1)) / np.sqrt(np.where(spread > 0, spread, 1)), 0.0)


def grouped_interval(hits: Int[np.ndarray, " G"], counts: Int[np.ndarray, " G"]) -> tuple[float, float]:
    """95% confidence interval of the accuracy sum(hits) / sum(counts), from the variance between groups (documents,
    people) because rows of a group are correlated: Student's t over the linearized ratio. NaN for fewer than two
    groups."""
    from scipy.special import stdtrit

    nonempty = counts > 0
    hits, counts = hits[nonempty], counts[nonempty]
    n = len(counts)
    if n < 2:
        return float("nan"), float("nan")
    accuracy = hits.sum() / counts.sum()
    residuals = (hits - accuracy * counts) / counts.mean()
    half = float(stdtrit(n - 1, 0.975)) * float(residuals.std(ddof=1)) / sqrt(n)
    return max(0.0, float(accuracy - half)), min(1.0, float(accuracy + half))


def proportion_interval(hits: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Exact confidence interval of a proportion, hits of n independent trials (Clopper and Pearson 1934): 0 of n still
    has an upper limit above 0. NaN for n = 0."""
    from scipy.special import betaincinv

    if not n:
        return float("nan"), float("nan")
    tail = (1 - level) / 2
    low = float(betaincinv(hits, n - hits + 1, tail)) if hits else 0.0
    return low, float(betaincinv(hits + 1, n - hits, 1 - tail)) if hits < n else 1.0


def split_groups(groups: Int[np.ndarray, " N"], share: float, seed: int) -> Bool[np.ndarray, " N"]:
    """Mask of test rows: all rows of a random `share` of the groups (at least one group, never all)."""
    known, numbers = np.unique(groups, return_inverse=True)
    count = min(max(1, round(share * len(known))), len(known) - 1)
    test_groups = np.random.default_rng(seed).permutation(len(known))[:count]
    return np.isin(numbers, test_groups)


def permute_labels_between_groups(
    labels: Int[np.ndarray, " N"], groups: Int[np.ndarray, " N"], seed: int
) -> Int[np.ndarray, " N"]:
    """The control without signal: each group gets the labels of another group, in order, repeated or cut to its own
    number of rows. Dependence among the labels of a group stays, dependence on their rows is lost."""
    known, numbers = np.unique(groups, return_inverse=True)
    order = np.random.default_rng(seed).permutation(len(known))
    rows = [np.flatnonzero(numbers == g) for g in range(len(known))]
    permuted = labels.copy()
    for here, there in zip(order, np.roll(order, 1), strict=True):  # a single cycle: no group keeps its own
        permuted[rows[here]] = np.resize(labels[rows[there]], len(rows[here]))
    return permuted


def has_converged(losses: Float[np.ndarray, " steps *S"]) -> Bool[np.ndarray, "*S"]:
    """Whether the mean loss of the last tenth of the steps is below that of the tenth before by at most 1% of it or
    0.001 nats. False for fewer than twenty steps.

    False is certain: more steps help. True under a decaying learning rate says only that this schedule has come to its
    end; double the steps to see whether a longer one helps."""
    tenth = len(losses) // 10
    if tenth < 2:
        return np.zeros(losses.shape[1:], bool)
    before, last = losses[-2 * tenth : -tenth].mean(0), losses[-tenth:].mean(0)
    return before - last <= np.maximum(0.01 * before, 1e-3)


def final_loss(losses: Float[np.ndarray, " steps *S"]) -> Float[np.ndarray, "*S"]:
    """Mean over the last tenth of the steps."""
    return losses[-max(1, len(losses) // 10) :].mean(0)
