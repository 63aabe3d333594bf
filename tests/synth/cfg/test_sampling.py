"""The sampler: the same bytes for ever, the right frequencies, and labels that spell the derivation."""

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from synth import cfg
from synth.cfg.sampling import sample_with_log_probability

# SHA-256 of tokens and offsets of 20 sentences under default_rng(0): the bytes that published runs rest on.
GOLDEN = {
    "cfg3b": "b0ffba9fed06a51b",
    "cfg3i": "66f1d9b939505621",
    "cfg3h": "5abee38508d1979f",
    "cfg3g": "60d1c27bd7fe4eb2",
    "cfg3f": "364864126ee758bf",
    "cfg3e1": "08b362d9e6803e53",
    "cfg3e2": "1abc68d803ade2bd",
    "cfg3j": "847a6264de2d52e8",
    "cfg3k": "1adafa80c0f34179",
    "brackets": "d663cd938dc316da",
}


def digest(grammar: cfg.Grammar) -> str:
    tokens, offsets, labels = cfg.sample(grammar, np.random.default_rng(0), 20, labels=True)
    arrays = [tokens, offsets, labels["ancestor"], labels["subtree"], labels["boundary"]]
    return hashlib.sha256(b"".join(array.astype("<i8").tobytes() for array in arrays)).hexdigest()[:16]


@pytest.mark.parametrize("name", cfg.BUNDLED)
def test_golden_bytes(name: str) -> None:
    assert digest(cfg.load(name)) == GOLDEN[name]


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32), st.integers(0, 30), st.integers(0, 30))
def test_a_shorter_call_is_a_prefix(seed: int, few: int, more: int) -> None:
    grammar = cfg.load("cfg3h", "16")
    short = cfg.sample(grammar, np.random.default_rng(seed), few, labels=True)
    long = cfg.sample(grammar, np.random.default_rng(seed), few + more)
    assert np.array_equal(long[0][: len(short[0])], short[0]) and np.array_equal(long[1][: few + 1], short[1])


def test_calls_with_one_generator_differ() -> None:
    rng = np.random.default_rng(0)
    one, two = (cfg.sample(cfg.load("cfg3b"), rng, 1)[0] for _ in range(2))
    assert len(one) != len(two) or (one != two).any()


@pytest.mark.parametrize("weights", [None, [0.7, 0.2, 0.1]])
def test_rule_frequencies(weights: list[float] | None) -> None:
    grammar = cfg.Grammar.build("g", "S", {"S": [("a",), ("b", "a"), ("c",) * 3]}, {"S": weights} if weights else None)
    n = 60_000
    _, offsets, _ = cfg.sample(grammar, np.random.default_rng(5), n)
    seen = np.bincount(np.diff(offsets), minlength=4)[1:]
    assert chisquare(seen, n * np.array(weights or [1 / 3] * 3)).pvalue > 1e-3


def test_frequencies_of_sentences_match_their_probabilities() -> None:
    grammar = cfg.Grammar.from_text(
        "S -> A B | B A [0.5]".replace(" [0.5]", "") + "\nA -> 'a' | 'a' 'b'\nB -> 'b' | 'b' 'b'"
    )
    tokens, offsets, _ = cfg.sample(grammar, np.random.default_rng(7), 40_000)
    sentences, counts = np.unique(
        [tuple(tokens[a:b]) + (-1,) * (5 - b + a) for a, b in zip(offsets, offsets[1:], strict=False)],
        axis=0, return_counts=True,
    )  # fmt: skip
    probabilities = [
        np.exp(cfg.log_probability(grammar, kept, [0, len(kept)])[0]) for row in sentences for kept in [row[row >= 0]]
    ]
    assert sum(probabilities) == pytest.approx(1)
    assert chisquare(counts, 40_000 * np.array(probabilities)).pvalue > 1e-3


