"""bioS and its questions: the paper's bits, facts that can be read back, variants, exposures, lists that collide."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synth import Corpus, UserError
from synth.bio.tables import FEMALE_PRONOUNS, MALE_PRONOUNS
from synth.bio.value_lists import ATTRIBUTES, FOLDER, load_value_lists
from synth.bio.world import NAME_PART, VALUE_PART
from synth.identity import digest
from synth.tasks.bioqa import BioQuestions
from synth.tasks.bios import BioS

TINY = BioS(people=12, first=5, middle=4, last=6, years=3, months=2, days=4, cities=4, universities=5, majors=3,
            employers=9, templates=2)  # fmt: skip
VARIANTS = st.fixed_dictionaries(
    {"wordings": st.integers(0, 5), "permute": st.integers(0, 3), "templates": st.integers(1, 48)},
    optional={"people": st.integers(1, 120)},
)
PROSE = {"style": "prose", "permute": 0}
STYLES = st.sampled_from(
    [{}, {"fullname": True}, {"reverse": 1}, {"reverse": 2}, {"reverse": 6}, PROSE, {**PROSE, "fullname": True}]
)


def text(task: BioS, document: np.ndarray) -> str:
    return " ".join(task.vocab().decode(document[1:-1]))


def test_the_papers_bits() -> None:
    """log2 S0 = 47.59 and N0 = 1.6e8, so 59.2 bits a person at N = 50K (Part 3.3, section 3)."""
    facts = BioS(people=50_000).information_content()
    assert facts.value_bits / 50_000 == pytest.approx(47.59, abs=5e-3)
    assert 2**facts.log2_names == pytest.approx(1.6e8)
    assert facts.bits / 50_000 == pytest.approx(59.2, abs=0.05)
    assert facts.diversity_bits == 0 and "employer city" not in facts.log2_values
    assert BioS(people=50_000, fullname=True).information_content().value_bits == pytest.approx(
        facts.value_bits - 50_000
    )


def test_the_papers_lists() -> None:
    pools = load_value_lists()
    sizes = [len(getattr(pools, name)) for name in ("first", "middle", "last", "cities", "universities", "majors")]
    assert sizes == [400, 400, 1000, 200, 300, 100] and len(pools.employers) == 263
    assert pools.employer_cities.count("New York, NY") == 36 and len(set(pools.employer_cities)) == 133
    assert all(len(found) >= 46 for found in pools.templates) and all(len(found) >= 4 for found in pools.questions)
    assert Corpus(BioS(), 0).vocab.size < 3275, "the paper's corpus uses 3,275 tokens"


@settings(max_examples=40, deadline=None)
@given(VARIANTS, STYLES, st.integers(0, 2))
def test_facts_and_spans_are_recovered_from_every_variant(variant: dict, style: dict, seed: int) -> None:
    task = replace(TINY, **{**variant, **style})
    world = task.world(seed)
    n = min(task.people, 6)
    block = task.render_block(world, np.arange(n), np.arange(n), ("t",), "train", labels=True)
    for i in range(n):
        example = block[i]
        truth = {a: task.value_ids(world, i, a) for a in range(6)}
        assert task.parse(world, example.tokens) == (i, truth)
        part, attribute = example.labels["part"], example.labels["attribute"]
        for a, ids in truth.items():
            assert tuple(example.tokens[attribute == a].tolist()) == ids
        names = [ids[number] for ids, number in zip(task.lexicon.names, world.names[i], strict=True)]
        assert example.tokens[part == NAME_PART].tolist() == names
        assert (attribute == 6).sum() == (0 if task.fullname else 1)
        assert np.array_equal(part == VALUE_PART, attribute >= 0)
        before = 0 if task.reverse else int(np.argmax(part == VALUE_PART))
        assert task.reverse or example.prompt_length <= before, "the name comes before every value"


def test_every_template_can_be_read_whoever_it_speaks_of() -> None:
    for style in ({}, {"fullname": True}, {"reverse": 1}, {"reverse": 6}, {"style": "prose"}):
        task = BioS(people=30, **style)
        corpus = Corpus(task, 0)
        block = corpus.documents(0, 256)
        for i in range(256):
            assert task.score(corpus.world, None, block[i].tokens) == {"facts": 1.0}


def test_larger_worlds_keep_their_people() -> None:
    few, many = replace(TINY, people=5).world(1), TINY.world(1)
    assert np.array_equal(few.names, many.names[:5]) and np.array_equal(few.values, many.values[:5])
    assert np.array_equal(few.genders, many.genders[:5])
    assert len({tuple(name) for name in many.names.tolist()}) == 12


def full_name(task: BioS, person: int) -> str:
    ids = [ids[k] for ids, k in zip(task.lexicon.names, task.world(0).names[person], strict=True)]
    return " ".join(task.vocab().decode(ids))


def documents(task: BioS, epochs: range, person: int) -> list[str]:
    corpus = Corpus(task, 0)
    found = []
    for epoch in epochs:
        block = corpus.documents(epoch * task.people, (epoch + 1) * task.people)
        found += [text(task, block[i].tokens) for i in np.flatnonzero(block.slices["person"] == person)]
    assert len(found) == len(epochs), "an epoch shows everybody once"
    return found


def test_wordings_take_turns() -> None:
    task = replace(TINY, templates=48)
    single = documents(replace(task, wordings=1), range(3), 4)
    multi = documents(replace(task, wordings=3), range(6), 4)
    fresh = documents(task, range(6), 4)
    assert len(set(single)) == 1 and len(set(multi)) == 3 and multi[:3] == multi[3:] and len(set(fresh)) == 6
    shuffled = documents(replace(task, wordings=1, permute=4), range(8), 4)
    assert shuffled[:4] == shuffled[4:] and len(set(shuffled)) > 1
    said = {
        *MALE_PRONOUNS,
        *FEMALE_PRONOUNS,
        "'s",
        *full_name(task, 4).split(),
    }  # who is named and who is he depends on the order
    assert len({tuple(sorted(word for word in entry.split() if word not in said)) for entry in shuffled}) == 1


def test_where_the_name_stands() -> None:
    def sentences(**style: object) -> list[str]:
        return documents(replace(TINY, **style), range(1), 3)[0].split(" . ")

    name = full_name(TINY, 3)
    assert [name in s for s in sentences()] == [True] + 5 * [False]
    assert all(name in s for s in sentences(fullname=True))
    assert [name in s for s in sentences(reverse=1)] == [False, True] + 4 * [False]
    assert [name in s for s in sentences(reverse=2)] == 2 * [False] + [True] + 3 * [False]
    assert [name in s for s in sentences(reverse=6)] == 6 * [False] + [True]
    assert sentences(reverse=6)[-1] == f"The person 's name is {name} ." and "person" in sentences(reverse=1)[0]


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 12), st.integers(3, 60), st.lists(st.integers(1, 6), min_size=1, max_size=5))
def test_exposures_are_exact(people: int, window: int, cuts: list[int]) -> None:
    """What a batch counts is who was trained on to the last token, whatever the window and the batch size."""
    task = replace(TINY, people=people)
    corpus = Corpus(task, 0, seq_len=window)
    cursor, counted, ends = corpus.start(), [], 0
    for rows in cuts:
        batch, cursor = corpus.batch(cursor, rows)
        counted += batch.item_ids.tolist()
        ends += int((batch.targets == corpus.vocab.eos).sum())
    assert counted == corpus.item_ids(0, ends).tolist()


def test_the_vocabulary_shrinks_with_the_lists() -> None:
    assert TINY.vocab().size < 150 < 2000 < BioS().vocab().size
    used = np.unique(Corpus(replace(TINY, people=120), 0).documents(0, 3000).tokens)
    assert len(used) == TINY.vocab().size - 1, "every token but the padding occurs"


@pytest.mark.parametrize("half", ["all", "first", "second"])
def test_questions(half: str) -> None:
    task = BioQuestions(people=11, half=half)
    corpus, bios = Corpus(task, 2), BioS(people=11, questions=4)
    assert bios.vocab() == task.vocab() and np.array_equal(bios.world(2).values, corpus.world.values)
    people, about = task.split_items(np.arange(corpus.num_items or 0))
    asked = {"all": range(11), "first": range(5), "second": range(5, 11)}[half]
    assert set(people.tolist()) == set(asked) and len(people) == 6 * len(asked)
    seen = set()
    block = corpus.documents(0, 256)
    for i in range(256):
        example = block[i]
        question = text(task, np.concatenate([example.prompt, [0]]))
        attribute = ATTRIBUTES.index(example.slices["attribute"])
        answer = example.tokens[example.prompt_length : -2]
        assert tuple(answer.tolist()) == task.value_ids(corpus.world, int(example.slices["person"]), attribute)
        assert question.endswith("? Answer :") and np.flatnonzero(example.loss_mask)[0] == example.prompt_length
        seen.add((attribute, question.split()[0], len(question.split())))
        assert task.score(corpus.world, example, np.array([*answer, 1]))["exact"] in (0.0, 1.0)
        assert task.score(corpus.world, example, answer)["exact"] == 0.0
    assert len(seen) > 12


def test_golden() -> None:
    found = []
    for task in (
        TINY,
        BioS(people=40, wordings=5, permute=1, fullname=True),
        BioQuestions(people=7),
        BioS(30, style="prose"),
    ):
        found.append(digest(Corpus(task, 3).documents(0, 300).tokens.tolist(), 8))
    assert found == ["30fccf1d84608c4e", "b90d081cb215ff30", "a8fa3685889a1678", "409c7c66124e8b4e"]


def change(tmp_path: Path, name: str, old: str, new: str) -> BioS:
    shutil.copytree(FOLDER, tmp_path, dirs_exist_ok=True)
    content = (tmp_path / name).read_text()
    assert old in content
    (tmp_path / name).write_text(content.replace(old, new))
    return BioS(pools=str(tmp_path))


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("majors.txt", "Physics", "Biology", "'Biology' stands 2 times; values must not collide"),
        ("cities.txt", "Reno, NV", "St . Louis, MO", "ends sentences"),
        ("first.txt", "Wade\n", "Mary Ann\n", "one token each"),
        ("employers.txt", " | New York, NY", "", "needs one city"),
        ("templates.txt", "{S} comes from {V} .", "From {V} comes {s} .", "one person, then one {V}"),
        ("templates.txt", "{S} comes from {V} .", "{S} works in {V} .", "again under"),
        ("templates.txt", "[major]", "[hobby]", "no attribute"),
        ("questions.txt", "Who employs {o} ?", "Who employs {o}", "'\\?' at the end"),
    ],
)
def test_lists_that_would_be_ambiguous(tmp_path: Path, name: str, old: str, new: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        change(tmp_path, name, old, new)
    assert "\n" not in str(caught.value)


def test_own_lists(tmp_path: Path) -> None:
    task = change(tmp_path, "majors.txt", "Physics", "Alchemy")
    assert "Alchemy" in task.vocab().symbols and "Physics" not in task.vocab().symbols


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"people": 121}, "more than the 120 names"),
        ({"cities": 201}, "cities=201 must be 1 to 200"),
        ({"templates": 0}, "templates=0 must be 1 to 48"),
        ({"questions": 5}, "questions=5 must be 0 to 4"),
        ({"days": 31}, "days=31 must be 1 to 28"),
        ({"reverse": 3}, "reverse must be"),
        ({"reverse": 1, "fullname": True}, "without fullname"),
        ({"style": "verse"}, "templates or prose"),
        ({"style": "prose", "permute": 1}, "orders of its own"),
        ({"wordings": -1}, "must not be negative"),
        ({"pools": "/nowhere"}, "cannot read the pool"),
    ],
)
def test_bad_input(values: dict, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        replace(TINY, **values)
    assert "\n" not in str(caught.value)


def test_bad_questions() -> None:
    with pytest.raises(UserError, match="at least 1 phrasing"):
        BioQuestions(questions=0)
    with pytest.raises(UserError, match="is empty"):
        BioQuestions(people=1, half="first")
    with pytest.raises(UserError, match="must be all, first or second"):
        BioQuestions(half="third")  # type: ignore[arg-type]
    task = BioQuestions(people=3)
    with pytest.raises(UserError, match="judged by its question"):
        task.score(task.world(0), None, np.array([1]))
