"""Mixture of experts in place of an MLP: each token goes to the MLPs that a router chooses for it.

Routing, capacity and balance loss as in Switch Transformers (arXiv 2101.03961, section 2), for the experiment of Part
3.3 (arXiv 2404.05405, result 9): 32 experts of D -> D -> D, top 1, capacity 2 in training and 8 in tests.
"""

from math import ceil

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from lm.config import ModelConfig
from lm.layers.mlp import Costs, make_mlp


class Experts(nn.Module):
    """E MLPs, of which every token gets the sum of top_k, weighted by the router.

    A token takes the next free place of its expert, in the order of the batch, and an expert has only as many as its
    capacity gives it; a token without a place gets nothing from that expert. So what a token gets depends on earlier
    tokens of its row and on earlier rows, never on later ones, and on no other once capacity >= experts / top_k.
    Parameters: E times those of the MLP, and E D of the router.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.router = nn.Linear(config.width, config.experts, bias=False)
        self.experts = nn.ModuleList(make_mlp(config) for _ in range(config.experts))

    def forward(self, x: Float[Tensor, "*B D"], costs: Costs | None = None) -> Float[Tensor, "*B D"]:
        flat = x.flatten(0, -2)
        weights, chosen = self._route(flat, costs)
        slots, filled = self._slots(chosen)
        spare = sum(filled)  # a row of its own, for all that found no place
        room = flat.new_zeros(spare + 1, flat.shape[1]).index_put((slots,), flat.repeat(self.config.top_k, 1))
        done = [expert(part) for expert, part in zip(self.experts, room[:-1].split(filled), strict=True)]
        found = torch.cat([*done, done[0].new_zeros(1, flat.shape[1])])[slots]
        return (found.unflatten(0, (-1, len(flat))) * weights.T[..., None]).sum(0).to(x.dtype).view_as(x)

    def _route(
        self, flat: Float[Tensor, "N D"], costs: Costs | None
    ) -> tuple[Float[Tensor, "N k"], Int[Tensor, "N k"]]:
        """Weights and numbers of the experts of each token; the loss of an uneven load goes to `costs`."""
        with torch.autocast(flat.device.type, enabled=False):  # bf16 would make ties of near choices
            shares = self.router(flat.float()).softmax(-1)
        weights, chosen = shares.topk(self.config.top_k, -1)
        if costs is not None:
            load = F.one_hot(chosen, self.config.experts).float().mean((0, 1))
            costs.append(self.config.balance * self.config.experts * (load @ shares.mean(0)))
        if self.config.top_k > 1:  # a single weight stays as it is: from it the router learns
            weights = weights / weights.sum(-1, keepdim=True)
        return weights, chosen

    def _slots(self, chosen: Int[Tensor, "N k"]) -> tuple[Int[Tensor, " kN"], list[int]]:
        """The place of each choice (all first choices, then all second) among the places of all experts, and how many
        places each expert has. Those in use, or all of them where a compiler needs shapes that no datum decides."""
        experts, order = self.config.experts, chosen.T.flatten()
        factor = self.config.capacity if self.training else self.config.test_capacity
        most = min(len(chosen), ceil(factor * len(order) / experts))
        one_hot = F.one_hot(order, experts)
        rank = (one_hot.cumsum(0) - 1).gather(1, order[:, None])[:, 0]
        if torch.compiler.is_compiling():
            filled, used = [most] * experts, torch.full_like(one_hot[0], most)
        else:
            used = one_hot.sum(0).clamp_max(most)
            filled = used.tolist()
        starts = F.pad(used.cumsum(0), (1, 0))
        return torch.where(rank < most, starts[order] + rank, starts[-1]), filled
