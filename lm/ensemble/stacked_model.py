"""Several models of one shape as one: every parameter once, with the models as its first dimension.

Their rows stand in one batch, model after model. Linear, normalising and embedding layers become one product or pass
over all models; what has no parameters takes the longer batch as it is; a layer of any other kind that has parameters
is asked model by model. The optimizer's memory is one table, a row for each model.
"""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import fields, replace
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.func import functional_call

from lm.config import ModelConfig, TrainConfig
from lm.data.mlm import IGNORED
from lm.layers.positions import Places
from lm.model import Decoder
from synth.errors import UserError

SHARED = ("relative", "position_only")  # positions whose table goes from the decoder to all layers


class Unstackable(UserError):
    """Models that cannot be trained together; one after another they can."""


def stackable(config: ModelConfig) -> bool:
    """Whether such models can be trained together: not where rows or layers share more than weights."""
    return not config.experts and config.positions not in SHARED


class Linears(nn.Module):
    """M linear layers: weight (M, out, in), bias (M, out) or None."""

    def __init__(self, like: Any, weight: nn.Parameter, bias: nn.Parameter | None = None) -> None:
        super().__init__()
        self.weight, self.bias = weight, bias

    def forward(self, x: Tensor) -> Tensor:
        """x (M B, ..., in) -> (M B, ..., out)."""
        rows = x.reshape(len(self.weight), -1, x.shape[-1])
        turned = self.weight.mT
        y = torch.bmm(rows, turned) if self.bias is None else torch.baddbmm(self.bias[:, None], rows, turned)
        return y.view(*x.shape[:-1], -1)


class Norms(nn.Module):
    """M layer norms or RMS norms with gains (M, D), biases (M, D) or None."""

    def __init__(self, like: Any, weight: nn.Parameter, bias: nn.Parameter | None = None) -> None:
        super().__init__()
        self.weight, self.bias, self.eps = weight, bias, like.eps
        self.norm = F.layer_norm if isinstance(like, nn.LayerNorm) else F.rms_norm

    def forward(self, x: Tensor) -> Tensor:
        rows = self.norm(x, x.shape[-1:], eps=self.eps).reshape(len(self.weight), -1, x.shape[-1])
        gain = self.weight[:, None]
        return (rows * gain if self.bias is None else torch.addcmul(self.bias[:, None], rows, gain)).view(x.shape)


