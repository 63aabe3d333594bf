"""Refusals of configurations that no model can have, in one line each."""

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from synth.errors import UserError

if TYPE_CHECKING:
    from lm.config import ModelConfig, TrainConfig


def choose(where: str, value: Any, kind: Any) -> None:
    """Raise UserError unless the value is one of a Literal's."""
    if value not in get_args(kind):
        raise UserError(f"{where}={value!r} is unknown; choose one of {', '.join(map(str, get_args(kind)))}")


def at_least(config: Any, least: float, *names: str) -> None:
    """Raise UserError for a field that is not finite or smaller."""
    for name in names:
        value = getattr(config, name)
        if not math.isfinite(value):
            raise UserError(f"{name}={value} is not finite; give a number of at least {least:g}")
        if value < least:
            raise UserError(f"{name}={value} is too small; give at least {least:g}")


def check_read(found: Any, defaults: Mapping[str, Any], where: str | Path) -> None:
    """Raise UserError unless a file's fields are those of a ModelConfig, of their types, and name no unknown code."""
    from synth.registry import file_of, is_file, require_trust

    mend = "save the model again or copy the whole folder anew"
    if not isinstance(found, dict):
        raise UserError(f"{where} holds no architecture of a model; {mend}")
    for name, value in found.items():
        if name not in defaults:
            raise UserError(f"{where} has a field {name!r} that no model has; {mend}, or use the version of then")
        if not _alike(value, defaults[name]):
            raise UserError(f"{where}: {name}={value!r} is no value of it; {mend}")
    if is_file(found.get("mixer", "")):
        require_trust(file_of(found["mixer"]), where)


def check_memory(config: "ModelConfig", ids: int) -> None:
    """Raise UserError for a model of which even the largest parts do not fit into this machine's memory.

    ids: of its vocabulary. Counts less than there is: matrices, tables, and 20 kB of objects for each block or expert.
    """
    width, mlps = config.width, max(1, config.experts)
    block = width * (width + 2 * mlps * config.hidden_width + len(config.canon) * config.canon_kernel) + config.state
    tables = width * (ids + (config.context if config.positions == "learned" else 0))
    needed = 4 * (config.layers * block + tables) + 20_000 * config.layers * mlps
    _check_fits("the model", needed, "give fewer layers or experts, or less width, context or canon_kernel")


def check_batch(config: "TrainConfig") -> None:
    """Raise UserError for a batch whose inputs and targets, which every rank reads whole, do not fit into memory."""
    needed = 2 * 8 * config.batch * config.window
    _check_fits(f"batch={config.batch} of window={config.window}", needed, "lower batch or window")


def _check_fits(what: str, needed: int, mend: str) -> None:
    there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if needed > there:
        raise UserError(f"{what} needs {max(1, needed >> 30):,} GiB and this machine has {there >> 30:,}; {mend}")


def _alike(value: Any, default: Any) -> bool:
    """Whether a value has the type of a field with that default."""
    kinds: dict[type, tuple[type, ...]] = {float: (float, int), type(None): (int, type(None))}
    return type(value) in kinds.get(type(default), (type(default),))


def check_model(config: "ModelConfig") -> None:
    """Raise UserError for switches whose values do not fit each other."""
    at_least(config, 1, "layers", "heads", "width", "context")
    if config.mlp_width is not None:
        at_least(config, 1, "mlp_width")
    at_least(config, 0, "init_std")
    _check_experts(config)
    _check_sides(config)
    if config.width % config.heads:
        raise UserError(f"width={config.width} does not split into heads={config.heads}; make it a multiple of heads")
    _check_attention(config)
    _check_canon(config)
    _check_mixer(config)


def _check_experts(config: "ModelConfig") -> None:
    at_least(config, 0, "experts", "balance")
    at_least(config, 1, "top_k", "capacity", "test_capacity")
    if config.mlp == "none" and (config.experts or config.mlp_width):
        raise UserError("mlp=none has neither a width nor experts; leave out mlp_width and experts")
    if config.experts and config.top_k > config.experts:
        raise UserError(f"top_k={config.top_k} of experts={config.experts} cannot be chosen; lower top_k")


def _check_sides(config: "ModelConfig") -> None:
    from lm.config import BOTH_WAYS

    if config.causal:
        return
    if config.positions not in BOTH_WAYS:
        raise UserError(f"positions={config.positions} needs causal=True; an encoder takes {', '.join(BOTH_WAYS)}")
    if config.canon:
        raise UserError(f"canon={config.canon} looks back only and needs causal=True; leave it out of an encoder")


def _check_attention(config: "ModelConfig") -> None:
    from lm.config import SOFTMAX

    if config.positions == "rotary":
        if not 0 < config.rotary_fraction <= 1:
            raise UserError(f"rotary_fraction={config.rotary_fraction} must lie in (0, 1]; use positions=none for 0")
        if config.rotary_width < 2:
            raise UserError(
                f"heads of width {config.head_width} leave nothing to rotate; use fewer heads or positions=none"
            )
        if not config.rotary_heads <= 1 or config.turned_heads < 1:
            raise UserError(
                f"rotary_heads={config.rotary_heads} rotates {config.turned_heads} of {config.heads} heads; "
                "give a share in (0, 1] that leaves one or more"
            )
    if config.positions == "half_alibi" and config.heads < 2:
        raise UserError("positions=half_alibi narrows half of the heads; give heads of at least 2")
    if config.qk_norm and (config.mixer != "attention" or config.positions not in SOFTMAX):
        raise UserError(f"qk_norm needs attention over queries and keys: mixer=attention, {' or '.join(SOFTMAX)}")


def _check_canon(config: "ModelConfig") -> None:
    if config.canon != "".join(sorted(set(config.canon) & set("ABCD"))):
        raise UserError(f"canon={config.canon!r} is unknown; give places among ABCD, in order, such as ABCD or ACD")
    at_least(config, 2, "canon_kernel")
    if config.mlp == "none" and {"C", "D"} & set(config.canon):
        raise UserError(f"canon={config.canon} has places in the MLP and mlp=none; leave out C and D")
    if config.experts and "D" in config.canon:
        raise UserError(f"canon={config.canon} does not go into experts, whose tokens are no sequence; leave out D")


def _check_mixer(config: "ModelConfig") -> None:
    from lm.config import ADDED

    at_least(config, 1, "state")
    if config.mixer == "attention":
        return
    from lm.mixers import mixer_class

    cls = mixer_class(config.mixer)
    if config.positions not in ADDED:
        raise UserError(f"positions={config.positions} is a kind of attention; mixer={config.mixer} takes "
                        f"{' or '.join(ADDED)}")  # fmt: skip
    if not config.causal and not cls.encodes:
        raise UserError(f"mixer={config.mixer} looks back only and needs causal=True; an encoder takes mixer=attention")
