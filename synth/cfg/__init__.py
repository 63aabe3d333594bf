"""Layered context-free grammars: the nine of the papers, brackets and your own, a fast sampler, and exact oracles."""

import importlib
from typing import TYPE_CHECKING, Any

from synth.cfg.grammar import BUNDLED, NAMES, Grammar, load

if TYPE_CHECKING:
    from synth.cfg.chart import count_parses, derive, is_member, log_probability
    from synth.cfg.entropy import derivation_entropy, sentence_entropy
    from synth.cfg.generate import RandomGrammar, random_grammar
    from synth.cfg.hamming import edits
    from synth.cfg.perturbed import Faults, sample_perturbed
    from synth.cfg.prefix import next_token
    from synth.cfg.sampling import sample

# numba takes a third of a second to import, so what runs on it is fetched at first use. No submodule may have the
# name of a function here: importing the one would hide the other.
LAZY = {
    "count_parses": "chart",
    "derive": "chart",
    "is_member": "chart",
    "log_probability": "chart",
    "edits": "hamming",
    "derivation_entropy": "entropy",
    "sentence_entropy": "entropy",
    "next_token": "prefix",
    "Faults": "perturbed",
    "sample_perturbed": "perturbed",
    "RandomGrammar": "generate",
    "random_grammar": "generate",
    "sample": "sampling",
}

__all__ = [
    "BUNDLED", "NAMES", "Faults", "Grammar", "RandomGrammar", "count_parses", "derivation_entropy", "derive", "edits",
    "is_member", "load", "log_probability", "next_token", "random_grammar", "sample", "sample_perturbed",
    "sentence_entropy",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in LAZY:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    value = getattr(importlib.import_module(f"{__name__}.{LAZY[name]}"), name)
    globals()[name] = value
    return value
