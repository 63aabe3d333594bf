"""bioD: the definition to the letter, exact bits, labels that add up, people that larger worlds keep."""

from dataclasses import replace
from math import log2

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synth import Corpus, UserError
from synth.bio.world import NAME_PART, VALUE_PART, sample_distinct_rows
from synth.identity import digest
from synth.random.rng import bounded_integers, random_uint64
from synth.tasks.biod import BioD

SMALL = BioD(people=9, kinds=3, chunks=2, set_size=5, length=2, alphabet=4, name_length=2, name_alphabet=4)


@st.composite
def tasks(draw) -> BioD:
    length, alphabet = draw(st.integers(1, 3)), draw(st.integers(1, 5))
    name_length, name_alphabet = draw(st.integers(1, 3)), draw(st.integers(2, 5))
    return BioD(
        people=draw(st.integers(1, name_alphabet**name_length)),
        kinds=draw(st.integers(1, 4)),
        chunks=draw(st.integers(1, 3)),
        set_size=draw(st.integers(1, alphabet**length)),
        length=length,
        alphabet=alphabet,
        name_length=name_length,
        name_alphabet=name_alphabet,
        permute=draw(st.booleans()),
    )


@settings(max_examples=60, deadline=None)
@given(tasks(), st.integers(0, 3))
def test_the_definition(task: BioD, seed: int) -> None:
    """Distinct names, D distinct strings an attribute, and documents that say what the world holds."""
    world = task.world(seed)
    assert world.names.shape == (task.people, task.name_length) and len(world.person) == task.people
    assert world.values.shape == (task.people, task.kinds, task.chunks) and world.values.max() < task.set_size
    assert world.strings.shape == (task.kinds, task.set_size, task.length)
    assert all(len({tuple(s) for s in strings.tolist()}) == task.set_size for strings in world.strings)
    items = np.arange(task.people)
    block = task.render_block(world, items, items % 3, ("t",), "train", labels=True)
    assert (block.lengths == task.document_length).all()
    for i in range(min(task.people, 5)):
        person, said = task.parse(world, block[i].tokens)
        assert person == i and len(said) == task.kinds
        for k, value in said.items():
            assert value == tuple(world.strings[k, world.values[i, k]].ravel().tolist())


@settings(max_examples=30, deadline=None)
@given(tasks())
def test_labels_say_where_names_values_and_first_chunks_are(task: BioD) -> None:
    world = task.world(0)
    block = task.render_block(world, np.arange(task.people), np.zeros(task.people, int), ("t",), "train", labels=True)
    for i in range(min(task.people, 5)):
        example = block[i]
        part, attribute, chunk = (example.labels[name] for name in ("part", "attribute", "chunk"))
        assert np.array_equal(example.tokens[part == NAME_PART] - 1, world.names[i])
        assert np.array_equal(part == VALUE_PART, attribute >= 0) and np.array_equal(part == VALUE_PART, chunk >= 0)
        for k in range(task.kinds):
            for c in range(task.chunks):
                inside = example.tokens[(attribute == k) & (chunk == c)] - 1
                assert np.array_equal(inside, world.strings[k, world.values[i, k, c]])


def test_bits_by_hand() -> None:
    """N=9, N0=16, K=3, C=2, D=5, T^L=16, worked out from Part 3.3's formula."""
    facts = SMALL.information_content()
    assert facts.name_bits == pytest.approx(9 * log2(16 / 9), rel=1e-12)
    assert facts.value_bits == pytest.approx(9 * 3 * 2 * log2(5), rel=1e-12)
    assert facts.diversity_bits == pytest.approx(3 * 5 * log2(16 / 5), rel=1e-12)
    assert facts.bits == pytest.approx(7.470675 + 125.384116 + 25.171079, abs=1e-5)


def test_larger_worlds_keep_their_people() -> None:
    few, many = replace(SMALL, people=4).world(1), SMALL.world(1)
    assert np.array_equal(few.names, many.names[:4]) and np.array_equal(few.values, many.values[:4])
    assert np.array_equal(few.strings, many.strings)


@pytest.mark.parametrize("bounds", [(3, 4), (400, 400, 1000), (9,) * 30])
def test_distinct_draws(bounds: tuple[int, ...]) -> None:
    n = min(9000, int(np.prod(bounds, dtype=float)))
    rows = sample_distinct_rows(("t",), bounds, n)
    assert len({tuple(row) for row in rows.tolist()}) == n and (rows < bounds).all() and (rows >= 0).all()
    assert np.array_equal(sample_distinct_rows(("t",), bounds, n // 3), rows[: n // 3])
    assert not np.array_equal(sample_distinct_rows(("u",), bounds, n), rows)


def test_an_exposure_has_its_own_order_and_no_other_part_of_the_stream_matters() -> None:
    corpus = Corpus(SMALL, 0)
    again = SMALL.render_block(corpus.world, np.array([5, 2]), np.array([7, 0]), ("t",), "train")
    alone = SMALL.render_block(corpus.world, np.array([2]), np.array([0]), ("t",), "train")
    assert np.array_equal(again[1].tokens, alone[0].tokens)
    orders = {tuple(corpus.documents(9 * e, 9 * e + 9).tokens.tolist()) for e in range(4)}
    fixed = Corpus(replace(SMALL, permute=False), 0)
    same = {tuple(sorted(map(tuple, fixed.documents(9 * e, 9 * e + 9).tokens.reshape(9, -1).tolist()))) for e in (0, 1)}
    assert len(orders) == 4 and len(same) == 1


def test_words_are_uniform_and_do_not_depend_on_their_number() -> None:
    drawn = random_uint64(("t",), np.arange(4000), np.arange(4000) % 7, 5)
    assert np.array_equal(random_uint64(("t",), np.arange(4000)[10:], (np.arange(4000) % 7)[10:], 3), drawn[10:, :3])
    assert len(np.unique(drawn)) == drawn.size
    counts = np.bincount(bounded_integers(drawn, 10).ravel(), minlength=10)
    assert counts.sum() == 20_000 and ((counts - 2000) ** 2 / 2000).sum() < 28  # chi-square, 9 degrees, p = 0.001


def test_scores_what_is_right() -> None:
    corpus = Corpus(SMALL, 0)
    example = corpus.documents(0, 1)[0]
    rest = example.tokens[example.prompt_length :].copy()
    assert SMALL.score(corpus.world, example, rest) == {"value": 1.0}
    assert SMALL.score(corpus.world, None, example.tokens) == {"value": 1.0}
    rest[1] = rest[1] % 4 + 1
    assert SMALL.score(corpus.world, example, rest)["value"] == pytest.approx(2 / 3)
    assert SMALL.score(corpus.world, None, rest) == {"value": 0.0}


def test_golden() -> None:
    block = Corpus(SMALL, 3).documents(0, 300, labels=True)
    assert digest([block.tokens.tolist(), block.labels["chunk"].tolist()], 8) == "6aa3b269198b2802"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"set_size": 17}, "lower set_size"),
        ({"people": 17}, "enlarge the name pools"),
        ({"people": 0}, "at least 1"),
        ({"chunks": 0}, "chunks=0 must be at least 1"),
    ],
)
def test_bad_input(values: dict[str, int], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        replace(SMALL, **values)
    assert "\n" not in str(caught.value)
