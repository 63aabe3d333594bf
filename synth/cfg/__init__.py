"""Layered context-free grammars: those of the papers and your own, a fast sampler, and exact oracles."""

import importlib
from typing import TYPE_CHECKING, Any

from synth.cfg.bundled import BUNDLED, NAMES, load
from synth.cfg.formats import from_json, from_nltk, to_nltk
from synth.cfg.grammar import Grammar

if TYPE_CHECKING:
    from synth.cfg.oracles.chart import count_parses, derive, is_member, log_probability
    from synth.cfg.oracles.entropy import derivation_entropy, sentence_entropy
    from synth.cfg.oracles.hamming_distance import hamming_distance
    from synth.cfg.oracles.next_token import next_token
    from synth.cfg.oracles.tree_posterior import one_hot_evidence, posterior
    from synth.cfg.perturbed import Perturbation, sample_perturbed
    from synth.cfg.random_grammars import RandomGrammar, random_grammar
    from synth.cfg.sampling import sample

# numba takes a third of a second to import, so functions that need it are imported at first use. No submodule may have
# the name of a function here: importing the submodule would hide the function.
LAZY = {
    "count_parses": "oracles.chart",
    "derive": "oracles.chart",
    "is_member": "oracles.chart",
    "log_probability": "oracles.chart",
    "hamming_distance": "oracles.hamming_distance",
    "derivation_entropy": "oracles.entropy",
    "sentence_entropy": "oracles.entropy",
    "next_token": "oracles.next_token",
    "one_hot_evidence": "oracles.tree_posterior",
    "posterior": "oracles.tree_posterior",
    "Perturbation": "perturbed",
    "sample_perturbed": "perturbed",
    "RandomGrammar": "random_grammars",
    "random_grammar": "random_grammars",
    "sample": "sampling",
}

__all__ = [
    "BUNDLED", "NAMES", "Grammar", "Perturbation", "RandomGrammar", "count_parses", "derivation_entropy",
    "derive", "from_json", "from_nltk", "hamming_distance", "is_member", "load", "log_probability",
    "next_token", "one_hot_evidence", "posterior", "random_grammar", "sample", "sample_perturbed", "sentence_entropy",
    "to_nltk",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in LAZY:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    value = getattr(importlib.import_module(f"{__name__}.{LAZY[name]}"), name)
    globals()[name] = value
    return value
