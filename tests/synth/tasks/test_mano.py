"""Mano against arithmetic on the symbols' names, corrupted documents, exact floors and the paper's statistics."""

from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synth import Corpus, UserError, get_task
from synth.identity import digest
from synth.random.rng import rng
from synth.tasks.mano import Mano


@st.composite
def tasks(draw) -> Mano:
    ops = draw(st.integers(1, 18))
    operators = "".join(draw(st.lists(st.sampled_from("+-*"), min_size=1, unique=True)))
    return Mano(ops, draw(st.integers(1, ops)), draw(st.integers(2, 40)), operators, draw(st.booleans()))


@cache
def names_of(task: Mano) -> tuple[str, ...]:
    return task.vocab().names


def parsed(names: list[str], modulus: int) -> tuple[int, int, list[str]]:
    """Value and depth of the expression at the head of `names`, and the names after it; from the left, recursively."""
    head, rest = names[0].rstrip("'"), names[1:]
    if head not in "+-*":
        return int(head), 1, rest
    a, deep_a, rest = parsed(rest, modulus)
    b, deep_b, rest = parsed(rest, modulus)
    value = {"+": a + b, "-": a - b, "*": a * b}[head]
    return value % modulus, 1 + max(deep_a, deep_b), rest


def check(task: Mano, document: np.ndarray) -> int:
    """Asserts that every part of a document is right and returns the depth of its expression."""
    names = [names_of(task)[token] for token in document]
    value, depth, rest = parsed(names[2:], task.modulus)
    ops = sum(name.rstrip("'") in ("+", "-", "*") for name in names)
    assert names[1].rstrip("'") == f"len{ops}" and task.least <= ops <= task.ops and len(names) == 2 * ops + 5
    assert rest[0].rstrip("'") == (f"ans{ops}" if task.synonyms else "ans") and rest[1:] == [str(value)]
    return depth


@settings(max_examples=200, deadline=None)
@given(tasks(), st.integers(0, 2**32))
def test_answers_are_accepted_and_faults_are_not(task: Mano, seed: int) -> None:
    draw, size = rng("faults", seed), len(names_of(task))
    block = task.sample_block(None, draw, "test", 50)
    for number, document in enumerate(block.documents):
        example = block[number]
        if number < 10:
            check(task, document)
        assert task.is_correct(document) and task.score(None, example, document[-1:]) == {"correct": 1.0}
        wrong = document.copy()
        wrong[-1] = (wrong[-1] + 1 + draw.integers(size - 1)) % size
        assert not task.is_correct(wrong) and task.score(None, example, wrong[-1:]) == {"correct": 0.0}
        assert task.score(None, example, document[:0]) == {"correct": 0.0}
        assert not task.is_correct(np.delete(document, draw.integers(1, len(document))))
        at = draw.integers(1, len(document) - 1)
        changed = document.copy()
        changed[at] = draw.integers(0, size)
        assert task.is_correct(changed) == is_right(task, changed)


def is_right(task: Mano, document: np.ndarray) -> bool:
    try:
        check(task, document)
    except (AssertionError, IndexError, ValueError):  # int("ans") or no names left
        return False
    return True


def test_masks_and_labels() -> None:
    task = Mano()
    block = Corpus(task, 0).documents(0, 100, labels=True)
    for i in range(len(block)):
        example = block[i]
        assert example.prompt_length == len(example.tokens) - 1 == 2 * example.slices["ops"] + 4
        assert not example.loss_mask[0] and example.loss_mask[1:].all()
        assert example.labels["answer"].tolist() == [-1] * example.prompt_length + [0]
        assert (
            example.labels["difficulty"][-1] == example.slices["ops"] and (example.labels["difficulty"][:-1] < 0).all()
        )


