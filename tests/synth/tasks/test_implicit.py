"""Grammars behind bags of words against brute force, and their instrument on planted embeddings."""

from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch

from lm.config import ModelConfig
from lm.model import Decoder, build
from probing.grammar.ancestor_probe import AncestorProbe
from probing.grammar.embedding_geometry import BagGeometry, geometry, plane
from synth import Corpus, UserError, cfg, get_task
from synth.cfg.oracles import naive
from synth.tasks.implicit import ImplicitCfg, memberships

TINY = "S -> A B\nA -> 'a' [0.25] | 'a' 'b' [0.75]\nB -> 'a' [0.5] | 'b' 'a' [0.5]"
PAGE = "S -> 'a' 'b' | 'b' 'b' 'a'"


@pytest.fixture
def tiny(tmp_path: Path) -> str:
    (tmp_path / "tiny.cfg").write_text(TINY)
    return str(tmp_path / "tiny.cfg")


def readings(task: ImplicitCfg, world: cfg.Grammar, sentence: tuple[int, ...]) -> list[float]:
    """The probability of a sentence of word numbers with each hidden sentence that can have brought it about."""
    chances, found = memberships(world), []
    for hidden in naive.language(task.hidden_grammar()):
        if len(hidden) == len(sentence):
            words = np.prod([chances[t, w] for t, w in zip(hidden, sentence, strict=True)])
            found.append(naive.probability(task.hidden_grammar(), np.array(hidden)) * words)
    return [value for value in found if value]


@pytest.mark.parametrize("bags", ["disjoint", "overlap"])
@pytest.mark.parametrize("uniform", [True, False])
def test_oracles_agree_with_trying_every_hidden_sentence(tiny: str, bags: str, uniform: bool) -> None:
    task = ImplicitCfg(tiny, words=5, bags=bags, uniform=uniform)
    world = task.world(3)
    sentences = [s for length in (1, 2, 3) for s in product(range(5), repeat=length)]
    batch = np.array([w for s in sentences for w in s], np.int32), np.cumsum([0, *map(len, sentences)])
    truth = [readings(task, world, sentence) for sentence in sentences]
    assert cfg.is_member(world, *batch).tolist() == [bool(values) for values in truth]
    assert 0 < sum(map(bool, truth)) < len(truth)
    assert np.allclose(np.exp(cfg.log_probability(world, *batch)), [sum(values) for values in truth], atol=0)
    rows = np.concatenate([naive.next_token(world, np.array(s)) for s in sentences])
    assert np.allclose(cfg.next_token(world, *batch), rows, atol=1e-12)


def test_the_next_word_is_that_of_the_sentences_that_go_on(tiny: str) -> None:
    """After a word of two bags: the sum over sentences that begin with it, of which there are at most 5**4."""
    task = ImplicitCfg(tiny, words=5, bags="overlap", uniform=False)
    world = task.world(3)
    inside = memberships(world) > 0
    twice = int(np.flatnonzero(inside.all(0))[0])
    whole = {s: sum(readings(task, world, s)) for length in (1, 2, 3, 4) for s in product(range(5), repeat=length)}
    assert sum(whole.values()) == pytest.approx(1)
    begun = {s: value for s, value in whole.items() if s[:2] == (twice, twice)}
    after = [sum(v for s, v in begun.items() if s[2:3] == (w,)) for w in range(5)] + [begun[twice, twice]]
    found = cfg.next_token(world, [twice, twice], [0, 2])[2]
    assert found == pytest.approx(np.array(after) / sum(begun.values()))


def test_worked_example_of_the_page(tmp_path: Path) -> None:
    (tmp_path / "page.cfg").write_text(PAGE)
    task = ImplicitCfg(str(tmp_path / "page.cfg"), words=4)
    world = task.world(0)
    assert world.rules["a"] == (("w1",), ("w3",)) and world.rules["b"] == (("w2",), ("w4",))
    said = task.vocab().encode(["w3", "w2"])
    assert task.score(world, None, said) == {"valid": 1} == task.score(world, None, task.vocab().encode(["w1", "w4"]))
    assert task.score(world, None, task.vocab().encode(["w3", "w1"])) == {"valid": 0}
    assert task.detail(world, None, said)["log2_probability"] == pytest.approx(-3)
    assert task.floors(world)["bits"] == pytest.approx(1 + 2.5)
    uneven = ImplicitCfg(str(tmp_path / "page.cfg"), words=4, uniform=False).world(0)
    assert memberships(uneven) == pytest.approx(np.array([[1 / 3, 0, 2 / 3, 0], [0, 1 / 3, 0, 2 / 3]]))


@pytest.mark.parametrize("uniform", [True, False])
def test_bags_are_drawn_as_they_should_be(uniform: bool) -> None:
    task = ImplicitCfg("cfg3f", "13", 60, "overlap", uniform)
    chances = memberships(task.world(1))
    assert chances.shape == (3, 60) and chances.sum(1) == pytest.approx([1, 1, 1])
    sizes = (chances > 0).sum(1)  # 30 draws of 60 with replacement: 23.8 differ in the mean
    assert (sizes <= 30).all() and (sizes > 17).all()
    ranks = np.sort(chances[0][chances[0] > 0]) * (sizes[0] if uniform else sizes[0] * (sizes[0] + 1) / 2)
    assert ranks == pytest.approx(np.ones(sizes[0]) if uniform else np.arange(1, sizes[0] + 1))
    other = ImplicitCfg("cfg3f", "13", 60, "overlap", not uniform)
    assert np.array_equal(chances > 0, memberships(other.world(1)) > 0), "evenness changed the bags"
    assert not np.array_equal(chances > 0, memberships(task.world(2)) > 0)
    block = Corpus(task, 1).documents(0, 2000)
    counts = np.bincount(block.tokens, minlength=63)[1:61]
    assert set(np.flatnonzero(counts)) == set(np.flatnonzero(chances.any(0)))


