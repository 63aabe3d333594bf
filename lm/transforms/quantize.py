"""Post-training quantization of weights: rounding to nearest, and GPTQ (Frantar et al., arXiv 2210.17323).

The grid is symmetric: `group` adjacent weights of a row share a scale s, and a weight is one of -m s .. m s with
m = 2^(bits-1) - 1. Part 3.3 (arXiv 2404.05405), result 8, measures what a quantized model still knows.
"""

import copy
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from lm.layers.moe import MixtureOfExperts
from lm.layers.residual import writes_residual
from lm.model import Decoder
from lm.validation import check_choice
from synth.errors import UserError

Method = Literal["rtn", "gptq"]
DAMP = 0.01  # of the mean of the Hessian's diagonal, as in the paper's code: keeps the Cholesky factor finite
TOKENS_A_BATCH = 8192


def quantize(
    model: Decoder,
    bits: int = 8,
    group: int | None = 128,
    method: Method = "rtn",
    calibration: Sequence[np.ndarray] | None = None,
    tables: bool = True,
) -> Decoder:
    """A copy of the model, in eval mode, with its matrices on a grid of `bits` bits (stored as float32).

    group: number of weights of a row that share a scale (None: the whole row). method: rtn rounds to nearest; gptq
    quantizes layer by layer and adjusts the weights not yet rounded to preserve the layer's output on the
    `calibration` documents, token ids (T,). tables: also round the token, positions and output embeddings to nearest;
    public GPTQ tools leave them. Biases, norms and convolutions are unchanged.
    Raises UserError for bits outside 2..8, an empty group, and gptq without calibration.
    """
    if not 2 <= bits <= 8:
        raise UserError(f"bits={bits} is not supported; give 2 to 8")
    if group is not None and group < 1:
        raise UserError(f"group={group} is empty; give at least 1 weight, or None for whole rows")
    check_choice("method", method, Method)
    if method == "gptq" and not calibration:
        raise UserError("gptq needs calibration documents; give some of the training data, or use method rtn")
    model = copy.deepcopy(model).eval()
    with torch.no_grad():
        for layers in _stages(model):
            moments = _second_moments(model, layers, calibration or ()) if method == "gptq" else {}
            for layer in layers:
                weight, moment = layer.weight, moments.get(layer)
                rounded = round_to_nearest(weight, bits, group) if moment is None else gptq(weight, moment, bits, group)
                weight.copy_(rounded)
        for table in model.tables() if tables else ():
            table.weight.copy_(round_to_nearest(table.weight, bits, group))
    return model


def round_to_nearest(weight: Float[Tensor, "out in"], bits: int, group: int | None = None) -> Float[Tensor, "out in"]:
    """Round each weight to its group's grid, which spans plus and minus the largest magnitude of the group."""
    parts = weight.split(group or weight.shape[1], 1)
    return torch.cat([_on_grid(part, _scale(part, bits), bits) for part in parts], 1)


def gptq(
    weight: Float[Tensor, "out in"], moment: Float[Tensor, "in in"], bits: int, group: int | None = None
) -> Float[Tensor, "out in"]:
    """Round column by column, each time moving the remaining columns to keep W x close.

    moment: the sum of x x^T over the inputs x of the layer. With U the upper Cholesky factor of its inverse, an error
    e in column j is best compensated by adding -e U[j, later] / U[j, j] to the later columns.
    """
    left, rounded = weight.double().clone(), torch.empty_like(weight)
    upper = _inverse_factor(moment.double())
    scale = torch.empty(0)
    for j in range(left.shape[1]):
        if j % (group or left.shape[1]) == 0:  # a group's scale depends on its updated weights
            scale = _scale(left[:, j : j + (group or left.shape[1])], bits)
        column = _on_grid(left[:, j : j + 1], scale, bits)
        error = (left[:, j : j + 1] - column) / upper[j, j]
        left[:, j + 1 :] -= error * upper[j, j + 1 :]
        rounded[:, j : j + 1] = column
    return rounded


def _inverse_factor(moment: Tensor) -> Tensor:
    """Upper triangular U with U^T U = (moment + damping)^-1."""
    diagonal = moment.diagonal()
    damped = moment.clone()
    damped.diagonal().add_(DAMP * diagonal.mean())
    damped.diagonal()[diagonal == 0] = 1.0  # an input that is always 0
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(damped))
    return torch.linalg.cholesky(inverse, upper=True)


def _scale(part: Tensor, bits: int) -> Tensor:
    """Step (out, 1) of each row's grid; 1 where all weights are 0."""
    largest = part.abs().amax(1, keepdim=True)
    return torch.where(largest > 0, largest / (2 ** (bits - 1) - 1), 1.0)


def _on_grid(part: Tensor, scale: Tensor, bits: int) -> Tensor:
    limit = 2 ** (bits - 1) - 1
    return (part / scale).round().clamp(-limit, limit) * scale


def _stages(model: Decoder) -> Iterator[list[nn.Linear]]:
    """Linear layers of the blocks in forward order; layers that run side by side, such as experts, are in one list."""
    experts = {layer for m in model.modules() if isinstance(m, MixtureOfExperts) for layer in m.experts.modules()}

    def order(layer: nn.Module) -> tuple[bool, bool]:
        return writes_residual(layer), layer in experts

    for part in (part for block in model.blocks for part in (block.mixer, block.mlp) if part is not None):
        layers = [layer for layer in part.modules() if isinstance(layer, nn.Linear)]
        yield from (list(stage) for _, stage in groupby(sorted(layers, key=order), order))


def _second_moments(
    model: Decoder, layers: Sequence[nn.Linear], calibration: Sequence[np.ndarray]
) -> dict[nn.Module, Tensor]:
    """Sum of x x^T (in, in) over each layer's inputs x on the calibration documents; no entry for an expert to which
    no token was routed."""
    sums: dict[nn.Module, Tensor] = {}

    def add(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        x = inputs[0].flatten(0, -2).float()  # (N, in)
        if len(x):
            sums[layer] = sums.get(layer, 0) + x.T @ x

    hooks = [layer.register_forward_pre_hook(add) for layer in layers]
    try:
        for batch in _batches(calibration, model.embed.weight.device):
            model(batch)
    finally:
        for hook in hooks:
            hook.remove()
    return sums


def _batches(documents: Sequence[np.ndarray], device: torch.device) -> Iterator[Tensor]:
    """Batches of documents of equal length, so that there is no padding to be counted among the inputs."""
    ordered = sorted(documents, key=len)
    for length, same in groupby(ordered, len):
        rows = np.stack(list(same)).astype(np.int64)
        if length:
            step = max(1, TOKENS_A_BATCH // length)
            yield from (torch.from_numpy(rows[i : i + step]).to(device) for i in range(0, len(rows), step))
