"""Brevo: the sampler against a naive one, its statistics against the fact sheet, the verifier against all orders."""

from dataclasses import replace
from itertools import permutations
from math import log

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synth import Corpus, UserError, get_task
from synth.commands.summary import format_example
from synth.identity import digest
from synth.random.dependency_graph import ANSWER_LENGTH, DEPTH, NUM_EDGES, GraphBatch
from synth.random.rng import rng
from synth.tasks.brevo import Brevo, Question, Word

SMALL, SPELT = Brevo(nodes=10), Brevo(nodes=9, alphabet=3, shortest=1, longest=3)
N = 4000


def drawn(task: Brevo, n: int = N, seed: int = 0) -> GraphBatch:
    return task._sample_graphs(rng("test", seed), n)


def naive(task: Brevo, draw: np.random.Generator) -> tuple[int, int, int, int]:
    """Edges, answer nodes, least distance to a leaf and parents of the asked node of one problem, told step by step."""
    sizes = np.arange(task.least, task.nodes + 1)
    weights = 1 / (sizes + np.sqrt(task.nodes))
    n = int(draw.choice(sizes, p=weights / weights.sum()))
    parents: dict[int, list[int]] = {}
    children = dict.fromkeys(range(n), 0)
    for node in range(draw.integers(1, (n - 1) // 4 + 2), n):
        free = [other for other in range(node) if children[other] < 4]
        parents[node] = draw.choice(free, draw.integers(1, min(4, len(free)) + 1), replace=False).tolist()
        for parent in parents[node]:
            children[parent] += 1
    asked = int(draw.integers(3 * n // 4, n))
    needed = {asked}
    for node in range(asked, -1, -1):
        needed |= set(parents.get(node, ())) if node in needed else set()

    def depth(node: int) -> int:
        return 1 + min(map(depth, parents[node])) if node in parents else 0

    return sum(map(len, parents.values())), len(needed), depth(asked), len(parents[asked])


def test_the_sampler_draws_as_the_naive_one() -> None:
    draw = rng("naive")
    slow = np.array([naive(SMALL, draw) for _ in range(N)])
    fast = drawn(SMALL).counts[:, [NUM_EDGES, ANSWER_LENGTH, DEPTH, 4]]
    for column in range(4):
        for value in range(1, 13):  # the whole distribution, not only its mean
            a, b = (slow[:, column] == value).mean(), (fast[:, column] == value).mean()
            assert abs(a - b) <= 4.5 * np.sqrt((a + b) / N) + 1e-3


@pytest.mark.parametrize(
    ("name", "edges", "answers", "answers_last"),
    [
        ("brevo1-70", 152, 25, 29), ("brevo1-90", 194, 30, 34), ("brevo1-110", 239, 34, 38),
        ("brevo2-30", 63, 15, 16), ("brevo2-40", 85, 18, 20), ("brevo2-50", 107, 21, 23),
    ],
)  # fmt: skip
def test_statistics_of_the_papers_sizes(name: str, edges: float, answers: float, answers_last: float) -> None:
    task = get_task(name).hardest()
    counts, last = drawn(task).counts, drawn(replace(task, last=True)).counts
    error = counts.std(axis=0) / np.sqrt(N)
    assert counts[:, NUM_EDGES].mean() == pytest.approx(
        edges, abs=0.8 + 4 * error[NUM_EDGES]
    )  # the sheet rounds to whole ones
    assert counts[:, ANSWER_LENGTH].mean() == pytest.approx(answers, abs=0.8 + 4 * error[ANSWER_LENGTH])
    assert last[:, ANSWER_LENGTH].mean() == pytest.approx(answers_last, abs=0.8 + 4 * error[ANSWER_LENGTH])


def test_depths_of_the_papers_largest_size() -> None:
    depth = drawn(replace(get_task("brevo1-110").hardest(), last=True)).counts[:, DEPTH]
    shares = [(depth == k).mean() for k in range(1, 6)]
    assert shares == pytest.approx([0.10, 0.38, 0.30, 0.14, 0.06], abs=0.005 + 4 * 0.008)


def test_documents_say_what_they_should() -> None:
    for task in (SMALL, SPELT):
        block, vocab = task.sample_block(None, rng("documents"), "train", 300, labels=True), task.vocab()
        counts = task._sample_graphs(rng("documents"), 300).counts
        for i in range(len(block)):
            example = block[i]
            question = task.parse(example.prompt)
            words = task.split_names(example.tokens[1:][example.tokens[1:] < task.query])
            assert question is not None and words is not None
            degrees = [len(parents) for parents in question.parents.values()]
            children = [sum(node in parents for parents in question.parents.values()) for node in question.nodes]
            assert max(degrees + children) <= 4 and sum(degrees) == counts[i, NUM_EDGES]
            assert (
                len(question.dependencies) == counts[i, ANSWER_LENGTH]
                and len(question.nodes) <= example.slices["nodes"]
            )
            answer, first = words[2 * sum(degrees) + 1 :], example.prompt_length
            assert answer[-1] == question.queried and example.tokens[first - 1] == task.query + 1
            assert example.tokens[-1] == vocab.eos and np.flatnonzero(example.loss_mask)[0] == first - 1
            assert example.loss_mask[first:].all() and not example.loss_mask[: first - 1].any()
            assert (example.labels["answer"] == np.where(np.arange(len(example.tokens)) < first, -1, 0)).all()
            assert set(example.labels["difficulty"][first:].tolist()) == {example.slices["depth"]}


# ---- the verifier ----------------------------------------------------------------------------------------------
def another_order(question: Question, draw: np.random.Generator) -> list[Word]:
    """A random valid order, from the leaves up."""
    order: list[Word] = []
    while left := question.dependencies - set(order):
        free = sorted(node for node in left if question.parents.get(node, set()) <= set(order))
        order.append(free[draw.integers(len(free))])
    return order


def flat(words: list[Word], *more: int) -> np.ndarray:
    return np.array([*(token for word in words for token in word), *more], np.int32)


def corrupted(task: Brevo, question: Question, order: list[Word], eos: int, draw: np.random.Generator) -> dict:
    """Answers that are wrong, each in one way."""
    at, to = int(draw.integers(len(order))), int(draw.integers(len(order) + 1))
    child = [word for word in order if word in question.parents]
    late = child[draw.integers(len(child))]
    parent = sorted(question.parents[late])[0]
    swapped = [{late: parent, parent: late}.get(word, word) for word in order]
    stranger = next(w for w in another_names(task, draw) if w not in question.nodes)
    needless = sorted(question.nodes - question.dependencies)
    found = {
        "repeated": flat([*order[:to], order[at], *order[to:]], eos),
        "missing": flat(order[:at] + order[at + 1 :], eos),
        "early": flat(swapped, eos),
        "foreign": flat([*order[:to], stranger, *order[to:]], eos),
        "exchanged": flat([*order[:at], stranger, *order[at + 1 :]], eos),
        "after the end": flat(order, eos, *order[at]),
        "two ends": flat(order, eos, eos),
        "mark inside": np.insert(flat(order, eos), 0, draw.choice([0, task.query, task.query + 1, eos, eos + 1, -1])),
        "nothing": flat([]),
        "only the end": flat([], eos),
    }
    if needless:
        found["needless"] = flat([*order[:to], needless[draw.integers(len(needless))], *order[to:]], eos)
    if task.num_inner_ids:
        found["cut short"] = flat([*order, (1,)], eos)
        found["cut at the end"] = flat(order)[:-1]
    return found


def another_names(task: Brevo, draw: np.random.Generator):
    while True:
        sizes = draw.integers(task.shortest, task.longest + 1)
        word = draw.integers(1, task.alphabet_size + 1, sizes)
        word[-1] += task.num_inner_ids
        yield tuple(word.tolist())


# 70 times 50 documents, with three right answers and about eleven wrong ones each: 10,500 and 38,000 cases
@settings(max_examples=70, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([Brevo(nodes=10, alphabet=14), SPELT, Brevo(nodes=24, alphabet=30)]))
def test_valid_orders_are_accepted_and_all_others_refused(seed: int, task: Brevo) -> None:
    draw, eos = rng("orders", seed), task.vocab().eos
    block = task.sample_block(None, rng("property", seed), "test", 50)
    for i in range(len(block)):
        example = block[i]
        question = task.parse(example.prompt)
        assert question is not None
        order = another_order(question, draw)
        for right in (example.tokens[example.prompt_length :], flat(order, eos), flat(order)):
            assert task.score(None, example, right) == {"correct": 1.0}
        for fault, wrong in corrupted(task, question, order, eos, draw).items():
            assert task.score(None, example, wrong) == {"correct": 0.0}, fault


def test_the_verifier_accepts_exactly_the_orders_that_exist() -> None:
    """All arrangements of all subsets of up to five nodes."""
    task = Brevo(nodes=5)
    block = task.sample_block(None, rng("few"), "test", 60)
    for i in range(len(block)):
        question = task.parse(block[i].prompt)
        assert question is not None
        for size in range(6):
            for order in permutations(range(1, 6), size):
                words = [(node,) for node in order]
                place = {word: at for at, word in enumerate(words)}
                valid = set(words) == question.dependencies and all(
                    place[parent] < place[word] for word in words for parent in question.parents.get(word, ())
                )
                assert task.score(None, block[i], np.array(order, np.int32))["correct"] == valid


def test_detail_names_the_fault() -> None:
    """By hand: 1 -> 2 -> 4, 1 -> 3, 3 -> 5; 4 needs 1 and 2."""
    task = Brevo(nodes=6)
    names = task.vocab()
    prompt = "<bos> 2 4 1 2 3 5 1 3 query 4 ans".split()

    def told(answer: str) -> dict:
        return task.detail(None, None, names.encode([*prompt, *answer.split()]))

    assert told("1 2 4 <eos>") == {
        "correct": True, "readable": True, "finished": True, "needed": ["1", "2", "4"],
        "missing": [], "repeated": [], "needless": [], "foreign": [], "early": [],
    }  # fmt: skip
    assert told("1 2 4")["correct"] and not told("1 2 4")["finished"]
    found = told("2 1 3 6 2")
    assert not found["correct"] and found["early"] == ["2", "2"] and found["needless"] == ["3"]
    assert found["foreign"] == ["6"] and found["repeated"] == ["2"] and found["missing"] == ["4"]
    assert told("1 <eos> 2 4") == {"correct": False, "readable": False, "finished": False}
    for broken in (prompt[:-1], [*prompt[:3], *prompt[4:]], [*prompt[:-2], "ans"], ["1", "2", "4"]):
        assert task.score(None, None, names.encode([*broken, "1", "2", "4"])) == {"correct": 0.0}


# ---- floors ----------------------------------------------------------------------------------------------------
def order_entropy(question: Question) -> float:
    """Entropy in nats of the order that random pops give: the exact sum over all sets that can have been popped."""
    known: dict[frozenset[Word], float] = {}

    def rest(popped: frozenset[Word]) -> float:
        if popped == question.dependencies:
            return 0.0
        if popped not in known:
            left = question.dependencies - popped
            held = set[Word]().union(*(question.parents.get(word, set()) for word in left))
            free = left - held
            known[popped] = log(len(free)) + sum(rest(popped | {word}) for word in free) / len(free)
        return known[popped]

    return rest(frozenset())


def test_the_loss_floor_is_the_entropy_of_the_order() -> None:
    task = Brevo(nodes=10, least=10)
    block, found = task.sample_block(None, rng("test", 0), "train", 1000), drawn(task, 1000)
    exact = np.array([order_entropy(task.parse(block[i].prompt)) for i in range(len(block))])  # type: ignore[arg-type]
    gap = found.surprisal - exact
    assert abs(gap.mean()) < 4 * gap.std() / np.sqrt(len(gap)) and gap.std() > 0.1
    trained = block.loss_mask.sum() / len(block)
    floors = task.floors(None)
    assert floors["loss"] == pytest.approx(exact.mean() / trained, abs=4 * floors["loss_error"] + 0.02)


def test_floors_by_hand() -> None:
    """Three nodes: the last one depends on both (1/2), on the leaf (1/4), or on the middle one (1/4). A guess names
    both others with 1/4, in the right order with half of that; only the leaf with 1/4."""
    floors = Brevo(nodes=3).floors(None)
    assert floors["loss"] == 0 and floors["loss_error"] == 0
    assert floors["correct"] == pytest.approx(3 / 4 / 8 + 1 / 4 / 4, abs=0.01)
    assert floors["direct"] == pytest.approx(1 / 2 / 2 + 1 / 4, abs=0.02)


def test_the_error_of_the_loss_floor() -> None:
    """What 1,000 documents give is as far from the floor as their error says."""
    task = Brevo(nodes=12)
    floors = task.floors(None)
    error = floors["loss_error"] * np.sqrt(4096 / 1000)
    means = []
    for seed in range(60):
        found = drawn(task, 1000, seed)
        means.append(found.surprisal.sum() / (np.diff(found.offsets) - found.prompt_lengths + 1).sum())
    assert np.std(means) == pytest.approx(error, rel=0.35)
    assert abs(np.mean(means) - floors["loss"]) < 4 * floors["loss_error"]


# ---- the rest --------------------------------------------------------------------------------------------------
def test_the_hardest_has_one_size_and_the_same_vocabulary() -> None:
    for name in ("brevo", "brevo1-70", "brevo2-30"):
        task = get_task(name)
        assert task.hardest().vocab() == task.vocab()
        assert set(Corpus(task.hardest(), 0).documents(0, 20).slices["nodes"]) == {task.nodes}


def test_names_fill_small_alphabets() -> None:
    """All six words of one or two of two letters, without hanging."""
    task = Brevo(nodes=6, least=6, alphabet=2, shortest=1, longest=2)
    example = task.sample(None, rng(0), "train")
    question = task.parse(example.prompt)
    assert question is not None and task.score(None, example, flat(another_order(question, rng(1))))["correct"]


@pytest.mark.parametrize(
    "fields",
    [
        {"least": 1}, {"nodes": 2}, {"shortest": 0}, {"longest": 2}, {"longest": 2, "shortest": 3, "alphabet": 4},
        {"alphabet": -1}, {"alphabet": 5}, {"nodes": 40, "alphabet": 2, "longest": 3},
        {"alphabet": 1000, "longest": 9},
    ],
)  # fmt: skip
def test_bad_fields_are_refused_in_one_line(fields: dict) -> None:
    with pytest.raises(UserError, match=r"^brevo: [^\n]+$"):
        Brevo(**fields)


def test_a_long_document_is_shown_by_both_its_ends() -> None:
    example = get_task("brevo1-70").hardest().sample(None, rng(0), "train")
    tokens, marks = format_example(get_task("brevo1-70"), example).splitlines()
    assert tokens.startswith("<bos> ") and f" ... {len(example.tokens) - 64} more ... " in tokens
    assert tokens.split()[-1] == "<eos>" and marks.rstrip().endswith("^") and len(tokens) == len(marks)


@pytest.mark.parametrize(
    ("task", "golden"),
    [(SMALL, "692486a2935e0135"), (SPELT, "805a8b3f3e0963e0"), (Brevo(nodes=20, last=True), "0202399adbbe28dc")],
    ids=["one", "spelt", "last"],
)
def test_golden_documents(task: Brevo, golden: str) -> None:
    """The same seed gives the same bytes for ever."""
    assert digest(Corpus(task, 3).documents(0, 300).tokens.tolist(), 8) == golden
