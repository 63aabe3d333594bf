"""Depo against a reading of its documents by name, corrupted answers, and the statistics of the paper's sizes."""

from dataclasses import replace
from time import process_time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synth import Corpus, UserError, get_task
from synth.identity import digest
from synth.random.rng import rng
from synth.tasks.depo import Depo

SMALL = Depo(nodes=9, hops=4, alphabet=6)


@st.composite
def tasks(draw) -> Depo:
    shortest = draw(st.integers(1, 3))
    longest = shortest + draw(st.integers(0, 2))
    alphabet = draw(st.integers(2, 9))
    nodes = draw(st.integers(1, min(20, sum(alphabet**m for m in range(shortest, longest + 1)))))
    least = draw(st.integers(1, nodes))
    return Depo(nodes, draw(st.integers(1, 25)), shortest, longest, alphabet, draw(st.integers(1, 12)), least)


def told(task: Depo, document: np.ndarray) -> tuple[list[str], list[str]]:
    """A document as words of names and marks, before and from the first question on; read from the symbols' names."""
    words, name = [], ""
    for symbol in task.vocab().decode(document[1:]):
        name += symbol + " "
        if symbol.startswith(("query", "ans")) or symbol.endswith(".") or task.longest == 1:
            words.append(name.strip())
            name = ""
    first = next(i for i, word in enumerate(words) if word.startswith("query"))
    assert not name
    return words[:first], words[first:]


def check(task: Depo, document: np.ndarray) -> None:
    """Follows every question one edge at a time."""
    edges, asked = told(task, document)
    after = dict(zip(edges[::2], edges[1::2], strict=True))
    assert len(after) == len(edges) // 2 and set(after) == set(after.values())
    assert task.least <= len(after) <= task.nodes and len(asked) == 4 * min(task.queries, len(after))
    starts = asked[1::4]
    assert len(set(starts)) == len(starts) and set(asked[2::4]) == {"ans"}
    for query, node, said in zip(asked[::4], starts, asked[3::4], strict=True):
        for _ in range(int(query.removeprefix("query"))):
            node = after[node]
        assert node == said
    walk = [edges[0]]
    while after[walk[-1]] != walk[0]:
        walk.append(after[walk[-1]])
    assert len(walk) == len(after), "more than one cycle"


@settings(max_examples=200, deadline=None)
@given(tasks(), st.integers(0, 2**32))
def test_answers_are_accepted_and_faults_are_not(task: Depo, seed: int) -> None:
    draw, size = rng("faults", seed), task.vocab().size
    block = task.sample_block(None, draw, "test", 50, labels=True)
    for number, document in enumerate(block.documents):
        example = block[number]
        completion = example.tokens[example.prompt_length :]
        if number < 5:
            check(task, document)
        assert task.is_correct(document) and task.score(None, example, completion) == {"correct": 1.0}
        wrong = completion.copy()
        wrong[draw.integers(len(wrong))] += 1 + draw.integers(size - 1)
        wrong %= size
        assert task.score(None, example, wrong) == {"correct": 0.0}
        assert not task.is_correct(np.concatenate([example.prompt, wrong]))
        assert task.score(None, example, completion[:-1]) == {"correct": 0.0}
        fault = faulty(task, document, draw)
        assert fault is None or not task.is_correct(fault)


def faulty(task: Depo, document: np.ndarray, draw: np.random.Generator) -> np.ndarray | None:
    """The document with another node for an answer, an edge told twice or left out, or two cycles; None if it cannot
    be so."""
    edges, questions = task.parse(document)
    n, kind = len(edges), int(draw.integers(5))
    if kind == 0 and n > 1:
        k, node, said = questions[0]
        questions[0] = k, node, next(name for name, _ in edges if name != said)
    elif kind == 1:
        edges.append(edges[draw.integers(n)])
    elif kind == 2 and n > 1:
        edges.pop(draw.integers(n))
    elif kind == 3 and n > 1:
        (a, after_a), (b, after_b) = edges[0], edges[-1]
        edges[0], edges[-1] = (a, after_b), (b, after_a)
    elif kind == 4:
        questions.append((1, (task.num_inner_ids + 1,) * 9, edges[0][0]))
    else:
        return None
    flat = [token for edge in edges for name in edge for token in name]
    asked = [t for k, q, a in questions for t in (task.last_name_id + k, *q, task.answer_id, *a)]
    return np.array([0, *flat, *asked], np.int32)


def test_masks_and_labels_mark_the_answers() -> None:
    block = Corpus(SMALL, 0).documents(0, 200, labels=True)
    for i in range(len(block)):
        example = block[i]
        at = np.flatnonzero(example.tokens == SMALL.answer_id)
        for q, (begin, (k, _, said)) in enumerate(zip(at, SMALL.parse(example.tokens)[1], strict=True)):
            span = slice(begin + 1, begin + 1 + len(said))
            assert (example.labels["answer"][span] == q).all() and (example.labels["difficulty"][span] == k).all()
            assert example.loss_mask[begin : span.stop].all()
        assert (example.labels["answer"] >= 0).sum() == example.loss_mask.sum() - len(at)
        assert ((example.labels["answer"] >= 0) == (example.labels["difficulty"] >= 0)).all()
        assert example.prompt_length == at[-1] + 1 and example.slices["hops"] == k


