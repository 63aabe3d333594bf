"""The plain linear probe: what one linear classifier reads from one hidden state, layer by layer.

Logistic regression at its exact optimum, so that nothing hangs on a learning rate; all layers are fitted at once. For
facts that stand at one token, as in the probes of Part 3.1 (arXiv 2309.14316, section 5).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from probing.scoring.metrics import exchanged, held_out, score
from synth import UserError

GRADIENT = 1e-5  # nats a row for a change of 1 in any weight: where it is smaller everywhere, the optimum is reached


@dataclass(frozen=True)
class Classifiers:
    """S linear classifiers, weight (S, D, C) and bias (S, 1, C), and which of them reached their optimum (S,)."""

    weight: Tensor
    bias: Tensor
    converged: Bool[np.ndarray, " S"]

    def __call__(self, features: Float[Tensor, "S N D"]) -> Int[Tensor, "S N"]:
        """The likeliest class of each row."""
        return (features.to(self.weight) @ self.weight + self.bias).argmax(-1)


def logistic(
    features: Float[Tensor, "S N D"], labels: Int[Tensor, " N"], classes: int, strength: float = 1.0, steps: int = 1000
) -> Classifiers:
    """S multinomial logistic regressions on the same rows, each minimising the sum over rows of the cross-entropy plus
    |weight|^2 / (2 strength), as scikit-learn's LogisticRegression(C=strength) does; L-BFGS in fp64. Of two classes, as
    there, the difference of the weights is what is penalised."""
    rows = features.double()
    weight = torch.zeros(len(rows), rows.shape[2], classes, dtype=torch.float64, device=rows.device)
    bias = torch.zeros(len(rows), 1, classes, dtype=torch.float64, device=rows.device)
    targets = labels.to(rows.device).long().expand(len(rows), -1).flatten()
    solver = torch.optim.LBFGS(
        [weight, bias], max_iter=steps, tolerance_grad=GRADIENT / 100, tolerance_change=0, line_search_fn="strong_wolfe"
    )

    # the best two opposite vectors are half the difference each, so together half its square
    penalty = (2 if classes == 2 else 1) / (2 * strength)

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


def linear_probe(
    states: Mapping[str, Float[np.ndarray | Tensor, "N D"]],
    labels: Int[np.ndarray, " N"],
    groups: Int[np.ndarray, " N"],
    test_share: float = 0.2,
    strength: float = 1.0,
    seed: int = 0,
    shuffled: bool = False,
) -> list[dict[str, Any]]:
    """A row for each layer of `states`: the columns of probing.scoring.metrics.score, converged, and unseen, how many
    test rows were left out because their class was in no training row.

    groups: whom each row is about (a person, a document); a group is learned on or tested on, never both. shuffled: the
    control, in which each group has the labels of another. States are shifted and scaled to mean 0 and spread 1 over
    the training rows. Raises UserError for fewer than two groups, or when only one class is left to learn.
    """
    if len(np.unique(groups)) < 2:
        raise UserError("a probe needs groups to learn on and others to be tested on; give at least two groups")
    labels = exchanged(labels, groups, seed) if shuffled else labels
    test = held_out(groups, test_share, seed)
    known, numbers = np.unique(labels[~test], return_inverse=True)
    if len(known) < 2:
        raise UserError("all rows that a probe would learn on have one class; give more groups")
    asked = test & np.isin(labels, known)
    features = torch.stack([torch.as_tensor(state) for state in states.values()]).double()
    taught = features[:, torch.from_numpy(~test)]
    features = (features - taught.mean(1, keepdim=True)) / taught.std(1, keepdim=True).clamp_min(1e-6)
    found = logistic(features[:, torch.from_numpy(~test)], torch.from_numpy(numbers), len(known), strength)
    answers = known[found(features[:, torch.from_numpy(asked)]).cpu().numpy()]
    unseen = {"unseen": int(test.sum() - asked.sum())}
    return [
        {"layer": name, **score(labels[asked], answer, groups[asked]), "converged": bool(found.converged[s]), **unseen}
        for s, (name, answer) in enumerate(zip(states, answers, strict=True))
    ]
