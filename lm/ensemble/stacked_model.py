"""Several models of one shape as one module: every parameter is stacked, with the model as its first dimension.

The batch holds the rows of all models, model after model. Linear, normalisation and embedding layers run once for all
models; layers without parameters take the longer batch as it is; any other layer with parameters runs model by model.
The optimizer's state is one table with a row for each model.
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
from lm.data.mlm import IGNORE_INDEX
from lm.layers.context import SequenceContext
from lm.model import Decoder
from synth.errors import UserError

SHARED_TABLE_POSITIONS = ("relative", "position_only")  # positions whose table the decoder passes to all layers


class Unstackable(UserError):
    """Models that cannot be trained together, only one by one."""


def is_stackable(config: ModelConfig) -> bool:
    """Whether models of this configuration can be stacked: not with experts or shared position tables."""
    return not config.n_experts and config.positions not in SHARED_TABLE_POSITIONS


class StackedLinear(nn.Module):
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


class StackedNorm(nn.Module):
    """M layer norms or RMS norms with gains (M, D), biases (M, D) or None."""

    def __init__(self, like: Any, weight: nn.Parameter, bias: nn.Parameter | None = None) -> None:
        super().__init__()
        self.weight, self.bias, self.eps = weight, bias, like.eps
        self.norm = F.layer_norm if isinstance(like, nn.LayerNorm) else F.rms_norm

    def forward(self, x: Tensor) -> Tensor:
        rows = self.norm(x, x.shape[-1:], eps=self.eps).reshape(len(self.weight), -1, x.shape[-1])
        gain = self.weight[:, None]
        return (rows * gain if self.bias is None else torch.addcmul(self.bias[:, None], rows, gain)).view(x.shape)


class StackedEmbedding(nn.Module):
    """M tables (M, N, D)."""

    def __init__(self, like: Any, weight: nn.Parameter) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, ids: Tensor) -> Tensor:
        """ids (M B, T) -> (M B, T, D)."""
        models, size, _ = self.weight.shape
        first = torch.arange(0, models * size, size, device=ids.device).repeat_interleave(len(ids) // models)
        return F.embedding(ids + first[:, None], self.weight.flatten(0, 1))


class PerModelModule(nn.Module):
    """M modules of any other kind, called one by one on their own rows."""

    def __init__(self, modules: Sequence[nn.Module], stacked: dict[str, nn.Parameter]) -> None:
        super().__init__()
        self.originals = list(modules)  # a plain list, so that their own parameters are not registered
        self.names = list(stacked)
        self.stacked = nn.ParameterList(stacked.values())

    def forward(self, *inputs: Any, **named: Any) -> Tensor:
        models, out = len(self.originals), []
        unbound = [each.unbind() for each in self.stacked]
        for number, module in enumerate(self.originals):
            weights = {name: each[number] for name, each in zip(self.names, unbound, strict=True)}
            own = tuple(_slice_model(value, number, models) for value in inputs)
            more = {name: _slice_model(value, number, models) for name, value in named.items()}
            out.append(functional_call(module, weights, own, more))
        return torch.cat(out)


def _slice_model(value: Any, number: int, models: int) -> Any:
    """Slice one model's rows from an argument."""
    if isinstance(value, Tensor):
        return value.chunk(models)[number]
    if not isinstance(value, SequenceContext) or value.index.ndim == 1:
        return value
    rows = len(value.index)

    def part(held: Any) -> Any:
        if isinstance(held, tuple):
            return tuple(part(each) for each in held)
        return _slice_model(held, number, models) if isinstance(held, Tensor) and len(held) == rows else held

    return replace(value, **{field.name: part(getattr(value, field.name)) for field in fields(value)})


STACKED_KINDS: dict[type[nn.Module], Any] = {
    nn.Linear: StackedLinear,
    nn.LayerNorm: StackedNorm,
    nn.RMSNorm: StackedNorm,
    nn.Embedding: StackedEmbedding,
}