class Embeddings(nn.Module):
    """M tables (M, N, D)."""

    def __init__(self, like: Any, weight: nn.Parameter) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, ids: Tensor) -> Tensor:
        """ids (M B, T) -> (M B, T, D)."""
        models, size, _ = self.weight.shape
        first = torch.arange(0, models * size, size, device=ids.device).repeat_interleave(len(ids) // models)
        return F.embedding(ids + first[:, None], self.weight.flatten(0, 1))


class Each(nn.Module):
    """M modules of any other kind, each asked for its own rows."""

    def __init__(self, modules: Sequence[nn.Module], stacked: dict[str, nn.Parameter]) -> None:
        super().__init__()
        self.originals = list(modules)  # a plain list: their own parameters are not the ones that are trained
        self.names = list(stacked)
        self.stacked = nn.ParameterList(stacked.values())

    def forward(self, *inputs: Any, **named: Any) -> Tensor:
        models, out = len(self.originals), []
        unbound = [each.unbind() for each in self.stacked]
        for number, module in enumerate(self.originals):
            weights = {name: each[number] for name, each in zip(self.names, unbound, strict=True)}
            own = tuple(_of_model(value, number, models) for value in inputs)
            more = {name: _of_model(value, number, models) for name, value in named.items()}
            out.append(functional_call(module, weights, own, more))
        return torch.cat(out)


def _of_model(value: Any, number: int, models: int) -> Any:
    """The part of an argument that belongs to one model: its rows, and of the places those that differ by row."""
    if isinstance(value, Tensor):
        return value.chunk(models)[number]
    if not isinstance(value, Places) or value.index.ndim == 1:
        return value
    rows = len(value.index)

    def part(held: Any) -> Any:
        if isinstance(held, tuple):
            return tuple(part(each) for each in held)
        return _of_model(held, number, models) if isinstance(held, Tensor) and len(held) == rows else held

    return replace(value, **{field.name: part(getattr(value, field.name)) for field in fields(value)})


KINDS: dict[type[nn.Module], Any] = {
    nn.Linear: Linears,
    nn.LayerNorm: Norms,
    nn.RMSNorm: Norms,
    nn.Embedding: Embeddings,
}


class Together(Decoder):
    """M decoders of one configuration, that take the rows of all of them, model after model.

    `table` (M, P) holds all weights, those that decay first; the parameters are views of it. The decoders themselves
    are left alone.
    """

    def __init__(self, models: Sequence[Decoder]) -> None:
        first = models[0]
        if not stackable(first.config):
            what = "experts" if first.config.experts else f"positions={first.config.positions}"
            raise Unstackable(f"models with {what} cannot be trained together; train them one by one")
        with torch.device("meta"):
            super().__init__(first.config, first.vocab_size)
        for name, child in deepcopy(first).named_children():  # as they are, whatever was changed after `build`
            setattr(self, name, child)
        self.models = len(models)
        names = in_order(first)
        self.table = torch.stack([torch.cat([p.detach().flatten() for p in in_order(m).values()]) for m in models])
        ends = torch.tensor([p.numel() for p in names.values()]).cumsum(0).tolist()
        self.leaves = {
            name: nn.Parameter(self.table[:, end - p.numel() : end].view(self.models, *p.shape))
            for (name, p), end in zip(names.items(), ends, strict=True)
        }
        self.decayed = sum(p.numel() for p in names.values() if p.ndim > 1)
        self._replace("", models)

    def _replace(self, prefix: str, models: Sequence[nn.Module]) -> None:
        """Put one module for all in the place of every module that has parameters or buffers of its own."""
        for name, module in list(models[0].named_children()):
            path = f"{prefix}{name}"
            peers = [getattr(model, name) for model in models]
            own = {key: self.leaves[f"{path}.{key}"] for key, _ in module.named_parameters()}
            if type(module) in KINDS:
                new = KINDS[type(module)](module, **own)
            elif any(True for _ in [*module.parameters(recurse=False), *module.buffers(recurse=False)]):
                new = Each(peers, own)
            else:
                self._replace(f"{path}.", peers)
                continue
            parent, _, last = path.rpartition(".")
            setattr(self.get_submodule(parent), last, new)

    def embedded(self, inputs: Tensor, index: Tensor | int) -> Tensor:
        x = self.embed(inputs)
        if self.config.positions != "learned":
            return x
        assert isinstance(index, Tensor)
        return x + self.positions(index.expand(inputs.shape))

    def logits(self, x: Tensor) -> Tensor:
        weight = self.embed.weight if self.config.tied else self.head.weight
        x = self.norm(x)
        return torch.bmm(x.reshape(self.models, -1, x.shape[-1]), weight.mT).view(*x.shape[:-1], -1)


def in_order(model: nn.Module) -> dict[str, Tensor]:
    """Its parameters as lm.training.loop.make_optimizer numbers them: those that decay first."""
    named = dict(model.named_parameters())
    return dict(sorted(named.items(), key=lambda item: item[1].ndim <= 1))


class Objectives(nn.Module):
    """The loss of every model, summed over the targets that count, (M,) nats: lm.training.step.Objective of several."""

    def __init__(self, model: Together) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, inputs: Int[Tensor, "MB T"], targets: Int[Tensor, "MB T"], documents: Int[Tensor, "MB T"] | None
    ) -> Float[Tensor, " M"]:
        logits = self.model(inputs, documents).flatten(0, 1)
        losses = F.cross_entropy(logits, targets.flatten(), ignore_index=IGNORED, reduction="none")
        return losses.view(self.model.models, -1).sum(1)


class AdamWs:
    """AdamW and clipping for every row of a table by itself: the numbers of torch.optim.AdamW, model by model.

    mean, square (M, P): its memory; `step` steps have been taken.
    """

    def __init__(self, model: Together, configs: Sequence[TrainConfig], mean: Tensor, square: Tensor) -> None:
        self.model, self.mean, self.square = model, mean, square
        self.configs = configs
        self.beta1, self.beta2 = (self._column([c.betas[k] for c in configs]) for k in (0, 1))
        self.eps = self._column([c.eps for c in configs])
        self.clip = self._column([c.clip or torch.inf for c in configs])

    def _column(self, values: Sequence[float]) -> Tensor:
        return torch.tensor(values, dtype=torch.float32, device=self.model.table.device)[:, None]

    @torch.no_grad()
    def step(self, number: int, rates: Sequence[float]) -> None:
        """Take step 0, 1, ... with these learning rates and the gradients of the parameters, which are then gone."""
        table, count = self.model.table, number + 1
        leaves = self.model.leaves.values()
        grads = torch.cat([leaf.grad.reshape(len(table), -1) for leaf in leaves], 1)  # type: ignore[union-attr]
        for leaf in leaves:
            leaf.grad = None
        norms = torch.linalg.vector_norm(grads, dim=1, keepdim=True)
        grads *= (self.clip / (norms + 1e-6)).clamp(max=1.0)
        each = list(zip(rates, self.configs, strict=True))
        table[:, : self.model.decayed] *= self._column([1 - rate * c.weight_decay for rate, c in each])
        self.mean.lerp_(grads, 1 - self.beta1)
        self.square.mul_(self.beta2).addcmul_(grads, grads * (1 - self.beta2))
        below = self.square.sqrt().mul_(self._column([(1 - c.betas[1] ** count) ** -0.5 for c in self.configs]))
        below += self.eps
        table -= (self.mean * self._column([rate / (1 - c.betas[0] ** count) for rate, c in each])).div_(below)
