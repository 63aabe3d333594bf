"""Exact posteriors against the enumeration of all derivations, and against the other oracles."""

import time
from itertools import product

import numpy as np
import pytest

from synth import UserError, cfg
from synth.cfg.oracles.tree_posterior import one_hot_evidence, posterior
from tests.synth.cfg.test_oracles import ragged, small_grammar

Path = list[tuple[int, bool]]


def derivations(grammar: cfg.Grammar, symbol: str) -> list[tuple[float, list[Path]]]:
    """Every derivation of a symbol: its probability, and per position its ancestors from the symbol's own level down
    to the terminal: their numbers, and whether they end there."""
    level = grammar.level_of[symbol]
    number = grammar.levels[level].index(symbol)
    if symbol not in grammar.rules:
        return [(1.0, [[(number, True)]])]
    found = []
    for rhs, weight in zip(grammar.rules[symbol], grammar.weights[symbol], strict=True):
        for parts in product(*(derivations(grammar, child) for child in rhs)):
            probability = weight * float(np.prod([part[0] for part in parts]))
            below = [path for _, paths in parts for path in paths]
            found.append((probability, [[(number, k == len(below) - 1), *path] for k, path in enumerate(below)]))
    return found


def enumerated(grammar: cfg.Grammar, evidence: np.ndarray, at: int | None = None) -> tuple[np.ndarray, float]:
    """The posteriors (2, T, L, S) of ancestors and ends of one sentence and the probability of the evidence; `at`: of
    the prefix that ends there."""
    length = len(evidence) if at is None else at + 1
    total, sums = 0.0, np.zeros((2, length, grammar.depth, max(map(len, grammar.levels))))
    for probability, paths in derivations(grammar, grammar.root):
        if len(paths) < length or (at is None and len(paths) > length):
            continue
        weight = probability * float(np.prod([evidence[k, paths[k][-1][0]] for k in range(length)]))
        total += weight
        for k in range(length):
            for level, (number, is_end) in enumerate(paths[k]):
                sums[:, k, level, number] += weight, weight * is_end
    return (sums / total if total else np.full_like(sums, np.nan)), total


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("kind", ["known", "wildcards", "noise"])
def test_posteriors_are_those_of_all_derivations(seed: int, kind: str) -> None:
    grammar, rng = small_grammar(seed), np.random.default_rng(seed)
    tokens, offsets, _ = cfg.sample(grammar, rng, 6)
    evidence, _ = one_hot_evidence(grammar, tokens, offsets)
    if kind == "wildcards":
        evidence[rng.random(len(evidence)) < 0.4] = 1
    if kind == "noise":
        evidence = rng.random(evidence.shape)
    whole, causal = posterior(grammar, evidence, offsets), posterior(grammar, evidence, offsets, prefix=True)
    for i, (start, stop) in enumerate(zip(offsets, offsets[1:], strict=False)):
        expected, probability = enumerated(grammar, evidence[start:stop])
        for of_all, of_row in zip((whole.ancestors, whole.ends), expected, strict=True):
            np.testing.assert_allclose(of_all[start:stop], of_row, rtol=0, atol=1e-9)
        assert whole.log[i] == pytest.approx(np.log(probability), abs=1e-9) == causal.log[i]
        for at in range(stop - start):
            expected, _ = enumerated(grammar, evidence[start:stop], at)
            for of_all, of_row in zip((causal.ancestors, causal.ends), expected, strict=True):
                np.testing.assert_allclose(of_all[start + at], of_row[at], rtol=0, atol=1e-9)


def test_what_the_evidence_excludes_is_no_number() -> None:
    grammar = cfg.Grammar.from_text("S -> A A\nA -> 'a' | 'b'")
    tokens, offsets = ragged([[0, 1], [0], [0, 1, 0], []])
    found = posterior(grammar, *one_hot_evidence(grammar, tokens, offsets))
    assert np.isfinite(found.ancestors[:2]).all() and np.isnan(found.ancestors[2:]).all()
    assert found.log.tolist() == [np.log(1 / 4), -np.inf, -np.inf, -np.inf]
    causal = posterior(grammar, *one_hot_evidence(grammar, tokens, offsets), prefix=True).ancestors
    assert np.isfinite(causal[[0, 1, 2, 3, 4]]).all() and np.isnan(causal[5]).all()


def test_the_other_oracles_say_the_same_and_a_thousand_sentences_take_seconds() -> None:
    grammar = cfg.load("cfg3f").with_root("16")
    tokens, offsets, labels = cfg.sample(grammar, np.random.default_rng(0), 1000, labels=True)
    evidence, _ = one_hot_evidence(grammar, tokens, offsets)
    began = time.perf_counter()
    found = posterior(grammar, evidence, offsets)
    assert time.perf_counter() - began < 60
    np.testing.assert_allclose(found.log, cfg.log_probability(grammar, tokens, offsets), atol=1e-8)
    np.testing.assert_allclose(found.ancestors[:, 0].max(-1), 1, atol=1e-9)
    np.testing.assert_allclose(np.nansum(found.ancestors, -1), 1, atol=1e-9)
    single = np.repeat(cfg.count_parses(grammar, tokens, offsets) == 1, np.diff(offsets))
    best = found.ancestors.argmax(-1)
    assert (best[single] == labels["ancestor"][single]).all(), "a sentence with one parse leaves no doubt"
    # a hidden terminal of the last position of a prefix is what the next-token oracle predicts
    rows = cfg.next_token(grammar, tokens, offsets)
    for i, start in enumerate(offsets[:3]):
        at = start + 5
        hidden = evidence[start : at + 1].copy()
        hidden[-1] = 1
        last = posterior(grammar, hidden, np.array([0, len(hidden)]), prefix=True).ancestors[-1, -1, :3]
        expected = rows[start + i + 5, :3] / rows[start + i + 5, :3].sum()
        np.testing.assert_allclose(last, expected, atol=1e-9)


@pytest.mark.parametrize(
    ("evidence", "offsets", "message"),
    [
        (np.ones((3, 3)), [0, 3], "3 weights|2 weights"),
        (-np.ones((3, 2)), [0, 3], "at least 0"),
        (np.full((3, 2), np.nan), [0, 3], "finite"),
        (np.ones((3, 2)), [0, 2], "offsets must rise from 0"),
    ],
)
def test_bad_evidence_is_one_line(evidence: np.ndarray, offsets: list[int], message: str) -> None:
    with pytest.raises(UserError, match=message):
        posterior(cfg.Grammar.from_text("S -> A A\nA -> 'a' | 'b'"), evidence, offsets)


def test_evidence_counts_up_to_a_factor() -> None:
    grammar = cfg.load("cfg3f").with_root("16")
    tokens, offsets, _ = cfg.sample(grammar, np.random.default_rng(1), 3)
    evidence, _ = one_hot_evidence(grammar, tokens, offsets)
    plain, tiny = posterior(grammar, evidence, offsets), posterior(grammar, 1e-9 * evidence, offsets)
    np.testing.assert_allclose(tiny.ancestors, plain.ancestors, atol=1e-12)
    np.testing.assert_allclose(tiny.log, plain.log + np.diff(offsets) * np.log(1e-9))
