"""The exact oracles against hand calculation, plain references, nltk's parser and the papers' entropies."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synth import cfg
from synth.cfg import formats
from synth.cfg.oracles import naive
from synth.errors import UserError

TINY = "S -> A B\nA -> 'a' | 'a' 'b'\nB -> 'a' | 'b' 'a'"


def ragged(sentences: list) -> tuple[np.ndarray, np.ndarray]:
    flat = [token for sentence in sentences for token in sentence]
    return np.array(flat, np.int32), np.cumsum([0, *map(len, sentences)])


def weighted(grammar: cfg.Grammar, rng: np.random.Generator) -> cfg.Grammar:
    weights = {symbol: tuple(rng.dirichlet(np.ones(len(rhs)) * 2) + 1e-3) for symbol, rhs in grammar.rules.items()}
    weights = {symbol: tuple(np.array(w) / sum(w)) for symbol, w in weights.items()}
    return cfg.Grammar(grammar.name, grammar.levels, grammar.rules, weights)


def small_grammar(seed: int) -> cfg.Grammar:
    """A random grammar of three or four levels, right-hand sides of one to four symbols, every other one weighted."""
    rng = np.random.default_rng(seed)
    sizes = (1, *rng.integers(2, 4, rng.integers(1, 3)).tolist(), 2)
    lengths = ((1, 2), (2, 3), (2,), (1, 4))[rng.integers(4)]
    grammar = cfg.random_grammar(cfg.RandomGrammar(sizes, (1, 2), lengths), seed)
    return weighted(grammar, rng) if seed % 2 else grammar


def test_worked_example_of_the_page() -> None:
    grammar = cfg.Grammar.from_text(TINY)
    assert naive.language(grammar) == {(0, 0), (0, 1, 0), (0, 1, 1, 0)}
    batch = ragged([grammar.encode(s) for s in ("aa", "aba", "abba", "bba", "abbba", "")])
    assert cfg.count_parses(grammar, *batch).tolist() == [1, 2, 1, 0, 0, 0]
    assert cfg.is_member(grammar, *batch).tolist() == [True, True, True, False, False, False]
    assert np.exp(cfg.log_probability(grammar, *batch)) == pytest.approx([1 / 4, 1 / 2, 1 / 4, 0, 0, 0])
    assert cfg.hamming_distance(grammar, *batch).tolist() == [0, 0, 0, 1, -1, -1]
    assert cfg.derivation_entropy(grammar) == pytest.approx(2)
    bits, error = cfg.sentence_entropy(grammar, 4000, 0)
    assert abs(bits - 1.5) < 4 * error < 0.1
    aba = grammar.encode("aba")
    rows = [[1, 0, 0], [1 / 4, 3 / 4, 0], [2 / 3, 1 / 3, 0], [0, 0, 1]]
    assert cfg.next_token(grammar, aba, [0, 3]) == pytest.approx(np.array(rows))
    assert cfg.derive(grammar, aba) == ("S", ("A", "a"), ("B", "b", "a"))
    assert str(formats.to_tree(cfg.derive(grammar, aba))) == "(S (A a) (B b a))"


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.data())
def test_fast_oracles_agree_with_plain_ones(seed: int, data) -> None:
    grammar = small_grammar(seed)
    language = sorted(naive.language(grammar))
    some = [language[k % len(language)] for k in data.draw(st.lists(st.integers(0, 10**6), max_size=2))]
    noise = data.draw(st.lists(st.lists(st.integers(0, 1), max_size=12), min_size=1, max_size=3))
    sentences = [*some, *noise]
    batch = ragged(sentences)
    members = set(language)
    assert cfg.is_member(grammar, *batch).tolist() == [tuple(s) in members for s in sentences]
    assert cfg.count_parses(grammar, *batch).tolist() == [
        naive.count_parses(grammar, np.array(s, int)) for s in sentences
    ]
    expected = [naive.probability(grammar, np.array(s, int)) for s in sentences]
    assert np.allclose(np.exp(cfg.log_probability(grammar, *batch)), expected, rtol=1e-9, atol=0)
    assert cfg.hamming_distance(grammar, *batch).tolist() == [
        naive.hamming_distance(grammar, np.array(s, int)) for s in sentences
    ]
    rows = np.concatenate([naive.next_token(grammar, np.array(s, int)) for s in sentences])
    assert np.allclose(cfg.next_token(grammar, *batch), rows, rtol=1e-9, atol=1e-12)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6))
def test_agreement_with_nltk(seed: int) -> None:
    from nltk import ChartParser

    grammar = small_grammar(seed)
    language = sorted(naive.language(grammar), key=lambda s: (len(s), s))
    sentence = language[seed % min(len(language), 30)]
    trees = list(ChartParser(formats.to_nltk(grammar, probabilities=False)).parse(grammar.decode(sentence)))
    weight = {
        (symbol, rhs): w
        for symbol in grammar.rules
        for rhs, w in zip(grammar.rules[symbol], grammar.weights[symbol])  # noqa: B905
    }
    chances = [math.prod(weight[str(p.lhs()), tuple(map(str, p.rhs()))] for p in tree.productions()) for tree in trees]
    batch = ragged([sentence])
    assert cfg.count_parses(grammar, *batch)[0] == len(trees) > 0
    assert np.exp(cfg.log_probability(grammar, *batch)[0]) == pytest.approx(sum(chances), rel=1e-9)
    assert formats.to_tree(cfg.derive(grammar, np.array(sentence))) in trees


@pytest.mark.parametrize("name", cfg.BUNDLED)
def test_known_grammars_agree_with_plain_ones(name: str) -> None:
    grammar = cfg.load(name)
    tokens, offsets, _ = cfg.sample(grammar, np.random.default_rng(3), 1)
    flipped, place = tokens.copy(), min(40, len(tokens) // 2)
    flipped[place] = (tokens[place] + 1) % len(grammar.terminals)
    for batch in (tokens, flipped):
        counts, logs = cfg.count_parses(grammar, batch, offsets), cfg.log_probability(grammar, batch, offsets)
        rows = cfg.next_token(grammar, batch, offsets)
        for i, (a, b) in enumerate(zip(offsets, offsets[1:], strict=False)):
            assert counts[i] == naive.count_parses(grammar, batch[a:b])
            assert np.exp(logs[i]) == pytest.approx(naive.probability(grammar, batch[a:b]), rel=1e-9, abs=0)
            assert np.allclose(rows[a + i : b + i + 1], naive.next_token(grammar, batch[a:b]), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ["cfg3b", "cfg3f", "cfg3e2", "cfg3k"])
def test_rows_are_distributions_and_chain_to_the_probability(name: str) -> None:
    grammar = cfg.load(name)
    tokens, offsets, _ = cfg.sample(grammar, np.random.default_rng(4), 20)
    rows = cfg.next_token(grammar, tokens, offsets)
    assert np.abs(rows.sum(1) - 1).max() < 1e-9
    logs = cfg.log_probability(grammar, tokens, offsets)
    for i, (a, b) in enumerate(zip(offsets, offsets[1:], strict=False)):
        nexts = np.append(tokens[a:b], len(grammar.terminals))
        chain = np.log(rows[a + i : b + i + 1][np.arange(len(nexts)), nexts]).sum()
        assert chain == pytest.approx(logs[i], rel=1e-9)
    assert (cfg.hamming_distance(grammar, tokens[: offsets[3]], offsets[:4]) == 0).all()


def test_rows_after_an_impossible_prefix_are_zero() -> None:
    rows = cfg.next_token(cfg.Grammar.from_text(TINY), [0, 1, 1, 1, 0], [0, 5])
    assert rows.sum(1) == pytest.approx([1, 1, 1, 1, 0, 0]) and (rows[4:] == 0).all()


def doubling(levels: int, last: str) -> cfg.Grammar:
    """2**levels symbols X in a row, each of which becomes what `last` says."""
    names = [f"N{k}" for k in range(levels)] + ["X"]
    return cfg.Grammar.from_text(
        "\n".join(f"{a} -> {b} {b}" for a, b in zip(names, names[1:], strict=False)) + f"\nX -> {last}"
    )


def test_no_underflow() -> None:
    long = doubling(11, "'a' | 'b'")  # 2,048 tokens of one bit each; float64 ends at 1,074 bits
    tokens, offsets, _ = cfg.sample(long, np.random.default_rng(0), 1)
    assert cfg.log_probability(long, tokens, offsets)[0] == pytest.approx(-2048 * np.log(2), rel=1e-12)
    rows = cfg.next_token(long, tokens, offsets)
    assert np.allclose(rows[:-1], [0.5, 0.5, 0], atol=1e-9) and np.allclose(rows[-1], [0, 0, 1], atol=1e-9)
    rare = doubling(2, f"'a' [{'0.' + '0' * 149 + '1'}] | 'b' [1]")
    assert cfg.log_probability(rare, [0, 0, 0, 1], [0, 4])[0] == pytest.approx(-450 * np.log(10), rel=1e-9)
    assert cfg.next_token(rare, [0, 0, 0, 1], [0, 4])[:, 1] == pytest.approx([1, 1, 1, 1, 0])
    rules = {"S": [("A",), ("B",)], "A": [("a",), ("b",)], "B": [("b",)]}
    chain = cfg.Grammar.build("chain", "S", rules, {"S": [1e-200, 1], "A": [1e-200, 1]})  # 1e-400 within one symbol
    assert cfg.log_probability(chain, [0], [0, 1])[0] == pytest.approx(-400 * np.log(10), rel=1e-12)
    assert cfg.next_token(chain, [0], [0, 1]) == pytest.approx(np.array([[0, 1, 0], [0, 0, 1]]))


def test_no_underflow_behind_an_unfinished_prefix() -> None:
    """Prefixes of probability 1e-400 whose phrases are not complete, so that only the prefix pass can notice."""
    nested = {
        "S": [("T", "X"), ("X", "X")],
        "T": [("U", "Y"), ("Y", "Y")],
        "X": [("Y", "Y")],
        "U": [("u",)],
        "Y": [("y",)],
    }
    grammar = cfg.Grammar.build("nested", "S", nested, {"S": [1e-200, 1], "T": [1e-200, 1]})
    assert cfg.next_token(grammar, grammar.encode("u"), [0, 1])[1] == pytest.approx([0, 1, 0])
    rival = {"S": [("U", "Y"), ("B", "W")], "U": [("u",), ("v",)], "B": [("u",)], "Y": [("y", "z")], "W": [("w",)]}
    grammar = cfg.Grammar.build("rival", "S", rival, {"S": [1e-200, 1], "U": [1e-200, 1]})
    rows = cfg.next_token(grammar, grammar.encode("uy"), [0, 2])
    assert rows[2, grammar.terminals.index("z")] == pytest.approx(1) == rows[2].sum()


@pytest.mark.parametrize("levels, length, kind", [(5, 48, np.int64), (6, 96, np.int64), (7, 192, object)])
def test_parse_counts_are_exact_at_any_size(levels: int, length: int, kind: type) -> None:
    counts = cfg.count_parses(doubling(levels, "'a' | 'a' 'a'"), np.zeros(length, np.int32), [0, length])
    # 2**levels symbols of which some become two tokens: choose which.
    assert counts[0] == math.comb(2**levels, length - 2**levels) and counts.dtype == kind


def test_long_right_hand_sides_stay_polynomial() -> None:
    grammar = cfg.Grammar.from_text("S -> " + "A " * 40 + "\nA -> 'a' | 'a' 'a'")
    batch = np.zeros(60, np.int32), [0, 60]
    assert cfg.count_parses(grammar, *batch)[0] == math.comb(40, 20)
    assert cfg.hamming_distance(grammar, *batch)[0] == 0 and len(cfg.derive(grammar, batch[0])) == 41


def test_least_edits_are_reached() -> None:
    """Substituted sentences of a big grammar: at most the number of changes, and no fewer than where it is known."""
    grammar = cfg.load("cfg3b")
    tokens, offsets, _ = cfg.sample(grammar, np.random.default_rng(6), 6)
    changed = tokens.copy()
    for k, a in enumerate(offsets[:-1]):
        changed[a + 10 : a + 10 + k] = (changed[a + 10 : a + 10 + k] + 1) % 3
    found = cfg.hamming_distance(grammar, changed, offsets)
    members = cfg.is_member(grammar, changed, offsets)
    assert (found <= np.arange(6)).all() and np.array_equal(found == 0, members) and found[0] == 0 < found[1]


TRUTH = {"cfg3b": 169, "cfg3i": 185, "cfg3h": 204, "cfg3g": 268, "cfg3f": 268, "cfg3e1": 216, "cfg3e2": 256}


@pytest.mark.parametrize("name", TRUTH)
def test_entropy_matches_the_papers_truth(name: str) -> None:
    bits, error = cfg.sentence_entropy(cfg.load(name), 500, 0)
    assert abs(bits - TRUTH[name]) < 1 and error < 0.1


def test_entropy_honours_weights() -> None:
    grammar = cfg.Grammar.from_text("S -> A A\nA -> 'a' [0.25] | 'b' [0.75]")
    assert cfg.derivation_entropy(grammar) == pytest.approx(2 * (0.25 * 2 + 0.75 * np.log2(4 / 3)))
    assert cfg.sentence_entropy(grammar, 50, 1) == pytest.approx((cfg.derivation_entropy(grammar), 0), abs=1e-12)


@pytest.mark.parametrize(
    "oracle", [cfg.count_parses, cfg.is_member, cfg.log_probability, cfg.next_token, cfg.hamming_distance]
)
def test_foreign_tokens_and_broken_batches(oracle) -> None:
    grammar = cfg.load("cfg3b", "16")
    for tokens, offsets, message in [
        ([0, 1, 2, 3], [0, 1, 4], "token 3 at position 2 of sentence 1"),
        ([-1], [0, 1], "token -1 at position 0 of sentence 0"),
        ([0, 1], [0, 1], "offsets must rise from 0 to the number of tokens, 2"),
        ([0, 1], [0, 2, 1, 2], "offsets must rise"),
        ([0.5], [0, 1], "arrays of integers"),
    ]:
        with pytest.raises(UserError) as caught:
            oracle(grammar, tokens, offsets)
        assert message in str(caught.value)
    with pytest.raises(UserError, match="token 'x' at position 1"):
        grammar.encode(["1", "x"])
