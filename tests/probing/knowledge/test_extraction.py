"""What is answered: planted models that know all, one half, or nobody; the worked example; batches against loops."""

from dataclasses import fields, replace
from math import log

import numpy as np
import pytest
import torch
from planted_people import SMALL, TASK, Filling, Planted

from experiments.harness.run import RESERVED_COLUMNS
from lm.config import ModelConfig, TrainConfig
from lm.inference.ablation import without_block
from lm.inference.sampling import generate
from lm.model import Decoder, build
from lm.training.loop import train
from probing.knowledge.extraction import Extraction, LayerDeletion, extraction_rows, first_questions
from probing.knowledge.qa_data import AnswerChoices, QuestionSet, answer_choices, make_question_task
from probing.knowledge.qa_scoring import argmax_or_tie, score_questions
from probing.scoring.closed_set import Trie, score_closed_set
from probing.scoring.likelihood import target_log_probabilities
from synth import get_task
from synth.corpus import Corpus
from synth.errors import UserError
from synth.tasks.bios import BioS

CODECS = ("word", "byte", "bpe:300")


def questions(half: str = "second", task: BioS = TASK) -> QuestionSet:
    return first_questions(Corpus(make_question_task(task, half), 0, "test"), None)


def lively(vocab_size: int, **changes: object) -> Decoder:
    """Of random weights large enough to have opinions."""
    return build(ModelConfig(2, 2, 16, max_seq_len=200, init_std=0.3, **changes), vocab_size, 1)  # type: ignore[arg-type]


def row(rows: list[dict], attribute: str = "all") -> dict:
    return next(found for found in rows if found["attribute"] == attribute)


def test_the_worked_example() -> None:
    """docs/knowledge.md: three people and three cities, Reno (1), New York (2 3) and New Haven (2 4); 5 is the stop."""
    cities = AnswerChoices(((1,), (2, 3), (2, 4)), np.full(3, 1 / 3), (5,))
    told = {6: (0.4, 0.6, 0.5, (1,)), 7: (0.3, 0.7, 0.6, (2, 3)), 8: (0.2, 0.8, 0.5, (2, 4))}
    after = {}
    for person, (reno, new, york, _) in told.items():
        for said, following in (((), {1: reno, 2: new}), ((2,), {3: york, 4: 1 - york})):
            after[np.array([person, *said]).tobytes()] = following
        for value in cities.values:
            after[np.array([person, *value]).tobytes()] = {5: 1.0}
    documents = [np.array([person, *true, 5]) for person, (*_, true) in told.items()]
    lengths = np.array([1, 2, 2])
    asked = QuestionSet(documents, np.ones(3, int), lengths, np.arange(3), np.zeros(3, int), (cities,))
    answers = score_questions(Planted(9, after), asked)
    assert answers.first_token_correct.tolist() == [False, True, True]
    assert answers.exact_match.tolist() == [False, True, False]
    assert answers.likeliest_value.tolist() == [0, 1, -1]
    assert answers.value_nats == pytest.approx([-log(0.4), -log(0.42), -log(0.4)], abs=1e-5)
    found = row(extraction_rows(asked, answers, 0))
    expected = {"first": 2 / 3, "exact": 1 / 3, "likeliest": 2 / 3, "chance": 1 / 3, "first_chance": 2 / 3}
    expected |= {"nats": 0.9, "nats_chance": log(3), "majority": 1 / 3}
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-3)


def test_who_knows_everything_is_always_right() -> None:
    model = Planted.of(TASK.vocab().size, [*questions("first").documents, *questions().documents])
    rows = Extraction().measure(model, TASK, 0)
    assert [found["attribute"] for found in rows] == ["all", *TASK.attributes[:6]]
    for found in rows:
        assert found["first"] == found["exact"] == found["likeliest"] == found["exact_low"] == 1
        assert found["nats"] < 1e-5 < found["nats_chance"] and found["chance"] <= found["majority"] < 1
        assert found["shuffled"] < 1 and found["persons"] == 6
    assert row(rows)["n"] == 36 and not {f.name for f in fields(Extraction)} & (RESERVED_COLUMNS | rows[0].keys())


def test_who_knows_the_taught_half_gets_no_credit_for_the_other() -> None:
    first, second = questions("first"), questions("second")
    assert not set(first.person_ids) & set(second.person_ids) and set(first.person_ids) | set(second.person_ids) == set(
        range(12)
    )
    model = Planted.of(TASK.vocab().size, first.documents)
    assert row(Extraction(half="first").measure(model, TASK, 0))["exact"] == 1
    found = row(Extraction().measure(model, TASK, 0))
    assert found["exact"] == found["first"] == 0 and found["likeliest"] <= 0.2