@pytest.mark.parametrize(
    ("name", "alphabet", "hard", "train"),
    [
        ("depo1-225", 50, 859, 277), ("depo1-300", 50, 1158, 355), ("depo1-375", 50, 1459, 428),
        ("depo2-75", 3, 1045, 463), ("depo2-100", 3, 1344, 559), ("depo2-125", 3, 1649, 641),
    ],
)  # fmt: skip
def test_lengths_at_the_paper_s_sizes(name: str, alphabet: int, hard: float, train: float) -> None:
    """The fact sheet's own means came from a few thousand documents, so the allowance is for their noise."""
    task = get_task(name, alphabet=alphabet)
    assert task.hardest().sample_block(None, rng(1), "test", 1000).lengths.mean() == pytest.approx(hard, rel=0.004)
    assert task.sample_block(None, rng(1), "train", 10_000).lengths.mean() == pytest.approx(train, rel=0.035)


def test_sizes_hops_and_names_are_drawn_as_in_the_paper() -> None:
    task = get_task("depo1-225")
    assert task.node_count_probabilities @ np.arange(3, 226) == pytest.approx(70, abs=0.5)
    block = task.sample_block(None, rng(2), "train", 20_000, labels=True)
    n = block.slices["nodes"]
    assert n.min() >= 3 and n.max() <= 225
    assert np.mean(n > 0.9 * 225) == pytest.approx(0.04, abs=0.005)
    counts = np.bincount(n, minlength=226)[3:]
    expected = task.node_count_probabilities * len(n)
    assert ((counts - expected) ** 2 / expected).sum() < 222 + 3.3 * np.sqrt(2 * 222)
    hops = np.bincount(block.slices["hops"])[1:]
    assert len(hops) == 8 and ((hops - 2500) ** 2 / 2500).sum() < 24.4  # chi-square, 7 degrees, p = 0.001


def test_the_length_of_a_name_tells_nothing_of_its_neighbour() -> None:
    """Of 225 names nearly all 49 short ones are drawn early: along the cycle that must not show."""
    task = get_task("depo1-225").hardest()
    pairs = np.array([
        [len(a), len(b)]
        for document in task.sample_block(None, rng(3), "test", 100).documents
        for a, b in task.parse(document)[0]
    ])  # fmt: skip
    assert abs(np.corrcoef(pairs.T)[0, 1]) < 4 / np.sqrt(len(pairs))


def test_floors_are_what_a_blind_guess_scores() -> None:
    task, draw, right = Depo(nodes=5, hops=5, alphabet=9), np.random.default_rng(0), []
    for document in task.sample_block(None, rng(4), "test", 4000).documents:
        edges, questions = task.parse(document)
        k, node, said = questions[-1]
        others = [name for name, _ in edges if name != node]
        right.append(said == (node if k % len(edges) == 0 else others[draw.integers(len(others))]))
    floor = task.floors(None)["correct"]
    assert np.mean(right) == pytest.approx(floor, abs=4 * np.sqrt(floor * (1 - floor) / 4000))
    assert get_task("depo1-225").hardest().floors(None)["correct"] == pytest.approx(1 / 224)


def test_hardest_and_names_of_one_token() -> None:
    task = Depo(nodes=12, longest=1, alphabet=12)
    assert task.vocab().size == 3 + 12 + 4 + 1 and task.hardest().vocab() == task.vocab()
    block = task.hardest().sample_block(None, rng(5), "test", 50)
    assert (block.slices["nodes"] == 12).all() and (block.lengths == 1 + 24 + 10 * 4).all()
    assert set(block.documents[0][1:25].tolist()) == set(range(1, 13))


def test_speed() -> None:
    """At least 20,000 documents a second at a small size; measured 800,000."""
    Depo().sample_block(None, rng(6), "train", 10)
    start = process_time()  # other processes do not count
    Depo().sample_block(None, rng(6), "train", 10_000)
    assert process_time() - start < 0.5


def test_golden() -> None:
    found = []
    for task in (SMALL, replace(SMALL, longest=1, alphabet=9), get_task("depo2-75")):
        block = Corpus(task, 3).documents(0, 300, labels=True)
        found.append(digest([block.tokens.tolist(), *(v.tolist() for v in block.labels.values())], 8))
    assert found == ["2f64722f7826a39a", "7d6d4fc0e0504993", "4fefc1cc227df6f7"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"nodes": 2}, "raise nodes or lower least"),
        ({"hops": 0}, "at least 1"),
        ({"longest": 0}, "below shortest"),
        ({"alphabet": 2, "longest": 1}, "enlarge the alphabet"),
        ({"longest": 30}, "shorten"),
    ],
)
def test_bad_fields(values: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Depo(**values)
