"""Mixture of experts: a router sends each token to top_k of E MLPs.

Routing, capacity and load-balancing loss as in Switch Transformers (arXiv 2101.03961, section 2). Part 3.3 (arXiv
2404.05405, result 9) has 32 experts of D -> D -> D, top_k 1, and capacity factors 2 in training and 8 in tests.
"""

from math import ceil

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from lm.config import ModelConfig
from lm.layers.mlp import AuxLosses, make_mlp


class MixtureOfExperts(nn.Module):
    """Sum of the outputs of each token's top_k experts, weighted by the router's probabilities.

    Tokens fill their expert's capacity in the order of the batch; a token beyond it gets 0 from that expert. So outputs
    depend on earlier tokens and earlier rows of the batch, never on later ones, and on no other token if the capacity
    factor is at least E / top_k. Parameters: E MLPs and E D for the router.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.router = nn.Linear(config.d_model, config.n_experts, bias=False)
        self.experts = nn.ModuleList(make_mlp(config) for _ in range(config.n_experts))

    def forward(self, x: Float[Tensor, "*B D"], aux_losses: AuxLosses | None = None) -> Float[Tensor, "*B D"]:
        flat = x.flatten(0, -2)  # (N, D)
        weights, experts = self._route(flat, aux_losses)
        slots, sizes = self._assign_slots(experts)
        inputs = flat.new_zeros(sum(sizes) + 1, flat.shape[1])  # the last slot takes all dropped tokens
        inputs = inputs.index_put((slots,), flat.repeat(self.config.top_k, 1))
        outputs = [expert(part) for expert, part in zip(self.experts, inputs[:-1].split(sizes), strict=True)]
        per_choice = torch.cat([*outputs, outputs[0].new_zeros(1, flat.shape[1])])[slots]  # (k N, D)
        return (per_choice.unflatten(0, (-1, len(flat))) * weights.T[..., None]).sum(0).to(x.dtype).view_as(x)

    def _route(
        self, flat: Float[Tensor, "N D"], aux_losses: AuxLosses | None
    ) -> tuple[Float[Tensor, "N k"], Int[Tensor, "N k"]]:
        """Weights and indices of each token's experts; appends the load-balancing loss to `aux_losses`."""
        with torch.autocast(flat.device.type, enabled=False):  # in bf16 close probabilities would tie
            probs = F.linear(flat.float(), self.router.weight.float()).softmax(-1)
        weights, experts = probs.topk(self.config.top_k, -1)
        if aux_losses is not None:
            load = F.one_hot(experts, self.config.n_experts).float().mean((0, 1))
            aux_losses.append(self.config.aux_loss_weight * self.config.n_experts * (load @ probs.mean(0)))
        if self.config.top_k > 1:  # a single weight is not normalized: it gives the router its gradient
            weights = weights / weights.sum(-1, keepdim=True)
        return weights, experts

    def _assign_slots(self, experts: Int[Tensor, "N k"]) -> tuple[Int[Tensor, " kN"], list[int]]:
        """Slot of each choice (all first choices, then all second) and number of slots per expert: those in use, or
        under torch.compile, which needs static shapes, the whole capacity. Dropped choices get slot sum(sizes)."""
        n_experts, choices = self.config.n_experts, experts.T.flatten()
        factor = self.config.capacity_factor if self.training else self.config.eval_capacity_factor
        capacity = min(len(experts), ceil(factor * len(choices) / n_experts))
        one_hot = F.one_hot(choices, n_experts)
        rank = (one_hot.cumsum(0) - 1).gather(1, choices[:, None])[:, 0]
        if torch.compiler.is_compiling():
            sizes, used = [capacity] * n_experts, torch.full_like(one_hot[0], capacity)
        else:
            used = one_hot.sum(0).clamp_max(capacity)
            sizes = used.tolist()
        starts = F.pad(used.cumsum(0), (1, 0))
        return torch.where(rank < capacity, starts[choices] + rank, starts[-1]), sizes