def test_who_always_gives_the_commonest_answer_scores_what_it_is_worth() -> None:
    """And the commonest city of employers is worth its number of employers, whoever works there."""
    asked = questions("all")
    most = [int(found.probabilities.argmax()) for found in asked.choices]
    parts = zip(asked.documents, asked.prompt_lengths, asked.attribute_ids, strict=True)
    documents = [[*d[:p], *asked.choices[a].values[most[a]], *asked.choices[a].full_stop] for d, p, a in parts]
    rows = Extraction(half="all").measure(Planted.of(TASK.vocab().size, map(np.array, documents)), TASK, 0)
    for a, name in enumerate(TASK.attributes[:6]):
        right = (asked.true_values[asked.attribute_ids == a] == most[a]).mean()
        assert row(rows, name)["exact"] == row(rows, name)["likeliest"] == pytest.approx(right)
        assert row(rows, name)["majority"] >= right
    cities = list(TASK.value_lists.employer_cities)
    assert row(rows, "employer city")["chance"] == max(map(cities.count, cities)) / 8
    assert answer_choices(BioS())[5].majority_accuracy == pytest.approx(
        0.137, abs=0.001
    )  # the paper's lists: 36 of 263 in one city
    assert row(rows, "major")["chance"] == 1 / 4 and row(rows)["chance"] == pytest.approx(TASK.chance_accuracy)


def test_ties_are_no_answer() -> None:
    scores = np.array([[-1.0, -2.0, -1.0], [-1.0, -0.5, -np.inf], [-3.0, -3.0 + 1e-6, -9.0]])
    assert argmax_or_tie(scores).tolist() == [-1, 1, -1]
    indifferent = score_questions(Planted(TASK.vocab().size, {}), questions())
    months = questions().attribute_ids == 0  # dates have four tokens each
    assert (indifferent.likeliest_value[months] == -1).all()


@pytest.mark.parametrize("codec", CODECS)
def test_prompt_and_answer_are_spelled_as_in_training(codec: str) -> None:
    task = replace(TASK, codec=codec)
    asked = questions(task=task)
    for i, document in enumerate(asked.documents):
        read = document[1 : asked.prompt_lengths[i]]
        text = " ".join(task.lexicon.vocab.decode(task.text_codec.decode(read) if task.text_codec else read))
        value = asked.choices[asked.attribute_ids[i]].values[asked.true_values[i]]
        spelled = [task.vocab().bos, *task.encode(text), *value, *task.encode("."), task.vocab().eos]
        assert spelled == document.tolist()
    assert asked.true_values.tolist() == questions().true_values.tolist()


@pytest.mark.parametrize(("codec", "positions"), [("word", "rotary"), ("word", "relative"), ("bpe:300", "learned")])
def test_likelihoods_equal_those_of_one_candidate_at_a_time(codec: str, positions: str) -> None:
    task = replace(TASK, codec=codec)
    asked = questions(task=task)
    model = lively(task.vocab().size, positions=positions)
    for about in (1, 2):
        rows = np.flatnonzero(asked.attribute_ids == about)[:4]
        prompts, candidates = (
            [asked.documents[i][: asked.prompt_lengths[i]] for i in rows],
            asked.choices[about].sequences,
        )
        found = score_closed_set(model, prompts, Trie.from_sequences(candidates))
        for prompt, scores in zip(prompts, found, strict=True):
            for candidate, score in zip(candidates, scores, strict=True):
                alone = target_log_probabilities(model, [np.array([*prompt, *candidate])])[0]
                assert score == pytest.approx(alone[-len(candidate) :].sum(dtype=float), abs=1e-5)
        few = score_closed_set(model, prompts, Trie.from_sequences(candidates), beam_nats=1e-3)
        assert np.isinf(few).any() and argmax_or_tie(few).tolist() == argmax_or_tie(found).tolist()


def test_a_value_that_begins_another_is_told_from_it() -> None:
    trie = Trie.from_sequences([(1, 9), (1, 2, 9), (3, 9), (1,)])
    found = score_closed_set(lively(10), [np.array([4, 5]), np.array([6])], trie)
    assert found.shape == (2, 4) and np.isfinite(found).all() and (found[:, 3] > found[:, 0]).all()


@pytest.mark.parametrize("causal", [True, False])
def test_batches_answer_as_single_questions_do(causal: bool) -> None:
    asked = questions()
    model = lively(TASK.vocab().size + (not causal), causal=causal)
    together = score_questions(model.train(), asked)
    assert model.training
    for i in range(0, 36, 5):
        alone = QuestionSet(
            asked.documents[i : i + 1], *(part[i : i + 1] for part in (asked.prompt_lengths, asked.value_lengths)),
            asked.person_ids[i : i + 1], asked.attribute_ids[i : i + 1], asked.choices,
        )  # fmt: skip
        one = score_questions(model, alone)
        assert (one.first_token_correct[0], one.exact_match[0], one.likeliest_value[0]) == (
            together.first_token_correct[i], together.exact_match[i], together.likeliest_value[i],
        )  # fmt: skip
        assert one.value_nats[0] == pytest.approx(together.value_nats[i], abs=1e-4)


