"""Junk beside useful people: how much, who is in it, what stands in front of whom, and who is measured."""

from collections import Counter, defaultdict
from dataclasses import fields, replace
from math import log

import numpy as np
import pytest
import torch

from lm.config import ModelConfig
from lm.model import Decoder, build
from probing.capacity.bits_per_parameter import Capacity, QuantizedCapacity, first_documents
from probing.capacity.fact_losses import nats_per_document
from probing.scoring.likelihood import target_log_probabilities
from synth import Corpus, Task, UserError, get_task
from synth.identity import digest
from synth.random.rng import random_uint64
from synth.tasks.biod import BioD
from synth.tasks.bios import BioS
from synth.tasks.junk import Junk, JunkD, JunkS, free_names

D = JunkD(people=9, kinds=3, chunks=2, set_size=5, length=2, alphabet=4, name_length=2, name_alphabet=4, junk=3)
S = JunkS(people=20, junk=3, first=4, middle=3, last=5, cities=9, universities=5, majors=4, employers=6, templates=3)
FORMS = [
    replace(task, **values)
    for task in (D, S)
    for values in ({}, {"token": True}, {"junk_people": 6}, {"junk_people": 6, "token": True})
]
FORMS += [replace(S, codec="byte", token=True), replace(S, reverse=6, token=True), replace(S, style="prose")]


def name_of(task: Junk) -> str:
    plain = D if isinstance(task, JunkD) else S
    changed = [
        f"{f.name}={getattr(task, f.name)}" for f in fields(task) if getattr(task, f.name) != getattr(plain, f.name)
    ]
    return "-".join([task.name, *changed])


over_forms = pytest.mark.parametrize("task", FORMS, ids=name_of)


@over_forms
def test_an_epoch_has_everybody_once_and_junk_times_as_much_junk(task: Junk) -> None:
    corpus, n = Corpus(task, 3), task.people
    assert corpus.num_items == 4 * n
    for epoch in range(3):
        block = corpus.documents(epoch * 4 * n, (epoch + 1) * 4 * n)
        useful = block.slices["useful"] == 1
        assert useful.sum() == n and sorted(block.slices["person"][useful].tolist()) == list(range(n))
        for i in range(len(block)):
            person, said = task.parse(corpus.world, block[i].tokens)
            assert person == (block.slices["person"][i] if useful[i] else None) and len(said) >= 3
    share = block.lengths[~useful].sum() / block.lengths.sum()
    assert share == pytest.approx(3 / 4, abs=0.03)


def test_seven_parts_of_eight_are_junk() -> None:
    block = Corpus(JunkD(people=300), 0).documents(0, 2400)
    assert block.lengths[block.slices["useful"] == 0].sum() / len(block.tokens) == 7 / 8


@pytest.mark.parametrize("packing", ["cut", "whole"])
def test_exposures_are_exact(packing: str) -> None:
    corpus = Corpus(replace(D, token=True), 0, seq_len=40, packing=packing)
    cursor, seen = corpus.start(), np.zeros(corpus.num_items, int)
    while cursor.document < 5 * corpus.num_items:
        batch, cursor = corpus.batch(cursor, 1)
        seen += np.bincount(batch.item_ids, minlength=len(seen))
    whole = Counter(corpus.item_ids(0, int(seen.sum())).tolist())
    assert [whole[i] for i in range(corpus.num_items)] == seen.tolist() and set(seen.tolist()) <= {5, 6}


@pytest.mark.parametrize("task", [D, S])
def test_junk_has_every_name_that_is_free_and_no_other(task: Junk) -> None:
    corpus, names = Corpus(task, 1), defaultdict(set)
    block = corpus.documents(0, 2000, labels=True)
    for i in range(len(block)):
        name = block[i].tokens[block[i].labels["part"] == 1]
        names[int(block.slices["useful"][i])].add(tuple(name.tolist()))
    assert not names[0] & names[1] and len(names[1]) == task.people
    assert len(names[0]) == task.num_names - task.people


