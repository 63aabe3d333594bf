"""Low-rank adapters (LoRA, arXiv 2106.09685) on a trained decoder, made by peft, as Part 3 finetunes on questions.

A frozen matrix W becomes W + 4 B A, with A and B of rank r. Adapted are the query and value matrices (rank r) and the
token embedding (rank r'), as in Part 3.1 (arXiv 2309.14316); the factor 4 is that of Part 3.2 (arXiv 2309.14402).
"""

import copy
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from lm.model import Decoder, outline
from synth.errors import UserError

SCALE = 4


def adapt(model: Decoder, rank: int = 8, embed_rank: int = 128, seed: int = 0) -> Decoder:
    """A copy of the model, in training mode, whose weights are frozen, with adapters that `lm.training.loop.train` then
    trains; they start at no change, drawn with `seed` alone: the global RNG is not touched.

    rank: of the update of each query and each value matrix (of the value matrix alone where attention has no queries);
    embed_rank: of the update of the token embedding where it is read, 0 for none. A tied output table stays as it was,
    so that the adapted copy reads and writes with different tables. `lm.pretrained.save` does not know adapters:
    save what `merged` makes; a training in a folder goes on after the same `adapt`.

    Raises UserError when peft is not installed, on ranks that cannot be had, for a model that has adapters already,
    and for one without attention.
    """
    if rank < 1 or embed_rank < 0:
        raise UserError(f"rank={rank}, embed_rank={embed_rank} cannot be had; give at least rank 1 and embed_rank 0")
    if any(isinstance(module, Parts) or hasattr(module, "base_layer") for module in model.modules()):
        raise UserError("the model has adapters already; adapt the model that it was made from")
    if model.config.mixer != "attention":
        raise UserError(f"mixer={model.config.mixer} has no queries and values to adapt; give a model with attention")
    lora, inject = require_peft()
    model = copy.deepcopy(model).train()  # experts keep other places free in training
    targets, own = r"blocks\.\d+\.mixer\.(qkv\.[qv]|value)", {"embed": embed_rank} if embed_rank else {}
    config = lora(
        r=rank,
        lora_alpha=SCALE * rank,
        target_modules="|".join([targets, *own]),
        rank_pattern=own,
        alpha_pattern={name: SCALE * r for name, r in own.items()},
    )
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would set those of GPUs as well
        for block in model.blocks:
            if hasattr(block.mixer, "qkv"):
                block.mixer.qkv = Parts(block.mixer.qkv)
        inject(config, model)
    return model


@torch.no_grad()
def merged(adapted: Decoder) -> Decoder:
    """A plain decoder, on its own weights, that computes what the adapted one does: every W + 4 B A written out.

    Only the table that is read has an update, so that tied tables become two, and the model one with tied=False.
    """
    tied = adapted.config.tied and not hasattr(adapted.embed, "base_layer")
    plain = outline(replace(adapted.config, tied=tied), adapted.vocab_size)
    kept = {name: tensor.clone() for name, tensor in adapted.state_dict().items() if ".lora_" not in name}
    weights = {name.replace(".base_layer", ""): tensor for name, tensor in kept.items()}
    if tied != adapted.config.tied:
        weights["head.weight"] = adapted.embed.weight.detach().clone()
    for name, module in adapted.named_modules():
        if hasattr(module, "get_delta_weight"):
            weights[f"{name}.weight"] += module.get_delta_weight("default")
    for name in [name for name in weights if ".qkv.q." in name]:
        parts = [weights.pop(name.replace(".qkv.q.", f".qkv.{part}.")) for part in "qkv"]
        weights[name.replace(".qkv.q.", ".qkv.")] = torch.cat(parts)
    plain.load_state_dict(weights, assign=True)
    return plain.requires_grad_(True).train(adapted.training)


class Parts(nn.Module):
    """A projection to queries, keys and values as three of its own, so that each can be adapted by itself."""

    q: nn.Linear
    k: nn.Linear
    v: nn.Linear

    def __init__(self, fused: nn.Linear) -> None:
        super().__init__()
        width = fused.in_features
        for part, name in enumerate("qkv"):
            layer = nn.utils.skip_init(nn.Linear, width, width, bias=fused.bias is not None, device=fused.weight.device)
            layer.load_state_dict({key: tensor.chunk(3)[part] for key, tensor in fused.state_dict().items()})
            setattr(self, name, layer)

    @property
    def weight(self) -> Tensor:
        """A matrix of the device and precision of all three, which is what a mixer asks for to make its memory."""
        return self.q.weight

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.q(x), self.k(x), self.v(x)], -1)


def require_peft() -> tuple[Any, Any]:
    """What makes adapters: peft's LoraConfig and inject_adapter_in_model. Raises UserError when it is not installed."""
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise UserError("adapters need peft; install it with pip install 'physics-of-lms[adapt]'") from error
    return LoraConfig, inject_adapter_in_model
