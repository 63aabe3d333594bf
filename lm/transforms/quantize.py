"""Weights on few bits after training: rounding to nearest, and GPTQ (Frantar et al., arXiv 2210.17323).

The grid is symmetric: `group` neighbouring weights of a row share a scale s, and a weight is one of -m s .. m s with
m = 2^(bits-1) - 1. Part 3.3 (arXiv 2404.05405), result 8, asks what a model then still knows.
"""

import copy
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from lm.model import Decoder
from lm.validation import choose
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

    group: how many weights of a row share a scale (None: the whole row); method: rtn rounds each weight to the nearest,
    gptq goes through the layers in order and lets the weights not yet rounded mend what rounding did to the layer's
    output on the `calibration` documents (token ids (T,), each at least one). tables: also round the tables (token
    embedding, positions, untied output) to nearest; False leaves them, as the public GPTQ tools do. Biases, norms
    and the taps of convolutions stay. Raises UserError on a number of bits outside 2..8, an empty group, and gptq
    without calibration.
    """
    if not 2 <= bits <= 8:
        raise UserError(f"bits={bits} cannot be had; give 2 to 8")
    if group is not None and group < 1:
        raise UserError(f"group={group} is empty; give at least 1 weight, or None for whole rows")
    choose("method", method, Method)
    if method == "gptq" and not calibration:
        raise UserError("gptq needs calibration documents; give some of the training data, or use method rtn")
    model = copy.deepcopy(model).eval()
    with torch.no_grad():
        for layers in _stages(model):
            sums = _second_moments(model, layers, calibration or ()) if method == "gptq" else {}
            for name, layer in layers.items():
                weight, moment = layer.weight, sums.get(name)
                rounded = round_to_nearest(weight, bits, group) if moment is None else gptq(weight, moment, bits, group)
                weight.copy_(rounded)
        for name, table in model.named_parameters():
            if tables and name in ("embed.weight", "positions.weight", "head.weight"):
                table.copy_(round_to_nearest(table, bits, group))
    return model


def round_to_nearest(weight: Float[Tensor, "out in"], bits: int, group: int | None = None) -> Float[Tensor, "out in"]:
    """Each weight at the nearest point of its group's grid, whose ends are the largest magnitude of the group."""
    parts = weight.split(group or weight.shape[1], 1)
    return torch.cat([_on_grid(part, _scale(part, bits), bits) for part in parts], 1)


def gptq(
    weight: Float[Tensor, "out in"], moment: Float[Tensor, "in in"], bits: int, group: int | None = None
) -> Float[Tensor, "out in"]:
    """Round column after column; the columns not yet rounded take over the error, so that W x stays near.

    moment: the sum of x x^T over the inputs x of the layer. With U the upper Cholesky factor of its inverse, an error
    e in column j is best mended by moving the later columns by -e U[j, later] / U[j, j].
    """
    left, rounded = weight.double().clone(), torch.empty_like(weight)
    upper = _inverse_factor(moment.double())
    scale = torch.empty(0)
    for j in range(left.shape[1]):
        if j % (group or left.shape[1]) == 0:  # the grid of a group follows what its weights have become
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
    damped.diagonal()[diagonal == 0] = 1.0  # an input that is always 0: nothing to mend and nothing to mend with
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(damped))
    return torch.linalg.cholesky(inverse, upper=True)


def _scale(part: Tensor, bits: int) -> Tensor:
    """The step of each row's grid (out, 1); 1 where all weights are 0."""
    largest = part.abs().amax(1, keepdim=True)
    return torch.where(largest > 0, largest / (2 ** (bits - 1) - 1), 1.0)


def _on_grid(part: Tensor, scale: Tensor, bits: int) -> Tensor:
    most = 2 ** (bits - 1) - 1
    return (part / scale).round().clamp(-most, most) * scale


def _stages(model: Decoder) -> Iterator[dict[str, nn.Linear]]:
    """The Linear layers of the blocks by name, in the order in which data meets them; the experts of a block meet it
    side by side, and so do their second layers."""

    def stage(name: str) -> tuple[Any, ...]:
        block, part, *_, last = name.split(".")[1:]
        return int(block), part == "mlp", last == "down" or last == "out", ".experts." in name

    linear = {name: layer for name, layer in model.named_modules() if isinstance(layer, nn.Linear) and "." in name}
    for _, names in groupby(sorted(linear, key=stage), stage):
        yield {name: linear[name] for name in names}


def _second_moments(
    model: Decoder, layers: dict[str, nn.Linear], calibration: Sequence[np.ndarray]
) -> dict[str, Tensor]:
    """The sum of x x^T over all inputs x that each layer meets on the calibration documents; none for a layer that met
    nothing (an expert to which no token went)."""
    sums: dict[str, Tensor] = {}

    def watch(name: str) -> Any:
        def hook(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            x = inputs[0].flatten(0, -2).float()
            if len(x):
                sums[name] = sums.get(name, 0) + x.T @ x

        return hook

    hooks = [layer.register_forward_pre_hook(watch(name)) for name, layer in layers.items()]
    try:
        for batch in _batches(calibration, model.embed.weight.device):
            model(batch)
    finally:
        for hook in hooks:
            hook.remove()
    return sums


def _batches(documents: Sequence[np.ndarray], device: torch.device) -> Iterator[Tensor]:
    """Documents of one length together, so that none needs padding, which would count among the inputs."""
    ordered = sorted(documents, key=len)
    for length, same in groupby(ordered, len):
        rows = np.stack(list(same)).astype(np.int64)
        if length:
            step = max(1, TOKENS_A_BATCH // length)
            yield from (torch.from_numpy(rows[i : i + step]).to(device) for i in range(0, len(rows), step))
