"""Sentences with faults: as many as asked for, where asked for, and nothing else moves."""

import numpy as np
import pytest
from scipy.stats import binomtest, chisquare

from synth import Corpus, UserError, cfg, get_task
from synth.cfg.oracles import naive
from synth.cfg.sampling import Noise
from synth.random.rng import rng
from synth.tasks.cfg import Cfg
from synth.tasks.cfg_perturbed import STRENGTHS, PerturbedCfg

GRAMMAR = cfg.load("cfg3b", "16")
LEVELS = range(2, GRAMMAR.depth + 1)
CYCLE = (1, 2, 0)


def both(faults: cfg.Perturbation, n: int, seed: int = 0):
    """The same sentences clean and with faults."""
    clean = cfg.sample(GRAMMAR, np.random.default_rng(seed), n, labels=True)
    return clean, cfg.sample_perturbed(GRAMMAR, np.random.default_rng(seed), n, faults, labels=True)


def same(one, other) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(one[:2], other[:2], strict=True)) and all(
        np.array_equal(one[2][name], other[2][name]) for name in one[2]
    )


def likely(hits: int, n: int, share: float) -> bool:
    return binomtest(int(hits), int(n), share).pvalue > 1e-4


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("calm", [{"strength": 0.0}, {"strength": 1.0, "share": 0.0}])
def test_without_faults_sentences_are_clean(level: int, calm: dict) -> None:
    assert same(*both(cfg.Perturbation(level, **calm), 200))
    assert same(*both(cfg.Perturbation(level, **calm, images=CYCLE), 200))


@pytest.mark.parametrize("level", LEVELS)
def test_the_identity_changes_nothing(level: int) -> None:
    clean, perturbed = both(cfg.Perturbation(level, 0.5, images=(0, 1, 2)), 200)
    assert same(clean, perturbed) and perturbed[3].all()


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("images", [(), CYCLE])
def test_agrees_with_plain_python(level: int, images: tuple[int, ...]) -> None:
    faults, n, source = cfg.Perturbation(level, 0.3, 0.6, images), 30, np.random.default_rng(4)
    tokens, offsets, _, chosen = cfg.sample_perturbed(GRAMMAR, np.random.default_rng(4), n, faults)
    key, other = (source.integers(0, 2**64, 2, np.uint64) for _ in range(2))
    noise = Noise(other, chosen, level - 1, 0.3, np.array(images, np.int32))
    for i in range(n):
        assert tokens[offsets[i] : offsets[i + 1]].tolist() == naive.sample_sentence(GRAMMAR, key, i, noise)
    assert 0 < chosen.sum() < n


def test_as_many_sentences_are_chosen_as_asked() -> None:
    clean, (tokens, offsets, _, chosen) = both(cfg.Perturbation(GRAMMAR.depth, 0.15, 0.3), 4000)
    assert likely(chosen.sum(), 4000, 0.3)
    changed = np.add.reduceat(tokens != clean[0], offsets[:-1]) > 0
    assert not (changed & ~chosen).any() and changed[chosen].mean() > 0.95


def test_terminals_are_replaced_as_often_as_asked() -> None:
    clean, (tokens, _, _, _) = both(cfg.Perturbation(GRAMMAR.depth, 0.15), 2000)
    changed = tokens != clean[0]
    assert likely(changed.sum(), len(tokens), 0.15 * 2 / 3)  # one of three terminals replaces itself
    into = np.bincount(tokens[changed & (clean[0] == 0)], minlength=3)
    assert into[0] == 0 and chisquare(into[1:]).pvalue > 1e-4


@pytest.mark.parametrize(("images", "share"), [((), 0.1 * 2 / 3), (CYCLE, 0.1)])
def test_nonterminals_are_replaced_as_often_as_asked(images: tuple[int, ...], share: float) -> None:
    """On level 2 a sentence keeps its number of symbols, so that both trees can be laid side by side."""
    clean, perturbed = both(cfg.Perturbation(2, 0.1, images=images), 3000)
    before, after = symbols(clean, 1), symbols(perturbed, 1)
    changed = before != after
    assert likely(changed.sum(), len(before), share)
    if images:
        assert np.array_equal(after[changed], np.take(CYCLE, before[changed]))


def symbols(sampled, column: int) -> np.ndarray:
    """The symbols of one level of all trees, each once."""
    _, offsets, truth = sampled[:3]
    sentence = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    begins = np.flatnonzero(np.diff(truth["subtree"][:, column], prepend=-1) | np.diff(sentence, prepend=-1))
    return truth["ancestor"][begins, column]