def test_unused_numbers_are_uniform() -> None:
    taken = np.array([0, 1, 4, 7, 9])
    drawn = free_names(random_uint64(("t",), np.arange(5000), np.arange(5000), 1)[:, 0], taken - np.arange(5), 10)
    counts = np.bincount(drawn, minlength=10)
    assert (counts[taken] == 0).all()
    assert ((counts[[2, 3, 5, 6, 8]] - 1000) ** 2 / 1000).sum() < 18.5  # chi-square, 4 degrees, p = 0.001


@pytest.mark.parametrize("task", [D, S])
def test_fresh_people_have_fresh_values(task: Junk) -> None:
    """All values of the lists occur in junk, and one name comes with many: it is never the same person again."""
    corpus, told = Corpus(task, 1), defaultdict(set)
    block = corpus.documents(0, 1500, labels=True)
    for i in np.flatnonzero(block.slices["useful"] == 0):
        said = task.parse(corpus.world, block[int(i)].tokens)[1]
        told["all"].add(tuple(sorted(said.items())))
        for attribute, value in said.items():
            told[attribute].add(value)
    junk = int((block.slices["useful"] == 0).sum())
    assert len(told["all"]) > 0.95 * junk
    sizes = [5**2] * 3 if task is D else [9, 5, 4, 6]
    assert [len(told[a]) for a in (range(3) if task is D else range(1, 5))] == sizes