def test_an_encoder_fills_in_what_it_does_not_see() -> None:
    asked, size = questions(), TASK.vocab().size
    known = {}
    for document, prompt, value in zip(asked.documents, asked.prompt_lengths, asked.value_lengths, strict=True):
        hidden = document.astype(np.int64)
        hidden[prompt : prompt + value] = size
        known[hidden.tobytes()] = document
    found = row(Extraction().measure(Filling(size + 1, known.get), TASK, 0))
    assert found["first"] == found["exact"] == found["likeliest"] == 1 and found["nats"] < 1e-5
    nobody = row(Extraction().measure(Filling(size + 1, lambda _: None), TASK, 0))
    assert nobody["exact"] == 0 and nobody["nats"] > log(size)


def test_without_a_block() -> None:
    model, tokens = lively(30), torch.arange(12)[None] % 30
    whole, rest = model(tokens), lively(30)
    del rest.blocks[0]
    asked, trie = [np.arange(5)], Trie.from_sequences([(1, 2, 3), (4, 5)])
    with without_block(model, 0):
        torch.testing.assert_close(model(tokens), rest(tokens))
        assert score_closed_set(model, asked, trie) == pytest.approx(score_closed_set(rest, asked, trie), abs=1e-5)
        with without_block(model, 1):
            torch.testing.assert_close(model(tokens), model.logits(model.embed(tokens)))
    assert torch.equal(model(tokens), whole) and not torch.allclose(rest(tokens), whole)
    with pytest.raises(ZeroDivisionError), without_block(model, 1):
        raise ZeroDivisionError
    assert torch.equal(model(tokens), whole)
    with (
        pytest.raises(UserError, match="^there is no block 2 to leave out; the model has 0 to 1$"),
        without_block(model, 2),
    ):
        pass


def test_trained_on_eight_people() -> None:
    """To the end: what is written token by token is what was counted, and no single block holds it all untouched."""
    task = BioS(**SMALL | {"people": 8, "questions": 1})
    model = build(ModelConfig(2, 2, 32, init_std=0.1), task.vocab().size, 0)
    train(model, make_question_task(task, "first"), TrainConfig(100, batch_size=8, seq_len=64, lr=1e-2), 0)
    rows = LayerDeletion(half="first").measure(model, task, 0)
    of = {found["without"]: found for found in rows if found["attribute"] == "all"}
    assert set(of) == {"nothing", "block.0", "block.1"}
    assert of["nothing"]["exact"] > 0.95 and of["nothing"]["likeliest"] > 0.95 > of["nothing"]["shuffled"] + 0.3
    assert min(of["block.0"]["exact"], of["block.1"]["exact"]) < of["nothing"]["exact"]
    asked = questions("all", task)
    answers = score_questions(model, asked)
    for document, prompt, exact in zip(asked.documents, asked.prompt_lengths, answers.exact_match, strict=True):
        room = int(len(document) - prompt - 1)
        written = generate(model, [document[:prompt]], room, temperature=0)[0]
        assert bool(exact) == (written.tolist() == document[prompt:-1].tolist())
    held_out = Extraction().measure(model, task, 0)
    assert row(held_out)["exact"] < 0.6 and Extraction().measure(model, task, 0) == held_out


def test_a_part_of_the_people_and_the_cost() -> None:
    found = Extraction(people=3, score_all_values=False).measure(lively(TASK.vocab().size), TASK, 0)
    assert row(found)["persons"] == 3 and row(found)["n"] == 18 and "likeliest" not in row(found)
    assert 0 < Extraction(people=3).tokens(TASK) < Extraction().tokens(TASK) < Extraction(half="all").tokens(TASK)
    assert LayerDeletion().tokens(TASK) > Extraction().tokens(TASK)
    assert [len(found.values) for found in answer_choices(TASK)][:5] == [16, 8, 8, 4, 8]


def test_what_cannot_be_asked_is_named() -> None:
    other = lively(TASK.vocab().size + 1)
    with pytest.raises(UserError, match=r"^the model has \d+ tokens and bioS-qa needs \d+; use the people"):
        Extraction().measure(other, TASK, 0)
    with pytest.raises(UserError, match="bioD is not about the people of bioS"):
        Extraction().measure(other, get_task("bioD", people=40), 0)
    with pytest.raises(UserError, match="^the vocabulary has no words for questions; pretrain"):
        Extraction().measure(other, get_task("bioS", people=40), 0)
    with pytest.raises(UserError, match="at least 2"):
        LayerDeletion(people=1)
    with pytest.raises(UserError, match="needs a causal model"):
        score_closed_set(lively(30, causal=False), [np.arange(3)], Trie.from_sequences([(1,)]))
