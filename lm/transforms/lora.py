"""Low-rank adapters (LoRA, arXiv 2106.09685) by peft, as in Part 3's finetuning on questions.

A frozen matrix W becomes W + 4 B A with A and B of rank r, for the query and value matrices and, with a rank of its
own, the token embedding (Part 3.1, arXiv 2309.14316); the factor 4 is that of Part 3.2 (arXiv 2309.14402).
"""

import copy
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from lm.model import Decoder, meta_model
from synth.errors import UserError

SCALE = 4


def add_lora(model: Decoder, rank: int = 8, embed_rank: int = 128, seed: int = 0) -> Decoder:
    """A copy of the model in training mode with frozen weights and trainable adapters, whose initial update is zero.

    rank: of the update of each query and value matrix (only of the value matrix where attention has no queries).
    embed_rank: of the update of the input token embedding, 0 for none; a tied output embedding is not updated. seed:
    of the adapters' initial weights; the global RNG is not used. `lm.pretrained.save` takes the result of `merge_lora`
    only; to resume a training, call `add_lora` with the same arguments first.

    Raises UserError if peft is not installed, for invalid ranks, and for a model with adapters or without attention.
    """
    if rank < 1 or embed_rank < 0:
        raise UserError(f"rank={rank}, embed_rank={embed_rank} cannot be had; give at least rank 1 and embed_rank 0")
    if any(isinstance(module, SplitQKV) or hasattr(module, "base_layer") for module in model.modules()):
        raise UserError("the model has adapters already; adapt the model that it was made from")
    if model.config.mixer != "attention":
        raise UserError(f"mixer={model.config.mixer} has no queries and values to adapt; give a model with attention")
    lora, inject = require_peft()
    model = copy.deepcopy(model).train()  # in training mode, as experts have another capacity there
    targets, embed_ranks = r"blocks\.\d+\.mixer\.(qkv\.[qv]|value)", {"embed": embed_rank} if embed_rank else {}
    config = lora(
        r=rank,
        lora_alpha=SCALE * rank,
        target_modules="|".join([targets, *embed_ranks]),
        rank_pattern=embed_ranks,
        alpha_pattern={name: SCALE * r for name, r in embed_ranks.items()},
    )
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would also seed GPUs
        for block in model.blocks:
            if hasattr(block.mixer, "qkv"):
                block.mixer.qkv = SplitQKV(block.mixer.qkv)
        inject(config, model)
    return model


@torch.no_grad()
def merge_lora(adapted: Decoder) -> Decoder:
    """A plain decoder with the adapters merged into its weights, W + 4 B A.

    An updated embedding that was tied is untied: the result has tie_embeddings=False.
    """
    tied = adapted.config.tie_embeddings and not hasattr(adapted.embed, "base_layer")
    plain = meta_model(replace(adapted.config, tie_embeddings=tied), adapted.vocab_size)
    state = {name: tensor.clone() for name, tensor in adapted.state_dict().items() if ".lora_" not in name}
    weights = {name.replace(".base_layer", ""): tensor for name, tensor in state.items()}
    if tied != adapted.config.tie_embeddings:
        weights["head.weight"] = adapted.embed.weight.detach().clone()
    for name, module in adapted.named_modules():
        if hasattr(module, "get_delta_weight"):
            weights[f"{name}.weight"] += module.get_delta_weight("default")
    for name in [name for name in weights if ".qkv.q." in name]:
        parts = [weights.pop(name.replace(".qkv.q.", f".qkv.{part}.")) for part in "qkv"]
        weights[name.replace(".qkv.q.", ".qkv.")] = torch.cat(parts)
    plain.load_state_dict(weights, assign=True)
    return plain.requires_grad_(True).train(adapted.training)


class SplitQKV(nn.Module):
    """A fused projection to queries, keys and values, split in three that can be adapted separately."""

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
        """A weight with the device and dtype of all three, from which a mixer makes its cache."""
        return self.q.weight

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.q(x), self.k(x), self.v(x)], -1)


def require_peft() -> tuple[Any, Any]:
    """peft's LoraConfig and inject_adapter_in_model. Raises UserError if peft is not installed."""
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise UserError("adapters need peft; install it with pip install 'physics-of-lms[adapt]'") from error
    return LoraConfig, inject_adapter_in_model
