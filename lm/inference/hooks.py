"""Modules that compute the activations of lm.inference.activations, for Decoder and for models of transformers."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lm.model import Decoder
from synth.errors import UserError

# from positional arguments, keyword arguments and output of a module to a tensor
Extract = Callable[[tuple[Any, ...], dict[str, Any], Any], Tensor]
Points = dict[str, tuple[nn.Module, Extract]]
ATTENTION, MLP = ("attn", "attention"), ("mlp", "ffn", "feed_forward")  # suffixes of their names in transformers


@dataclass(frozen=True)
class HookPoints:
    """Where and how to record the activations of a model.

    points: the module that computes each activation, and how to extract the tensor from its call. run(tokens (B, T),
    is_token (B, T), weights): a forward pass, padding where is_token is False; weights: with attention weights.
    check_length raises UserError for a length beyond the model's positions.
    """

    points: Points
    run: Callable[[Tensor, Tensor, bool], None]
    check_length: Callable[[int], None]
    vocab_size: int
    n_heads: int
    d_model: int


def is_weights(name: str) -> bool:
    """Whether an activation is a matrix of attention weights."""
    return name.endswith(".weights")


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Context in which the model is in eval mode."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


@contextmanager
def record_outputs(points: Points) -> Iterator[dict[str, Tensor]]:
    """Context that yields a dict of the latest tensor at each point, filled by forward passes."""
    outputs: dict[str, Tensor] = {}

    def make_hook(name: str, extract: Extract) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
            outputs[name] = extract(args, kwargs, output)

        return hook

    with ExitStack() as stack:
        for name, (module, extract) in points.items():
            stack.callback(module.register_forward_hook(make_hook(name, extract), with_kwargs=True).remove)
        yield outputs


def find_hook_points(model: nn.Module) -> HookPoints:
    """The hook points of a Decoder or a language model of transformers. Raises UserError for any other module."""
    for ours in (model, getattr(model, "decoder", None)):  # the second: wrapped by lm.hf.modeling
        if isinstance(ours, Decoder):
            return _of_decoder(ours)
    from transformers import PreTrainedModel

    if isinstance(model, PreTrainedModel):
        return _of_transformers(model)
    raise UserError(
        f"{type(model).__name__} shows no activations; give a Decoder (lm.load) or a language model of transformers"
    )


def _of_decoder(model: Decoder) -> HookPoints:
    points: Points = {"embed": (model.blocks[0], _first_input)}
    for i, block in enumerate(model.blocks):
        points[f"block.{i}.attn"] = (block.mixer, _output)
        if block.mlp is not None:
            points[f"block.{i}.mlp"] = (block.mlp, _output)
        points[f"block.{i}"] = (block, _output)
        if hasattr(block.mixer, "weights"):
            points[f"block.{i}.weights"] = (block.mixer, _weights(block.mixer))
    points["final"] = (model.norm, _output)
    config = model.config

    def run(tokens: Tensor, is_token: Tensor, weights: bool) -> None:
        # a causal model never sees the padding on its right; in an encoder it is a document of its own
        model(tokens, None if config.causal else is_token.long())

    return HookPoints(points, run, model.check_length, model.vocab_size, config.n_heads, config.d_model)


def _of_transformers(model: Any) -> HookPoints:
    config, body = model.config, model.base_model  # without the language-model head
    limit = getattr(config, "max_position_embeddings", None)

    def run(tokens: Tensor, is_token: Tensor, weights: bool) -> None:
        with _eager_attention(model, weights):
            body(input_ids=tokens, attention_mask=is_token.long(), use_cache=False, output_attentions=weights)

    def check_length(length: int) -> None:
        if limit is not None and length > limit:
            raise UserError(f"{length} tokens do not fit the {limit} positions of {type(model).__name__}; cut them")

    points = _points(model, run)
    heads = getattr(config, "num_attention_heads", 1)
    return HookPoints(points, run, check_length, config.vocab_size, heads, config.hidden_size)


@contextmanager
def _eager_attention(model: Any, weights: bool) -> Iterator[None]:
    """Context with eager attention if `weights`: the fast implementations do not return attention weights."""
    fast = model.config._attn_implementation
    if weights:
        model.set_attn_implementation("eager")
    try:
        yield
    finally:
        if weights:
            model.set_attn_implementation(fast)


@torch.inference_mode()
def _points(model: Any, run: Callable[[Tensor, Tensor, bool], None]) -> Points:
    """The points that a forward pass over three tokens confirms among the candidates."""
    candidates = _candidates(model)
    tokens = torch.arange(3, device=next(model.parameters()).device)[None] % model.config.vocab_size
    with eval_mode(model), record_outputs(candidates) as outputs:
        run(tokens, torch.ones_like(tokens, dtype=torch.bool), True)
    changed = {name for name in outputs if name.endswith((".attn", ".mlp")) and not _adds_up(outputs, name)}
    return {name: point for name, point in candidates.items() if outputs[name] is not None and name not in changed}


def _candidates(model: Any) -> Points:
    body, blocks = model.base_model, _blocks(model)
    points: Points = {"embed": (blocks[0], _first_input)}
    for i, block in enumerate(blocks):
        for half, kinds in (("attn", ATTENTION), ("mlp", MLP)):
            if (part := _child(block, kinds)) is not None:
                points[f"block.{i}.{half}"] = (part, _output)
        points[f"block.{i}"] = (block, _output)
        points[f"block.{i}.weights"] = (body, _attention(i))
    points["final"] = (body, _last_state)
    return points


def _adds_up(outputs: dict[str, Any], name: str) -> bool:
    """Whether the output of a block is its input plus the outputs of both halves, up to rounding."""
    block = name.rpartition(".")[0]
    number = int(block.split(".")[1])
    before, after = outputs[f"block.{number - 1}" if number else "embed"], outputs[block]
    halves = [outputs[half].float() for half in (f"{block}.attn", f"{block}.mlp") if half in outputs]
    rounding = torch.finfo(after.dtype).eps * after.float().norm()
    error = (after.float() - before.float() - sum(halves)).norm()
    return bool(error <= 1e-2 * sum(halves).norm() + 4 * rounding)


def _blocks(model: Any) -> nn.ModuleList:
    for module in model.base_model.modules():
        if isinstance(module, nn.ModuleList) and len(module) == model.config.num_hidden_layers:
            return module
    raise UserError(
        f"no list of {model.config.num_hidden_layers} blocks in {type(model).__name__}; activations need one"
    )


def _child(block: nn.Module, kinds: tuple[str, ...]) -> Any:
    """First child whose name ends with one of `kinds` (names of norms begin with them), else None."""
    return next((part for name, part in block.named_children() if name.endswith(kinds)), None)


def _first_input(args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Tensor:
    return args[0] if args else kwargs["hidden_states"]


def _output(args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Tensor:
    return output[0] if isinstance(output, tuple) else output


def _last_state(args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Tensor:
    return output.last_hidden_state


def _attention(layer: int) -> Extract:
    def extract(args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
        attentions = getattr(output, "attentions", None)
        return attentions[layer] if attentions else None  # some models return none

    return extract


def _weights(mixer: Any) -> Extract:
    return lambda args, kwargs, output: mixer.weights(args[0], args[1])