def spelled(grammar: cfg.Grammar, labels: dict[str, np.ndarray], start: int, stop: int) -> tuple:
    """The derivation that the labels of one sentence spell, and b# recomputed from the subtree numbers."""

    def node(level: int, a: int, b: int) -> tuple | str:
        symbol = grammar.levels[level][labels["ancestor"][a, level]]
        assert len(set(labels["subtree"][a:b, level])) == len(set(labels["ancestor"][a:b, level])) == 1
        if level == grammar.depth - 1:
            return symbol
        cuts = [a, *(np.flatnonzero(np.diff(labels["subtree"][a:b, level + 1])) + a + 1), b]
        return (symbol, *(node(level + 1, *pair) for pair in zip(cuts, cuts[1:], strict=False)))

    return node(0, start, stop)


def check_rules(grammar: cfg.Grammar, tree: tuple | str) -> list[str]:
    """The terminals of a tree whose every node applies a rule of the grammar."""
    if isinstance(tree, str):
        return [tree]
    assert tuple(c if isinstance(c, str) else c[0] for c in tree[1:]) in grammar.rules[tree[0]]
    return [terminal for child in tree[1:] for terminal in check_rules(grammar, child)]


@pytest.mark.parametrize("name", ["cfg3b", "cfg3f", "cfg3e1", "cfg3k"])
def test_labels_spell_a_derivation(name: str) -> None:
    grammar = cfg.load(name)
    tokens, offsets, labels = cfg.sample(grammar, np.random.default_rng(2), 5, labels=True)
    assert np.array_equal(tokens, cfg.sample(grammar, np.random.default_rng(2), 5)[0])
    for a, b in zip(offsets, offsets[1:], strict=False):
        tree = spelled(grammar, labels, a, b)
        assert check_rules(grammar, tree) == grammar.decode(tokens[a:b])
        if name in ("cfg3b", "cfg3e1"):  # every sentence has one derivation, so parsing must find the sampled one
            assert cfg.derive(grammar, tokens[a:b]) == tree
        subtree, boundary = labels["subtree"][a:b], labels["boundary"][a:b]
        assert (subtree[0] == 0).all() and (np.diff(subtree, axis=0) >= 0).all()
        for level in range(2, grammar.depth):  # the papers' numbers: root 1, terminals L
            ends = np.append(subtree[1:, level - 1] != subtree[:-1, level - 1], True)
            assert np.array_equal(boundary <= level, ends)


def test_labels_by_hand() -> None:
    grammar = cfg.Grammar.from_text("S -> A B\nA -> C C\nB -> C\nC -> 'x' 'y'")
    tokens, offsets, labels = cfg.sample(grammar, np.random.default_rng(0), 1, labels=True)
    assert tokens.tolist() == [0, 1, 0, 1, 0, 1]
    assert labels["ancestor"].tolist() == [[0, 0, 0, 0], [0, 0, 0, 1]] * 2 + [[0, 1, 0, 0], [0, 1, 0, 1]]
    assert labels["subtree"][:, 2].tolist() == [0, 0, 1, 1, 2, 2] and labels["subtree"][:, 3].tolist() == [*range(6)]
    assert labels["boundary"].tolist() == [4, 3, 4, 2, 4, 2]
    assert {k: v.dtype for k, v in labels.items()} == {"ancestor": np.int16, "subtree": np.int32, "boundary": np.int8}


def test_derivation_probability_of_unambiguous_sentences() -> None:
    tokens, offsets, _, derivation = sample_with_log_probability(cfg.load("cfg3e2"), np.random.default_rng(1), 20)
    assert np.allclose(cfg.log_probability(cfg.load("cfg3e2"), tokens, offsets), derivation, rtol=1e-12)


def test_boundary_of_the_page_example() -> None:
    grammar = cfg.Grammar.from_text("S -> A B\nA -> 'a' 'b'\nB -> 'a'")
    _, _, labels = cfg.sample(grammar, np.random.default_rng(0), 1, labels=True)
    assert labels["boundary"].tolist() == [3, 2, 2]
