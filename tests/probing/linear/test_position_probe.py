"""Linear probes find what was planted and nothing in noise, and equal a naive or exact computation."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from experiments.harness.statistics.estimates import student_limits
from probing.linear.logistic import logistic, probe_layers
from probing.linear.position_probe import PositionProbes, StateBatch, fit_position_probes
from probing.scoring.metrics import (
    grouped_interval,
    has_converged,
    matthews,
    permute_labels_between_groups,
    split_groups,
)
from synth import UserError


# ---- scores ---------------------------------------------------------------------------------------------------------
def test_matthews_of_two_classes_is_the_textbook_formula() -> None:
    tp, fn, fp, tn = 9, 3, 2, 11
    textbook = (tp * tn - fp * fn) / np.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
    table = np.array([[[tp, fn], [fp, tn]], [[10, 0], [5, 0]], [[4, 0], [0, 7]]])
    assert matthews(table) == pytest.approx([textbook, 0, 1])


def test_the_interval_counts_groups_and_not_rows() -> None:
    hits, counts = np.array([3, 9, 6, 8, 0]), np.full(5, 10)
    low, high = student_limits(hits / 10, 0.95)
    assert grouped_interval(hits, counts) == pytest.approx((max(low, 0), high))
    assert grouped_interval(10 * hits, 10 * counts) == pytest.approx(grouped_interval(hits, counts))
    assert np.isnan(grouped_interval(np.array([3, 0]), np.array([4, 0]))).all()


def test_groups_are_never_split() -> None:
    groups = np.repeat(np.arange(50), np.arange(1, 51))
    test = split_groups(groups, 0.2, 3)
    assert len(np.unique(groups[test])) == 10 and not np.isin(groups[~test], groups[test]).any()
    labels = groups * 100 + np.arange(len(groups)) - np.searchsorted(groups, groups)
    others = permute_labels_between_groups(labels, groups, 3)
    assert (others // 100 != groups).all()
    owner = {(g, o) for g, o in zip(groups, others // 100, strict=True)}
    assert len(owner) == 50, "a group has the labels of more than one"


def test_at_rest_or_not() -> None:
    steps = np.arange(200.0)[:, None]
    losses = np.concatenate([np.exp(-steps / 100), 0.5 + 0 * steps, 1e-3 * np.exp(-steps / 50)], 1)
    assert has_converged(losses).tolist() == [False, True, True]
    assert not has_converged(losses[:19]).any()


# ---- the plain probe ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("classes", [2, 3])
def test_the_plain_probe_is_the_optimum(classes: int) -> None:
    """Of scikit-learn's objective, sum of losses + |w|^2 / (2 C), found here by another solver, one layer at a time."""
    rng = np.random.default_rng(0)
    features, n, width = rng.standard_normal((3, 80, 5)) * np.array([1, 3, 0.3])[:, None, None], 80, 5
    labels = rng.integers(0, classes, n)
    found = logistic(torch.from_numpy(features), torch.from_numpy(labels), classes, inverse_regularization=0.7)
    assert found.converged.all()
    for s in range(3):

        def loss(flat: np.ndarray, rows: np.ndarray = features[s]) -> float:
            weight, bias = np.split(flat.reshape(width + 1, classes), [width])
            logits = rows @ weight + bias
            top = logits.max(1, keepdims=True)
            said = logits - top - np.log(np.exp(logits - top).sum(1, keepdims=True))
            penalised = weight[:, 1] - weight[:, 0] if classes == 2 else weight
            return -said[np.arange(n), labels].sum() + (penalised**2).sum() / 1.4

        start = np.zeros(classes * (width + 1))
        best = minimize(loss, start, method="BFGS", options={"gtol": 1e-4}).x.reshape(width + 1, classes)
        ours = np.concatenate([found.weight[s].numpy(), found.bias[s].numpy()])
        # the same vector added to all classes changes nothing that is said
        assert ours - ours[:, :1] == pytest.approx(best - best[:, :1], abs=1e-3)


@pytest.fixture
def planted() -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """40 groups of 25 rows: a layer with the label in a direction, one of noise, one that only names the group."""
    rng = np.random.default_rng(1)
    groups = np.repeat(np.arange(40), 25)
    labels = np.where(rng.random(40) < 0.5, 4, 7)[groups]
    signal = np.outer(labels == 4, rng.standard_normal(60)) + 0.1 * rng.standard_normal((1000, 60))
    named = rng.standard_normal((40, 60))[groups] + 0.1 * rng.standard_normal((1000, 60))
    return {"signal": signal, "noise": rng.standard_normal((1000, 60)), "leak": named}, labels, groups


def test_a_planted_signal_is_found_and_noise_is_not(planted) -> None:
    states, labels, groups = planted
    rows = {row["layer"]: row for row in probe_layers(states, labels, groups, test_share=0.5)}
    assert rows["signal"]["accuracy"] == 1 and rows["signal"]["mcc"] == 1 and rows["signal"]["converged"]
    assert abs(rows["noise"]["mcc"]) < 0.15 and rows["noise"]["low"] < rows["noise"]["majority"]
    assert rows["signal"]["groups"] == 20 and rows["signal"]["n"] == 500


