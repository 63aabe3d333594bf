"""The plain linear probe: a linear classifier of one hidden state, for every layer.

Logistic regression at its exact optimum, so results do not depend on a learning rate; all layers are fitted at once.
For facts at one token, as in the probes of Part 3.1 (arXiv 2309.14316, section 5).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations_with_replacement
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from probing.scoring.metrics import permute_labels_between_groups, score, split_groups
from synth import UserError

GRADIENT = 1e-5  # largest entry, in nats per row, of the gradient at an optimum
MAX_NEWTON = 512  # weights of a classifier: the square of it is solved for in every step
MAX_STEPS = 50


@dataclass(frozen=True)
class Classifiers:
    """S linear classifiers: weight (S, D, C), bias (S, 1, C), and whether each has reached its optimum (S,)."""

    weight: Tensor
    bias: Tensor
    converged: Bool[np.ndarray, " S"]

    def __call__(self, features: Float[Tensor, "S N D"]) -> Int[Tensor, "S N"]:
        """The most likely class of each row."""
        return (features.to(self.weight) @ self.weight + self.bias).argmax(-1)


def logistic(
    features: Float[Tensor, "S N D"], labels: Int[Tensor, " N"], classes: int, inverse_regularization: float = 1.0
) -> Classifiers:
    """Fit S multinomial logistic regressions with the same labels, in fp64. Each minimizes the sum over rows of the
    cross-entropy plus |weight|^2 / (2 C), as scikit-learn's LogisticRegression(C=inverse_regularization) does; for two
    classes, as there, the difference of the two weight vectors is penalized.

    By Newton's method where the matrix of second derivatives is small, which takes ten steps; by L-BFGS elsewhere.
    """
    # the best two opposite vectors are half the difference each, so together half its square
    penalty = (2 if classes == 2 else 1) / (2 * inverse_regularization)
    targets = labels.to(features.device).long()
    if (features.shape[2] + 1) * classes > MAX_NEWTON:
        return _by_lbfgs(features.double(), targets, classes, penalty)
    fits = [_by_newton(rows.double(), F.one_hot(targets, classes).double(), penalty) for rows in features]
    weights, converged = torch.stack([fit[0] for fit in fits]), np.array([fit[1] for fit in fits])
    return Classifiers(weights[:, :-1], weights[:, -1:], converged)


def _by_newton(
    rows: Float[Tensor, "N D"], targets: Float[Tensor, "N C"], penalty: float
) -> tuple[Float[Tensor, "D_and_bias C"], bool]:
    """The optimal weights with the bias as the last row, and whether they are optimal; steps are halved until the loss
    falls."""
    n, classes = targets.shape
    x = torch.cat((rows, rows.new_ones(n, 1)), 1)
    weight = x.new_zeros(x.shape[1], classes)
    # a bias has no penalty but that which keeps the sum of all, on which nothing depends, at 0
    ridge = torch.full_like(weight, 2 * penalty)
    ridge[-1] = 1e-6

    def loss(weight: Tensor) -> Tensor:
        scores = x @ weight
        return (scores.logsumexp(1) - (scores * targets).sum(1)).sum() + (ridge * weight.square()).sum() / 2

    value = loss(weight)
    for _ in range(MAX_STEPS):
        shares = (x @ weight).softmax(1)
        gradient = x.T @ (shares - targets) + ridge * weight
        if gradient.abs().max() < GRADIENT * n / 100:
            return weight, True
        curvature = torch.diag(ridge.T.flatten())  # blocks by class
        for c, d in combinations_with_replacement(range(classes), 2):
            block = (x * (shares[:, c] * (float(c == d) - shares[:, d]))[:, None]).T @ x
            curvature[c * x.shape[1] : (c + 1) * x.shape[1], d * x.shape[1] : (d + 1) * x.shape[1]] += block
            if c != d:
                curvature[d * x.shape[1] : (d + 1) * x.shape[1], c * x.shape[1] : (c + 1) * x.shape[1]] += block.T
        step = torch.linalg.solve(curvature, gradient.T.flatten()).view(classes, -1).T
        size = 1.0
        while (new := loss(weight - size * step)) > value and size > 1e-6:
            size /= 2
        weight, value = weight - size * step, new
    return weight, False


def _by_lbfgs(rows: Float[Tensor, "S N D"], labels: Int[Tensor, " N"], classes: int, penalty: float) -> Classifiers:
    weight = torch.zeros(len(rows), rows.shape[2], classes, dtype=torch.float64, device=rows.device)
    bias = torch.zeros(len(rows), 1, classes, dtype=torch.float64, device=rows.device)
    targets = labels.expand(len(rows), -1).flatten()
    settings: dict[str, Any] = {"tolerance_grad": GRADIENT / 100, "tolerance_change": 0}
    solver = torch.optim.LBFGS([weight, bias], max_iter=1000, line_search_fn="strong_wolfe", **settings)

    def loss() -> Tensor:
        for part in (weight, bias):
            part.grad = None
            part.requires_grad_()
        fit = F.cross_entropy((rows @ weight + bias).flatten(0, 1), targets, reduction="sum")
        total = (fit + penalty * weight.square().sum()) / rows.shape[1]
        total.backward()
        return total

    with torch.enable_grad():
        solver.step(loss)
        loss()
    assert weight.grad is not None and bias.grad is not None
    steepest = torch.maximum(weight.grad.abs().amax((1, 2)), bias.grad.abs().amax((1, 2)))
    return Classifiers(weight.detach(), bias.detach(), (steepest < GRADIENT).cpu().numpy())


def probe_layers(
    states: Mapping[str, Float[np.ndarray | Tensor, "N D"]],
    labels: Int[np.ndarray, " N"],
    groups: Int[np.ndarray, " N"],
    test_share: float = 0.2,
    inverse_regularization: float = 1.0,
    seed: int = 0,
    shuffled: bool = False,
) -> list[dict[str, Any]]:
    """Fit a probe on each layer. Returns a row per layer: the columns of probing.scoring.metrics.score on the test
    rows, converged, and unseen, the number of test rows left out because no training row has their class.

    groups: group of each row (a person, a document); a group is in the training or the test rows, never in both.
    shuffled: the control, in which each group has the labels of another. States are standardized over the training
    rows. Raises UserError for fewer than two groups, and if the training rows have a single class.
    """
    if len(np.unique(groups)) < 2:
        raise UserError("a probe needs groups for training and others for the test; give at least two groups")
    labels = permute_labels_between_groups(labels, groups, seed) if shuffled else labels
    test = split_groups(groups, test_share, seed)
    known, numbers = np.unique(labels[~test], return_inverse=True)
    if len(known) < 2:
        raise UserError("all training rows have the same class; give more groups")
    scored = test & np.isin(labels, known)
    features = torch.stack([torch.as_tensor(state) for state in states.values()]).double()
    in_training = torch.from_numpy(~test)
    training = features[:, in_training]
    features = (features - training.mean(1, keepdim=True)) / training.std(1, keepdim=True).clamp_min(1e-6)
    targets = torch.from_numpy(numbers)
    classifiers = logistic(features[:, in_training], targets, len(known), inverse_regularization)
    predicted = known[classifiers(features[:, torch.from_numpy(scored)]).cpu().numpy()]
    unseen = {"unseen": int(test.sum() - scored.sum())}
    return [
        {"layer": name, **score(labels[scored], row, groups[scored]), "converged": bool(converged), **unseen}
        for name, row, converged in zip(states, predicted, classifiers.converged, strict=True)
    ]