@pytest.mark.parametrize("level", LEVELS)
def test_below_a_fault_the_rules_are_kept(level: int) -> None:
    """Of the tree as it grew, only children on the faulty level may break the rule above them."""
    _, (tokens, offsets, truth, _) = both(cfg.Perturbation(level, 1.0, images=CYCLE), 50)
    assert cfg.is_member(GRAMMAR, tokens, offsets).mean() < 0.5  # 14 for 13 behind 13 for 15 may spell 15 13
    for column in range(level - 1, GRAMMAR.depth - 1):
        for symbol in range(3):
            for children in families(truth, offsets, column, symbol):
                assert children in GRAMMAR.rules[GRAMMAR.levels[column][symbol]]


def families(truth, offsets, column: int, symbol: int):
    """What the nodes with this symbol were rewritten to."""
    for a, b in zip(offsets[:-1], offsets[1:], strict=True):
        ancestor, subtree = truth["ancestor"][a:b], truth["subtree"][a:b]
        for node in np.unique(subtree[ancestor[:, column] == symbol, column]):
            rows = np.flatnonzero(subtree[:, column] == node)
            firsts = rows[np.diff(subtree[rows, column + 1], prepend=-1) != 0]
            yield tuple(GRAMMAR.levels[column + 1][ancestor[row, column + 1]] for row in firsts)


def test_a_shorter_call_is_a_prefix() -> None:
    faults = cfg.Perturbation(3, 0.4, 0.5)
    few, many = (cfg.sample_perturbed(GRAMMAR, np.random.default_rng(1), n, faults) for n in (7, 30))
    assert np.array_equal(few[0], many[0][: len(few[0])]) and np.array_equal(few[3], many[3][:7])


@pytest.mark.parametrize("kind", STRENGTHS)
def test_only_training_sentences_have_faults(kind: str) -> None:
    task = get_task(f"cfg3b-{kind}", root="16")
    corpora = {split: Corpus(task, 0, split).documents(0, 300) for split in ("train", "valid", "test")}
    valid = {
        split: np.mean([task.score(GRAMMAR, None, document)["valid"] for document in block.documents])
        for split, block in corpora.items()
    }
    assert valid["valid"] == valid["test"] == 1 and valid["train"] < 0.8
    assert corpora["train"].slices["faulty"].all() and not corpora["test"].slices["faulty"].any()


def test_a_share_of_nothing_is_the_plain_task() -> None:
    plain, task = Cfg("cfg3b", "16"), PerturbedCfg("cfg3b", "16", share=0.0)
    one, two = (each.sample_block(GRAMMAR, rng(1), "train", 50, labels=True) for each in (plain, task))
    assert np.array_equal(one.tokens, two.tokens) and np.array_equal(one.labels["subtree"], two.labels["subtree"])
    assert task.floors(GRAMMAR) == plain.floors(GRAMMAR)


@pytest.mark.parametrize(
    ("settings", "mend"),
    [
        ({"kind": "typo"}, "choose one of terminal"),
        ({"strength": 1.5}, "from 0 to 1"),
        ({"share": -0.1}, "from 0 to 1"),
        ({"kind": "random", "level": 1}, "give 2 to 6"),
        ({"kind": "fixed", "level": 7}, "give 2 to 6"),
    ],
)
def test_bad_settings(settings: dict, mend: str) -> None:
    with pytest.raises(UserError, match=mend):
        PerturbedCfg("cfg3b", **settings).world()


def test_bad_faults() -> None:
    lonely = cfg.Grammar.from_text("S -> A A\nA -> 'a' 'b' | 'b'")
    for grammar, faults, mend in [
        (GRAMMAR, cfg.Perturbation(1, 0.1), "choose one of 2 to 5"),
        (GRAMMAR, cfg.Perturbation(6, 0.1), "choose one of 2 to 5"),
        (lonely, cfg.Perturbation(2, 0.1), "single symbol"),
        (GRAMMAR, cfg.Perturbation(2, 0.1, images=(0, 3, 1)), "0 to 2, for each"),
        (GRAMMAR, cfg.Perturbation(2, 0.1, images=(0,)), "3 symbols"),
    ]:
        with pytest.raises(UserError, match=mend):
            cfg.sample_perturbed(grammar, np.random.default_rng(0), 3, faults)