def test_a_leak_by_group_is_gone_under_a_split_by_group(planted) -> None:
    states, labels, groups = planted
    leaking = probe_layers({"leak": states["leak"]}, labels, np.arange(1000))[0]
    assert leaking["accuracy"] > 0.99
    honest = probe_layers({"leak": states["leak"]}, labels, groups, test_share=0.5)[0]
    assert honest["accuracy"] < 0.8 and honest["low"] < honest["majority"]


def test_shuffled_labels_give_no_signal(planted) -> None:
    states, labels, groups = planted
    row = probe_layers({"signal": states["signal"]}, labels, groups, test_share=0.5, shuffled=True)[0]
    assert row["accuracy"] < row["majority"] + 0.1 and abs(row["mcc"]) < 0.3


def test_classes_that_were_never_taught_are_left_out_and_counted(planted) -> None:
    states, labels, groups = planted
    test = split_groups(groups, 0.2, 0)
    rare = np.where(groups == groups[test][0], 9, labels)
    row = probe_layers(states, rare, groups)[0]
    assert row["unseen"] == 25 and row["n"] == test.sum() - 25 and row["accuracy"] == 1


@pytest.mark.parametrize(("groups", "labels"), [(np.zeros(4, int), np.arange(4)), (np.arange(4), np.zeros(4, int))])
def test_too_little_to_learn_on_is_one_line(groups: np.ndarray, labels: np.ndarray) -> None:
    with pytest.raises(UserError, match="give .*groups"):
        probe_layers({"a": np.ones((4, 2))}, labels, groups)


# ---- the position-based probe ---------------------------------------------------------------------------------------
@pytest.mark.parametrize("reach", [None, 0, 1])
def test_the_probe_is_equation_4_2(reach: int | None) -> None:
    layers, width, length, classes = 2, 5, 7, [3, 2]
    probes = PositionProbes(layers, classes, width, 9, heads=3, position_width=4, max_offset=reach, seed=1)
    with torch.no_grad():
        probes.bias.normal_(generator=torch.Generator().manual_seed(0))
    lengths = torch.tensor([7, 4, 1])
    states = torch.randn(layers, 3, length, width, generator=torch.Generator().manual_seed(2))
    states *= (torch.arange(length) < lengths[:, None])[..., None]
    logits = probes(states, lengths)
    assert logits.shape == (layers, 2, 3, length, 3) and (logits[:, 1, ..., 2] == -torch.inf).all()
    for y, v, b in np.ndindex(layers, 2, 3):
        n = int(lengths[b])
        for i in range(n):
            total = probes.bias[y, v, 0, 0].clone()
            for r in range(probes.heads):
                near = [k for k in range(n) if reach is None or abs(i - k) <= reach]
                if probes.position_vectors is None:
                    weights = torch.ones(1)
                else:
                    P = probes.position_vectors[y, v, r]
                    weights = torch.stack([P[i] @ P[k] for k in near]).softmax(0)
                for w, k in zip(weights, near, strict=True):
                    total = total + w * (states[y, b, k] @ probes.weight[y, :, v, r])
            torch.testing.assert_close(logits[y, v, b, i, : classes[v]], total[: classes[v]], rtol=1e-4, atol=1e-5)


def test_the_worked_example() -> None:
    """That of docs/probes.md."""
    probes = PositionProbes(1, [2], 2, 4, heads=1, position_width=2)
    with torch.no_grad():
        probes.weight[0, :, 0, 0] = torch.eye(2)
        probes.position_vectors[0, 0, 0] = torch.tensor([[2.0, 0], [2, 0], [0, 2], [0, 2]])
    lengths = torch.tensor([4, 4])
    states = torch.tensor([[[0.0, 0], [1, 0], [0, 0], [0, 1]], [[0.0, 0], [0, 0], [1, 0], [0, 1]]])
    halves, uneven = probes(states[None], lengths)[0, 0].detach().numpy()
    assert halves == pytest.approx(np.array([[0.491, 0.009]] * 2 + [[0.009, 0.491]] * 2), abs=5e-4)
    assert uneven[2] == pytest.approx(0.491, abs=5e-4)


def test_probes_do_not_depend_on_their_company() -> None:
    """Fitted together or alone, a probe ends in the same place: Adam scales each parameter by itself."""
    generator = torch.Generator().manual_seed(0)
    states, lengths = torch.randn(2, 6, 5, 3, generator=generator), torch.full((6,), 5)
    labels = torch.randint(0, 2, (1, 6, 5), generator=generator)
    pair, alone = (PositionProbes(n, [2], 3, 5, heads=2, position_width=4) for n in (2, 1))
    with torch.no_grad():
        for mine, theirs in zip(alone.parameters(), pair.parameters(), strict=True):
            mine.copy_(theirs[1:])
    both = fit_position_probes(pair, [StateBatch(states, lengths, labels)] * 40, 40)
    one = fit_position_probes(alone, [StateBatch(states[1:], lengths, labels)] * 40, 40)
    np.testing.assert_allclose(both[:, 1:], one, rtol=1e-4)
    assert (one[-1] < one[0]).all()