@pytest.mark.parametrize("task", [D, S])
def test_a_pool_takes_turns_and_repeats_its_facts(task: Junk) -> None:
    task = replace(task, junk_people=6)
    corpus, told, times, texts = Corpus(task, 2), defaultdict(set), Counter(), set()
    block = corpus.documents(0, 4 * task.people * 4)
    larger = corpus.world.all_people
    for i in np.flatnonzero(block.slices["useful"] == 0):
        person, text = int(block.slices["person"][i]), block[int(i)].tokens
        told[person].add(tuple(sorted(task.parse(corpus.world, text)[1].items())))
        assert task.useful.parse(larger, text)[0] == person
        times[person] += 1
        texts.add(text.tobytes())
    assert sorted(told) == list(range(task.people, task.people + 6)) and all(len(said) == 1 for said in told.values())
    assert set(times.values()) == {4 * task.people * 3 // 6} and len(texts) > 2 * 6  # the same facts, in other words


@over_forms
def test_documents_are_known_by_their_number(task: Junk) -> None:
    corpus = Corpus(task, 3)
    block = corpus.documents(0, 300, labels=True)
    items, epochs = corpus.item_ids(0, 300), np.arange(300) // corpus.num_items
    some = np.array([299, 5, 70, 5])
    again = Corpus(task, 3).render_items(items[some], epochs[some], labels=True)
    for i, number in enumerate(some.tolist()):
        assert np.array_equal(again[i].tokens, block[number].tokens)
        assert all(np.array_equal(again[i].labels[k], block[number].labels[k]) for k in again.labels)


@pytest.mark.parametrize("task", [D, replace(S, codec="byte"), S])
def test_the_token_stands_in_front_of_the_useful_only(task: Junk) -> None:
    with_token = replace(task, token=True)
    assert with_token.vocab().symbols == (*task.vocab().symbols, "<useful>")
    assert task.vocab() == task.useful.vocab()
    corpus = Corpus(with_token, 3)
    items = np.arange(corpus.num_items)
    block = corpus.render_items(items, items * 0, labels=True)
    plain = task.render_block(corpus.world, items, items * 0, corpus._stream, "train", labels=True)
    token, eos = corpus.vocab.index["<useful>"], corpus.vocab.eos
    for i in items.tolist():
        ours, theirs, shift = block[i], plain[i], int(i < task.people)
        assert ours.tokens[:2].tolist() == [0, token] if shift else token not in ours.tokens
        rest = slice(1 + shift, -1)
        assert np.array_equal(ours.tokens[rest], theirs.tokens[1:-1]) and ours.tokens[-1] == eos
        assert ours.prompt_length == theirs.prompt_length + shift and ours.loss_mask[1:].all()
        assert all(np.array_equal(ours.labels[k][rest], theirs.labels[k][1:-1]) for k in theirs.labels)
        assert not shift or ours.labels["part"][1] == 0 and ours.labels["attribute"][1] == -1


def test_useful_people_are_those_of_the_plain_world() -> None:
    ours, plain = D.world(5), D.useful.world(5)
    assert type(D.useful) is BioD and np.array_equal(ours.names, plain.names)
    assert np.array_equal(ours.values, plain.values) and np.array_equal(ours.strings, plain.strings)
    assert D.information_content(None) == D.useful.information_content(None) and S.information_content(
        None
    ) == S.useful.information_content(None)
    assert D.attributes == D.useful.attributes and S.implied == BioS.implied


def test_junk_is_judged_by_what_it_says() -> None:
    corpus = Corpus(D, 0)
    block = corpus.documents(0, 8)
    example = block[int(np.flatnonzero(block.slices["useful"] == 0)[0])]
    rest = example.tokens[example.prompt_length :].copy()
    assert D.score(corpus.world, example, rest) == {"value": 1.0}
    rest[1] = rest[1] % 4 + 1
    assert D.score(corpus.world, example, rest)["value"] == pytest.approx(2 / 3)
    assert D.score(corpus.world, None, example.tokens) == {"value": 0.0}


def test_the_floor_of_the_loss_by_hand() -> None:
    """bioD of 3 attributes in any order, 15 targets: 9 people of 16 names, 3 junk documents for each useful one."""
    which, order, values = 2 * log(2) - 0.75 * log(3), log(6), 3 * 2 * log(5)
    size = 2 + 2 + 3 * 5 - 1
    fresh = which + order + (log(9) + 3 * (log(7) + values)) / 4
    assert D.floors(D.world(0))["loss"] == pytest.approx(fresh / size)
    pool = replace(D, junk_people=5, token=True)
    known = which + order + (log(9) + 3 * log(5)) / 4
    assert pool.floors(pool.world(0))["loss"] == pytest.approx(known / (size + 0.25))
    assert pool.floors(pool.world(0))["bits"] == D.useful.information_content().bits


class Oracle(Decoder):
    """After any prefix, the distribution of the documents it was given, and nothing after any other prefix."""

    def __init__(self, documents: list[np.ndarray], vocab_size: int) -> None:
        super().__init__(ModelConfig(1, 1, 2, mlp="none"), vocab_size)
        self.after: dict[bytes, Counter] = defaultdict(Counter)
        for document in documents:
            for t in range(1, len(document)):
                self.after[document[:t].astype(np.int64).tobytes()][int(document[t])] += 1

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        found = torch.zeros((*inputs.shape, self.vocab_size))
        for i, row in enumerate(inputs.numpy()):
            for t in range(len(row)):
                if counts := self.after.get(row[: t + 1].tobytes()):
                    found[i, t] = -1e4
                    for token, count in counts.items():
                        found[i, t, token] = log(count / counts.total())
        return found


@pytest.mark.filterwarnings("ignore::probing.capacity.bits_per_parameter.CapacityWarning")
@pytest.mark.parametrize("task", [replace(D, permute=False), replace(D, token=True, junk_people=4), S])
def test_capacity_is_that_of_useful_people(task: Junk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that knows the useful documents and nothing else reaches R_max; one that knows the junk holds nothing."""
    monkeypatch.setattr("probing.capacity.bits_per_parameter.CHUNK_DOCUMENTS", 4)
    corpus = Corpus(task, 0)
    items = np.arange(corpus.num_items)
    block = corpus.render_items(items, 0 * items)
    documents = [block[i].tokens for i in items.tolist()]
    useful, junk = (Oracle(part, corpus.vocab.size) for part in (documents[: task.people], documents[task.people :]))
    exposures = np.where(items < task.people, 7, 99)
    row = Capacity().measure(useful, task, 0, exposures=exposures)
    assert (
        row["bits_max"] == pytest.approx(task.useful.information_content(None).bits)
        and row["people_read"] == task.people
    )
    assert row["r_share"] == pytest.approx(1, abs=1e-4) and row["exposures_max"] == row["exposures"] == 7
    assert Capacity().measure(junk, task, 0)["r_share"] < 0.2


@pytest.mark.parametrize("task", [D, replace(S, token=True)])
def test_useful_people_are_read_in_the_order_of_their_first_exposures(task: Junk) -> None:
    corpus = Corpus(task, 0)
    whole = corpus.documents(0, 2 * corpus.num_items)
    numbers = np.flatnonzero(whole.slices["useful"])
    block = first_documents(corpus, 0, task.people + 3)
    assert all(np.array_equal(block[i].tokens, whole[int(n)].tokens) for i, n in enumerate(numbers[: len(block)]))
    later = first_documents(corpus, 4, task.people + 3)
    assert np.array_equal(later[0].tokens, block[4].tokens) and len(later) == len(block) - 4


@pytest.mark.parametrize("name", ["bioS", "bioD", "bioS-qa", "bioR"])
def test_other_tasks_are_read_as_they_come(name: str) -> None:
    task: Task = get_task(name, people=50)
    ours, corpus = first_documents(Corpus(task, 3), 7, 40, labels=True), Corpus(task, 3)
    assert np.array_equal(ours.tokens, corpus.documents(7, 40, labels=True).tokens)
    if name == "bioS-qa":
        return  # a question tells one fact, so that few questions do not tell all
    model, block = build(ModelConfig(1, 1, 8), corpus.vocab.size, 0), corpus.documents(0, 20, labels=True)
    said = target_log_probabilities(model, [block[i].tokens for i in range(20)])
    nats = np.concatenate([np.append(0.0, -one.astype(np.float64)) for one in said])
    names = nats_per_document(nats, block, [0])[:, 0]
    assert Capacity(20).fact_losses(model, task, 3).name == pytest.approx(float(names.mean()), rel=1e-12)


def test_quantization_is_calibrated_on_useful_people(monkeypatch: pytest.MonkeyPatch) -> None:
    task, given = replace(D, token=True), []
    monkeypatch.setattr("lm.transforms.quantize.quantize", lambda model, *rest: given.extend(rest[3]) or model)
    model = build(ModelConfig(1, 1, 8), task.vocab().size, 0)
    with pytest.warns(UserWarning, match="R_max"):
        QuantizedCapacity(8, calibration_documents=12).measure(model, replace(task, people=9), 0)
    assert len(given) == 12 and all(document[1] == task.vocab().index["<useful>"] for document in given)


def test_golden() -> None:
    found = [digest(Corpus(task, 3).documents(0, 300).tokens.tolist(), 8) for task in FORMS[:8]]
    assert found == [
        "a3d007da344d8dcb",
        "fb5263d5ab3e6bc0",
        "c98a1fbd289a1678",
        "54f5aea6978ccf16",
        "3e9c361a68e16082",
        "dc5d8928db23f193",
        "dcdc59de0156b7b5",
        "c72351cd37caa95f",
    ]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"junk": 0}, "take bioD for that"),
        ({"junk_people": -1}, "must be 0"),
        ({"people": 16}, "people=16 leave 0 names"),
        ({"junk_people": 8}, "people=9 leave 7 names"),
        ({"people": 17}, "enlarge the name pools"),
        ({"name_length": 25}, "shorten the names"),
        ({"set_size": 17}, "lower set_size"),
    ],
)
def test_bad_input(values: dict[str, int], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        replace(D, **values)
    assert "\n" not in str(caught.value)
