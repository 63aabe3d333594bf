"""Where a model computes what lm.inference.activations names: the modules to listen to, ours and those of
transformers."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lm.model import Decoder
from synth.errors import UserError

# from the arguments and the output of a module to one of its tensors
Take = Callable[[tuple[Any, ...], dict[str, Any], Any], Tensor]
Points = dict[str, tuple[nn.Module, Take]]
ATTENTION, MLP = ("attn", "attention"), ("mlp", "ffn", "feed_forward")  # parts of what transformers calls them


@dataclass(frozen=True)
class Inside:
    """A model as a reader of its activations needs it.

    points: the module behind each name and how to take the tensor from it; run: a forward pass over tokens (B, T) of
    which some are real (B, T), with or without attention weights; check_length raises UserError on one too long.
    """

    points: Points
    run: Callable[[Tensor, Tensor, bool], None]
    check_length: Callable[[int], None]
    vocab_size: int
    heads: int
    width: int


def is_weights(name: str) -> bool:
    """Whether an activation is a matrix of attention weights."""
    return name.endswith(".weights")


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Eval mode while this is open."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


@contextmanager
def recording(points: Points) -> Iterator[dict[str, Tensor]]:
    """What passes the points while this is open, by name."""
    found: dict[str, Tensor] = {}

    def keep(name: str, take: Take) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
            found[name] = take(args, kwargs, output)

        return hook

    with ExitStack() as stack:
        for name, (module, take) in points.items():
            stack.callback(module.register_forward_hook(keep(name, take), with_kwargs=True).remove)
        yield found


def look_inside(model: nn.Module) -> Inside:
    """A model's points. Raises UserError for one that is neither ours nor a language model of transformers."""
    for ours in (model, getattr(model, "decoder", None)):  # the second in transformers' clothes (lm.hf.modeling)
        if isinstance(ours, Decoder):
            return _of_decoder(ours)
    from transformers import PreTrainedModel

    if isinstance(model, PreTrainedModel):
        return _of_transformers(model)
    raise UserError(
        f"{type(model).__name__} shows no activations; give a Decoder (lm.load) or a language model of transformers"
    )


def _of_decoder(model: Decoder) -> Inside:
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

    def run(tokens: Tensor, real: Tensor, weights: bool) -> None:
        # padding stands on the right, where no causal model looks; an encoder must be told that it is no document
        model(tokens, None if config.causal else real.long())

    return Inside(points, run, model.check_length, model.vocab_size, config.heads, config.width)


def _of_transformers(model: Any) -> Inside:
    config, body = model.config, model.base_model  # without the head, whose logits nobody asks for
    room = getattr(config, "max_position_embeddings", None)

    def run(tokens: Tensor, real: Tensor, weights: bool) -> None:
        with _weights_shown(model, weights):
            body(input_ids=tokens, attention_mask=real.long(), use_cache=False, output_attentions=weights)

    def check_length(length: int) -> None:
        if room is not None and length > room:
            raise UserError(f"{length} tokens do not fit the {room} positions of {type(model).__name__}; cut them")

    points = _points(model, run)
    heads = getattr(config, "num_attention_heads", 1)
    return Inside(points, run, check_length, config.vocab_size, heads, config.hidden_size)


@contextmanager
def _weights_shown(model: Any, weights: bool) -> Iterator[None]:
    """Attention that computes its weights while this is open: the fast kinds never hold them."""
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
    """What a model of any make offers, found from its parts and from what they do with three tokens."""
    candidates = _candidates(model)
    tokens = torch.arange(3, device=next(model.parameters()).device)[None] % model.config.vocab_size
    with evaluating(model), recording(candidates) as found:
        run(tokens, torch.ones_like(tokens, dtype=torch.bool), True)
    halves = {name for name in found if name.endswith((".attn", ".mlp")) and not _adds_up(found, name)}
    return {name: point for name, point in candidates.items() if found[name] is not None and name not in halves}


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


def _adds_up(found: dict[str, Any], name: str) -> bool:
    """Whether the block of a half is its input plus what both halves gave back: else these are not what is added."""
    block = name.rpartition(".")[0]
    number = int(block.split(".")[1])
    before, after = found[f"block.{number - 1}" if number else "embed"], found[block]
    halves = [found[half].float() for half in (f"{block}.attn", f"{block}.mlp") if half in found]
    rounding = torch.finfo(after.dtype).eps * after.float().norm()
    error = (after.float() - before.float() - sum(halves)).norm()
    return bool(error <= 1e-2 * sum(halves).norm() + 4 * rounding)


def _blocks(model: Any) -> nn.ModuleList:
    for module in model.base_model.modules():
        if isinstance(module, nn.ModuleList) and len(module) == model.config.num_hidden_layers:
            return module
    raise UserError(
        f"no list of {model.config.num_hidden_layers} blocks in {type(model).__name__}; its inside is foreign"
    )


def _child(block: nn.Module, kinds: tuple[str, ...]) -> Any:
    """The part of a block whose name ends like one of the kinds, None without one: a norm's begins so."""
    return next((part for name, part in block.named_children() if name.endswith(kinds)), None)


def _first_input(args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Tensor:
    return args[0] if args else kwargs["hidden_states"]


def _output(args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Tensor:
    return output[0] if isinstance(output, tuple) else output


def _last_state(args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Tensor:
    return output.last_hidden_state


def _attention(layer: int) -> Take:
    def take(args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
        shown = getattr(output, "attentions", None)
        return shown[layer] if shown else None  # a model may have none, or keep them to itself

    return take


def _weights(mixer: Any) -> Take:
    return lambda args, kwargs, output: mixer.weights(args[0], args[1])