class StackedDecoder(Decoder):
    """M decoders of one configuration; inputs are the rows of all of them, model after model.

    `table` (M, P) holds all weights, those with weight decay first; the parameters are views of it. The original
    decoders are not changed.
    """

    def __init__(self, models: Sequence[Decoder]) -> None:
        first = models[0]
        if not is_stackable(first.config):
            what = "experts" if first.config.n_experts else f"positions={first.config.positions}"
            raise Unstackable(f"models with {what} cannot be trained together; train them one by one")
        with torch.device("meta"):
            super().__init__(first.config, first.vocab_size)
        for name, child in deepcopy(first).named_children():  # with whatever was changed after `build`
            setattr(self, name, child)
        self.models = len(models)
        names = parameters_in_optimizer_order(first)
        weights = (parameters_in_optimizer_order(model).values() for model in models)
        self.table = torch.stack([torch.cat([p.detach().flatten() for p in each]) for each in weights])
        ends = torch.tensor([p.numel() for p in names.values()]).cumsum(0).tolist()
        self.stacked_parameters = {
            name: nn.Parameter(self.table[:, end - p.numel() : end].view(self.models, *p.shape))
            for (name, p), end in zip(names.items(), ends, strict=True)
        }
        self.num_decayed = sum(p.numel() for p in names.values() if p.ndim > 1)
        self._replace("", models)

    def _replace(self, prefix: str, models: Sequence[nn.Module]) -> None:
        """Replace every module that has parameters or buffers of its own by one stacked module."""
        for name, module in list(models[0].named_children()):
            path = f"{prefix}{name}"
            peers = [getattr(model, name) for model in models]
            own = {key: self.stacked_parameters[f"{path}.{key}"] for key, _ in module.named_parameters()}
            if type(module) in STACKED_KINDS:
                new = STACKED_KINDS[type(module)](module, **own)
            elif any(True for _ in [*module.parameters(recurse=False), *module.buffers(recurse=False)]):
                new = PerModelModule(peers, own)
            else:
                self._replace(f"{path}.", peers)
                continue
            parent, _, last = path.rpartition(".")
            setattr(self.get_submodule(parent), last, new)

    def embed_tokens(self, inputs: Tensor, index: Tensor | int) -> Tensor:
        x = self.embed(inputs)
        if self.config.positions != "learned":
            return x
        assert isinstance(index, Tensor)
        return x + self.positions(index.expand(inputs.shape))

    def logits(self, x: Tensor) -> Tensor:
        weight = self.embed.weight if self.config.tie_embeddings else self.head.weight
        x = self.norm(x)
        return torch.bmm(x.reshape(self.models, -1, x.shape[-1]), weight.mT).view(*x.shape[:-1], -1)


def parameters_in_optimizer_order(model: nn.Module) -> dict[str, Tensor]:
    """The model's parameters in the order of lm.training.loop.make_optimizer: those with weight decay first."""
    named = dict(model.named_parameters())
    return dict(sorted(named.items(), key=lambda item: item[1].ndim <= 1))


class StackedObjective(nn.Module):
    """lm.training.step.Objective of M models: cross-entropy of each, summed over its targets, (M,) nats."""

    def __init__(self, model: StackedDecoder) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, inputs: Int[Tensor, "MB T"], targets: Int[Tensor, "MB T"], documents: Int[Tensor, "MB T"] | None
    ) -> Float[Tensor, " M"]:
        logits = self.model(inputs, documents).flatten(0, 1)
        losses = F.cross_entropy(logits, targets.flatten(), ignore_index=IGNORE_INDEX, reduction="none")
        return losses.view(self.model.models, -1).sum(1)


class StackedAdamW:
    """AdamW and gradient clipping for every row of the table: the numbers of torch.optim.AdamW, model by model.

    mean, square (M, P): running averages of gradients and of their squares.
    """

    def __init__(self, model: StackedDecoder, configs: Sequence[TrainConfig], mean: Tensor, square: Tensor) -> None:
        self.model, self.mean, self.square = model, mean, square
        self.configs = configs
        self.beta1, self.beta2 = (self._column([c.betas[k] for c in configs]) for k in (0, 1))
        self.eps = self._column([c.eps for c in configs])
        self.clip = self._column([c.max_grad_norm or torch.inf for c in configs])

    def _column(self, values: Sequence[float]) -> Tensor:
        return torch.tensor(values, dtype=torch.float32, device=self.model.table.device)[:, None]

    @torch.no_grad()
    def step(self, number: int, rates: Sequence[float]) -> None:
        """Take step 0, 1, ... with one learning rate a model; consumes the gradients."""
        table, count = self.model.table, number + 1
        leaves = self.model.stacked_parameters.values()
        grads = torch.cat([leaf.grad.reshape(len(table), -1) for leaf in leaves], 1)  # type: ignore[union-attr]
        for leaf in leaves:
            leaf.grad = None
        norms = torch.linalg.vector_norm(grads, dim=1, keepdim=True)
        grads *= (self.clip / (norms + 1e-6)).clamp(max=1.0)
        each = list(zip(rates, self.configs, strict=True))
        table[:, : self.model.num_decayed] *= self._column([1 - rate * c.weight_decay for rate, c in each])
        self.mean.lerp_(grads, 1 - self.beta1)
        self.square.mul_(self.beta2).addcmul_(grads, grads * (1 - self.beta2))
        below = self.square.sqrt().mul_(self._column([(1 - c.betas[1] ** count) ** -0.5 for c in self.configs]))
        below += self.eps
        table -= (self.mean * self._column([rate / (1 - c.betas[0] ** count) for rate, c in each])).div_(below)