def test_labels_know_the_hidden_terminal() -> None:
    task = get_task("implicit_disjoint", grammar="cfg3f", root="13", words=30)
    example = Corpus(task, 0).documents(0, 1, labels=True)[0]
    hidden = (example.tokens[1:-1] - 1) % 3
    assert example.labels["ancestor"].shape[1] == 5
    assert np.array_equal(example.labels["ancestor"][1:-1, -2], hidden)
    sentence = hidden.astype(np.int32)
    assert cfg.is_member(task.hidden_grammar(), sentence, [0, len(sentence)])[0]


def test_the_ancestors_can_be_asked_for() -> None:
    task = ImplicitCfg("cfg3f", "13", 30)
    model = build(ModelConfig(1, 1, 32, max_seq_len=32), task.vocab().size, 0)
    probe = AncestorProbe(
        mode="diagonal", layers=("embed",), heads=1, position_width=4, updates=60, lr=0.03, sentences=100
    )
    rows = probe.measure(model, task, 0)
    assert [row["level"] for row in rows] == [2, 3, 4]
    assert rows[-1]["accuracy"] > 0.6 > rows[-1]["majority"]  # a word alone tells its terminal


def test_bad_settings() -> None:
    for settings, message in [
        ({"words": 2}, "2 words cannot fill 3 bags; give at least 3"),
        ({"bags": "both"}, "choose one of disjoint, overlap"),
    ]:
        with pytest.raises(UserError, match=message):
            ImplicitCfg("cfg3f", "13", **settings)
    with pytest.raises(UserError, match="give 0 or more"):
        BagGeometry(-1)


# ---- the instrument --------------------------------------------------------------------------------------------
def planted(task: ImplicitCfg, vectors: np.ndarray) -> Decoder:
    """A model whose words have these vectors (words, D)."""
    model = build(ModelConfig(1, 1, vectors.shape[1], max_seq_len=64), task.vocab().size, 0)
    with torch.no_grad():
        model.embed.weight[1 : len(vectors) + 1] = torch.from_numpy(vectors)
    return model


def test_perfect_clusters() -> None:
    task = ImplicitCfg("cfg3f", "13", 60)
    vectors = np.eye(8)[np.arange(60) % 3] + 0.01 * np.random.default_rng(0).normal(size=(60, 8))
    row, *words = BagGeometry(num_plotted_words=9).measure(planted(task, vectors), task, 0)
    assert row["purity"] == 1 and row["purity_chance"] == pytest.approx(19 / 59)
    assert row["same"] > 0.99 and row["apart"] == pytest.approx(-0.5, abs=0.01) and np.isnan(row["shared"])
    assert row["agreement"] > 0.99 and row["chance_valid"] < 0.05
    assert [word["bags"] for word in words] == ["{1}", "{2}", "{3}"] * 3 and words[0]["word"] == "w1"
    places = np.array([[word["x"], word["y"]] for word in words])
    assert np.abs(places[:3] - places[3:6]).max() < 0.1 < np.abs(places[0] - places[1]).max()
    assert words[0]["x_share"] + words[0]["y_share"] > 0.98


@pytest.mark.parametrize("uniform", [True, False])
def test_overlapping_bags_lie_between(uniform: bool) -> None:
    """Vectors that say how probable each terminal is, given the word."""
    task = ImplicitCfg("cfg3f", "13", 120, "overlap", uniform)
    chances = memberships(task.world(1))
    vectors = (chances / np.maximum(chances.sum(0), 1e-9)).T @ np.eye(3, 8)
    row = BagGeometry().measure(planted(task, vectors), task, 1)[0]
    assert row["same"] > row["shared"] > row["apart"] and row["agreement"] > 0.8
    assert row["purity_chance"] < 0.3 and row["purity"] > (0.99 if uniform else 0.6)
    assert row["chance_valid"] > 0.05  # words of several bags let noise pass


@pytest.mark.parametrize("bags", ["disjoint", "overlap"])
def test_noise_knows_no_bags(bags: str) -> None:
    task = ImplicitCfg("cfg3f", "13", 300, bags)
    row = BagGeometry().measure(planted(task, np.random.default_rng(1).normal(size=(300, 32))), task, 0)[0]
    assert abs(row["purity"] - row["purity_chance"]) < 0.1 and abs(row["agreement"]) < 0.02
    assert abs(row["same"]) < 0.02 and abs(row["apart"]) < 0.02


def test_a_common_part_of_all_vectors_does_not_count() -> None:
    chances = np.repeat(np.eye(3), 10, axis=1)
    vectors = np.random.default_rng(2).normal(size=(30, 8))
    found, shifted = geometry(vectors, chances), geometry(vectors + 50, chances)
    assert {k: pytest.approx(v, nan_ok=True, abs=1e-9) for k, v in found.items()} == shifted
    assert np.allclose(plane(vectors)[0], plane(vectors + 50)[0])


def test_what_does_not_fit_is_refused() -> None:
    task = ImplicitCfg("cfg3f", "13", 30)
    with pytest.raises(UserError, match="the task it was trained on"):
        BagGeometry().measure(build(ModelConfig(1, 1, 8, max_seq_len=32), 20, 0), task, 0)
    with pytest.raises(UserError, match="has no bags"):
        BagGeometry().measure(build(ModelConfig(1, 1, 8, max_seq_len=32), 6, 0), get_task("cfg3f", root="13"), 0)
