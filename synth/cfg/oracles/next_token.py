"""Exact next-token distributions after every prefix (Physics of Language Models, Part 1, Result 3, Figure 4 right)."""

import numpy as np
from numpy.typing import ArrayLike

from synth.cfg.grammar import Grammar
from synth.cfg.oracles.chart_kernels import fill_next_token_rows
from synth.cfg.oracles.ragged import validate_batch


def next_token(grammar: Grammar, tokens: ArrayLike, offsets: ArrayLike) -> np.ndarray:
    """Rows (N+n, K+1) float64 for tokens (N,), offsets (n+1,): one a prefix of each sentence, the empty one first.

    Row offsets[i] + i + k holds Pr[next | the first k tokens of sentence i]: columns 0..K-1 are the terminals, column K
    the end of the sentence. Rows are all zero after a prefix that begins no sentence.
    Raises UserError on a foreign token.
    """
    tokens, offsets = validate_batch(grammar, tokens, offsets)
    rows = np.zeros((len(tokens) + len(offsets) - 1, len(grammar.terminals) + 1))
    log_weight = grammar.compiled.done_log
    fill_next_token_rows(tokens, offsets, grammar.compiled, np.exp(log_weight), log_weight, rows)
    return rows
