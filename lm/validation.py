"""Validation of configs: UserError, with a remedy, for invalid values."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from lm.options import BIDIRECTIONAL, MIXER_AGNOSTIC, SOFTMAX
from synth.errors import UserError
from synth.user_code import is_file_spec, require_trust, spec_path

if TYPE_CHECKING:
    from lm.config import ModelConfig


def check_choice(where: str, value: Any, kind: Any) -> None:
    """Raise UserError unless `value` is one of the choices of the Literal type `kind`."""
    if value not in get_args(kind):
        raise UserError(f"{where}={value!r} is unknown; choose one of {', '.join(map(str, get_args(kind)))}")


def check_at_least(config: Any, minimum: float, *names: str) -> None:
    """Raise UserError if a field of `config` is not finite or below `minimum`."""
    for name in names:
        value = getattr(config, name)
        if not math.isfinite(value):
            raise UserError(f"{name}={value} is not finite; give a number of at least {minimum:g}")
        if value < minimum:
            raise UserError(f"{name}={value} is too small; give at least {minimum:g}")


def check_saved_config(saved: Any, defaults: Mapping[str, Any], where: str | Path) -> None:
    """Raise UserError unless `saved`, read from file `where`, has fields of a ModelConfig, of the types of their
    defaults, and names no untrusted code."""
    mend = "save the model again or copy the whole folder anew"
    if not isinstance(saved, dict):
        raise UserError(f"{where} holds no architecture of a model; {mend}")
    for name, value in saved.items():
        if name not in defaults:
            raise UserError(f"{where} has a field {name!r} that no model has; {mend}, or use the version of then")
        if not _has_type_of(value, defaults[name]):
            raise UserError(f"{where}: {name}={value!r} is no value of it; {mend}")
    if is_file_spec(saved.get("mixer", "")):
        require_trust(spec_path(saved["mixer"]), where)


def _has_type_of(value: Any, default: Any) -> bool:
    """Whether a value has the type of a field with this default."""
    kinds: dict[type, tuple[type, ...]] = {float: (float, int), type(None): (int, type(None))}
    return type(value) in kinds.get(type(default), (type(default),))


def check_model(config: "ModelConfig") -> None:
    """Raise UserError for values of a config that are invalid or contradict each other."""
    check_at_least(config, 1, "n_layers", "n_heads", "d_model", "max_seq_len")
    if config.d_ff is not None:
        check_at_least(config, 1, "d_ff")
    check_at_least(config, 0, "init_std")
    _check_experts(config)
    _check_bidirectional(config)
    if config.d_model % config.n_heads:
        raise UserError(
            f"d_model={config.d_model} does not split into n_heads={config.n_heads}; make it a multiple of n_heads"
        )
    _check_attention(config)
    _check_canon(config)
    _check_mixer(config)


def _check_experts(config: "ModelConfig") -> None:
    check_at_least(config, 0, "n_experts", "aux_loss_weight")
    check_at_least(config, 1, "top_k", "capacity_factor", "eval_capacity_factor")
    if config.mlp == "none" and (config.n_experts or config.d_ff):
        raise UserError("mlp=none has neither a width nor experts; leave out d_ff and n_experts")
    if config.n_experts and config.top_k > config.n_experts:
        raise UserError(f"top_k={config.top_k} of n_experts={config.n_experts} cannot be chosen; lower top_k")


def _check_bidirectional(config: "ModelConfig") -> None:
    if config.causal:
        return
    if config.positions not in BIDIRECTIONAL:
        raise UserError(f"positions={config.positions} needs causal=True; an encoder takes {', '.join(BIDIRECTIONAL)}")
    if config.canon:
        raise UserError(f"canon={config.canon} looks back only and needs causal=True; leave it out of an encoder")


def _check_attention(config: "ModelConfig") -> None:
    if config.positions == "rotary":
        if not 0 < config.rotary_fraction <= 1:
            raise UserError(f"rotary_fraction={config.rotary_fraction} must lie in (0, 1]; use positions=none for 0")
        if config.rotary_dim < 2:
            raise UserError(
                f"heads of width {config.d_head} leave nothing to rotate; use fewer heads or positions=none"
            )
        if not config.rotary_heads <= 1 or config.n_rotary_heads < 1:
            raise UserError(
                f"rotary_heads={config.rotary_heads} rotates {config.n_rotary_heads} of {config.n_heads} heads; "
                "give a share in (0, 1] that leaves one or more"
            )
    if config.positions == "half_alibi" and config.n_heads < 2:
        raise UserError("positions=half_alibi narrows half of the heads; give n_heads of at least 2")
    if config.qk_norm and (config.mixer != "attention" or config.positions not in SOFTMAX):
        raise UserError(f"qk_norm needs attention over queries and keys: mixer=attention, {' or '.join(SOFTMAX)}")


def _check_canon(config: "ModelConfig") -> None:
    if config.canon != "".join(sorted(set(config.canon) & set("ABCD"))):
        raise UserError(f"canon={config.canon!r} is unknown; give places among ABCD, in order, such as ABCD or ACD")
    check_at_least(config, 2, "canon_kernel")
    if config.mlp == "none" and {"C", "D"} & set(config.canon):
        raise UserError(f"canon={config.canon} has places in the MLP and mlp=none; leave out C and D")
    if config.n_experts and "D" in config.canon:
        raise UserError(f"canon={config.canon} does not go into experts, whose tokens are no sequence; leave out D")


def _check_mixer(config: "ModelConfig") -> None:
    check_at_least(config, 1, "d_state")
    if config.mixer == "attention":
        return
    from lm.mixers import mixer_class  # imports torch

    cls = mixer_class(config.mixer)
    if config.positions not in MIXER_AGNOSTIC:
        raise UserError(f"positions={config.positions} is a kind of attention; mixer={config.mixer} takes "
                        f"{' or '.join(MIXER_AGNOSTIC)}")  # fmt: skip
    if not config.causal and not cls.supports_bidirectional:
        raise UserError(f"mixer={config.mixer} looks back only and needs causal=True; an encoder takes mixer=attention")
