"""What a probe's answers are worth: accuracy beside the majority, correlation, an interval, and splits by group."""

from math import sqrt
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, Num


def tallied(
    hits: Int[np.ndarray, " G"], asked: Int[np.ndarray, " G"], confusion: Num[np.ndarray, "C C"]
) -> dict[str, Any]:
    """The columns of a probe's result, from right answers and questions of each group (document, person) and counts of
    (truth, answer): accuracy, its 95% interval low..high over groups, majority (the best that a single answer could
    reach), mcc, n questions in so many groups. NaN where nothing was asked."""
    n = int(asked.sum())
    low, high = grouped_interval(hits, asked)
    accuracy, majority = (float(part / n) if n else float("nan") for part in (hits.sum(), confusion.sum(-1).max()))
    return {
        "accuracy": accuracy, "low": low, "high": high, "majority": majority, "mcc": float(matthews(confusion)),
        "n": n, "groups": int((asked > 0).sum()),
    }  # fmt: skip


def score(
    truth: Int[np.ndarray, " N"], answers: Int[np.ndarray, " N"], groups: Int[np.ndarray, " N"]
) -> dict[str, Any]:
    """`tallied` of single answers."""
    _, numbers = np.unique(groups, return_inverse=True)
    _, pairs = np.unique(np.concatenate([truth, answers]), return_inverse=True)
    confusion = np.zeros((pairs.max(initial=0) + 1,) * 2, int)
    np.add.at(confusion, (pairs[: len(truth)], pairs[len(truth) :]), 1)
    asked = np.bincount(numbers)
    return tallied(np.bincount(numbers[truth == answers], minlength=len(asked)), asked, confusion)


def matthews(confusion: Num[np.ndarray, "*S C C"]) -> Float[np.ndarray, "*S"]:
    """Matthews' correlation of a table of counts (truth, answer) in its form for C classes (Gorodkin 2004): 1 for all
    right, 0 for answers that know nothing, whatever the balance of classes; 0 too where truth or answers never vary."""
    table = confusion.astype(float)
    truth, answer, n = table.sum(-1), table.sum(-2), table.sum((-2, -1))
    right = table.trace(axis1=-2, axis2=-1)
    spread = (n**2 - (truth**2).sum(-1)) * (n**2 - (answer**2).sum(-1))
    return np.where(spread > 0, (right * n - (truth * answer).sum(-1)) / np.sqrt(np.where(spread > 0, spread, 1)), 0.0)


def grouped_interval(
    hits: Int[np.ndarray, " G"], counts: Int[np.ndarray, " G"], level: float = 0.95
) -> tuple[float, float]:
    """Limits of the accuracy sum(hits) / sum(counts) by the spread between groups (documents, people) and not between
    rows, which are alike within a group: Student's t over the linearised ratio. NaN for fewer than two groups."""
    from scipy.special import stdtrit

    kept = counts > 0
    hits, counts = hits[kept], counts[kept]
    n = len(counts)
    if n < 2:
        return float("nan"), float("nan")
    accuracy = hits.sum() / counts.sum()
    residuals = (hits - accuracy * counts) / counts.mean()
    half = float(stdtrit(n - 1, 0.5 + level / 2)) * float(residuals.std(ddof=1)) / sqrt(n)
    return max(0.0, float(accuracy - half)), min(1.0, float(accuracy + half))


def proportion_interval(hits: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Limits of a share, hits of n independent questions (Clopper and Pearson 1934): exact, so that 0 of n does not
    pass for never. NaN for n = 0."""
    from scipy.special import betaincinv

    if not n:
        return float("nan"), float("nan")
    tail = (1 - level) / 2
    low = float(betaincinv(hits, n - hits + 1, tail)) if hits else 0.0
    return low, float(betaincinv(hits + 1, n - hits, 1 - tail)) if hits < n else 1.0


def held_out(groups: Int[np.ndarray, " N"], share: float, seed: int) -> Bool[np.ndarray, " N"]:
    """Which rows are for the test: all rows of a `share` of the groups (at least one and not all), drawn by seed."""
    known, numbers = np.unique(groups, return_inverse=True)
    count = min(max(1, round(share * len(known))), len(known) - 1)
    chosen = np.random.default_rng(seed).permutation(len(known))[:count]
    return np.isin(numbers, chosen)


def exchanged(labels: Int[np.ndarray, " N"], groups: Int[np.ndarray, " N"], seed: int) -> Int[np.ndarray, " N"]:
    """The control without signal: every group gets the labels of another one, in their order, repeated or cut to its
    own number of rows. So the labels keep what ties them to each other, and lose what ties them to their rows."""
    known, numbers = np.unique(groups, return_inverse=True)
    order = np.random.default_rng(seed).permutation(len(known))
    rows = [np.flatnonzero(numbers == g) for g in range(len(known))]
    found = labels.copy()
    for here, there in zip(order, np.roll(order, 1), strict=True):  # one cycle: no group keeps its own
        found[rows[here]] = np.resize(labels[rows[there]], len(rows[here]))
    return found


def settled(losses: Float[np.ndarray, "steps *S"], least: float = 0.01, floor: float = 1e-3) -> Bool[np.ndarray, "*S"]:
    """Whether training had come to rest: the mean loss of the last tenth of the steps is below that of the tenth before
    by at most `least` of it, or by at most `floor` nats. Fewer than twenty steps tell nothing, and it says no.

    A no is certain: more steps help. A yes under a falling learning rate says that this schedule had no more to give;
    that a longer one would not either is shown by doubling the steps."""
    tenth = len(losses) // 10
    if tenth < 2:
        return np.zeros(losses.shape[1:], bool)
    before, last = losses[-2 * tenth : -tenth].mean(0), losses[-tenth:].mean(0)
    return before - last <= np.maximum(least * before, floor)