@pytest.mark.parametrize(("ops", "depth"), [(10, 5.65), (13, 6.39), (16, 7.05)])
def test_depth_at_the_paper_s_sizes(ops: int, depth: float) -> None:
    task = get_task(f"mano-{ops}").hardest()
    depths = [check(task, document) for document in task.sample_block(None, rng(1), "test", 4000).documents]
    assert np.mean(depths) - 1 == pytest.approx(depth, abs=0.03 + 3 * np.std(depths) / np.sqrt(4000))


def test_everything_is_drawn_evenly() -> None:
    task = Mano(ops=4, modulus=7)
    block = task.sample_block(None, rng(2), "train", 30_000)
    counts = np.bincount(block.slices["ops"], minlength=5)[1:]
    assert ((counts - 7500) ** 2 / 7500).sum() < 16.3  # chi-square, 3 degrees, p = 0.001
    inside = np.ones(len(block.tokens), bool)
    inside[block.offsets[1:] - 1] = False  # answers
    used = np.bincount(block.tokens[inside], minlength=12)
    for first, last in ((1, 7), (8, 10)):
        found = used[first : last + 1]
        assert ((found - found.mean()) ** 2 / found.mean()).sum() < 22.5  # 6 degrees, p = 0.001
    left = [left_size(document[2:], task) for document in block.documents if len(document) == 13]
    counts = np.bincount(left)
    assert len(counts) == 4 and ((counts - counts.mean()) ** 2 / counts.mean()).sum() < 16.3


def left_size(expression: np.ndarray, task: Mano) -> int:
    """Operators in the left part of the first operator."""
    need, at = 1, 1
    while need:
        need += 1 if expression[at] > task.modulus else -1
        at += 1
    return (at - 2) // 2


def test_the_floor_of_answers() -> None:
    """Exact shares of values against counts; the paper's collapsed models sit at 7%, the share of zero at full size."""
    task = Mano(ops=6, least=6, modulus=5)
    block = task.sample_block(None, rng(3), "test", 40_000)
    shares = np.bincount(block.tokens[block.offsets[1:] - 1] - 1, minlength=5) / 40_000
    assert np.abs(shares - task.value_probabilities[6]).max() < 4 * 0.5 / 200
    assert task.floors(None)["correct"] == pytest.approx(shares.max(), abs=0.01) and shares.argmax() == 0
    assert get_task("mano-10").hardest().floors(None)["correct"] == pytest.approx(0.07, abs=0.002)
    assert Mano(operators="+").floors(None)["correct"] == pytest.approx(1 / 23)


def test_the_floor_of_the_loss() -> None:
    """One operator: nothing but three equally likely things; small ones: the entropy of counted documents."""
    assert Mano(ops=1).floors(None)["bits"] == pytest.approx(np.log2(3 * 23**2))
    for task in (Mano(ops=3, modulus=2, operators="+"), Mano(ops=2, modulus=2, operators="-", synonyms=True)):
        documents = task.sample_block(None, rng(4), "train", 100_000).documents
        _, counts = np.unique([document.tobytes() for document in documents], return_counts=True)
        shares = counts / counts.sum()
        bits = -(shares * np.log2(shares)).sum()  # too small by about (kinds - 1) / (2 n ln 2)
        assert task.floors(None)["bits"] == pytest.approx(bits + (len(counts) - 1) / 2e5 / np.log(2), abs=0.01)


def test_golden() -> None:
    found = []
    for task in (Mano(), Mano(ops=4, synonyms=True), get_task("mano-16")):
        block = Corpus(task, 3).documents(0, 300, labels=True)
        found.append(digest([block.tokens.tolist(), *(v.tolist() for v in block.labels.values())], 8))
    assert found == ["d52939c139f4b48f", "6af5710d4ea3b36e", "6a4b96b2716f72b2"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"ops": 0}, "between 1 and ops"),
        ({"least": 6}, "between 1 and ops"),
        ({"modulus": 1}, "modulus=1"),
        ({"operators": "+/"}, "each once"),
        ({"operators": "++"}, "each once"),
        ({"operators": ""}, "each once"),
    ],
)
def test_bad_fields(values: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Mano(**values)
