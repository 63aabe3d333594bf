"""Mixtures: shares kept over every stretch of rows, windows of one part each, and a training that can stop anywhere."""

import json
import pickle
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from lm.config import ModelConfig, TrainConfig
from lm.model import build
from lm.training.loop import train
from probing.capacity.bits_per_parameter import Capacity
from synth import Corpus, Cursor, UserError
from synth.corpus import Packing
from synth.mixture import Mixture, cumulative_rows, main_part, make_corpus
from synth.registry import task_class
from synth.tasks.biod import BioD
from synth.tasks.bioqa import BioQuestions
from synth.tasks.bios import BioS, biographies_of
from synth.tasks.copy import CopyTask
from synth.tasks.junk import JunkS

FIELDS = {"people": 20, "first": 5, "middle": 4, "last": 6, "years": 3, "months": 2, "days": 4, "cities": 4,
          "universities": 5, "majors": 3, "employers": 9, "templates": 2, "questions": 2}  # fmt: skip
BIOS, QUESTIONS = BioS(**FIELDS), BioQuestions(**FIELDS, half="first")
MIXED = Mixture((BIOS, QUESTIONS), (0.2, 0.8))
FAMOUS = Mixture((BioS(**FIELDS, half="first", wordings=5, permute=1), BioS(**FIELDS, half="second", wordings=1)),
                 (5 / 6, 1 / 6))  # fmt: skip
QUIET: Callable[[int, int, float], None] = lambda *_: None  # noqa: E731


@pytest.mark.parametrize(
    ("shares", "most"), [((0.5, 0.5), 0.5), ((0.2, 0.8), 0.5), ((5 / 6, 1 / 6), 0.5), ((0.1, 0.4, 0.5), 1), ((1.0,), 0)]
)
def test_every_stretch_of_rows_has_its_shares(shares: tuple[float, ...], most: float) -> None:
    row = np.arange(20_001)
    counts = cumulative_rows(shares, row)
    assert (counts.sum(axis=1) == row).all()
    assert set(np.unique(np.diff(counts, axis=0))) <= {0, 1}, "a row belongs to one part"
    assert np.abs(counts - row[:, None] * np.array(shares)).max() <= most + 1e-9
    assert np.array_equal(cumulative_rows(shares, row[777:779]), counts[777:779])
    far = 10**9 + row
    assert np.abs(cumulative_rows(shares, far) - far[:, None] * np.array(shares)).max() <= most + 1e-5


@pytest.mark.parametrize("packing", ["cut", "none", "whole"])
@pytest.mark.parametrize("task", [MIXED, FAMOUS], ids=["questions", "famous"])
def test_rows_are_those_of_the_parts_in_turn(task: Mixture, packing: Packing) -> None:
    corpus = make_corpus(task, 3, seq_len=127, packing=packing, order_seed=5)
    batch, _ = corpus.batch(corpus.start(), 60)
    owner = np.diff(cumulative_rows(task.shares, np.arange(61)), axis=0).argmax(axis=1)
    items = []
    for number, part in enumerate(task.parts):
        alone = Corpus(part, 3, seq_len=127, packing=packing, order_seed=5)
        rows, _ = alone.batch(alone.start(), int((owner == number).sum()))
        for name in ("inputs", "targets", "loss_mask", "documents"):
            assert np.array_equal(getattr(batch, name)[owner == number], getattr(rows, name)), name
        items.append(rows.item_ids + number * (task.parts[0].num_items(None) or 0))
    assert np.array_equal(batch.item_ids, np.concatenate(items))
    assert corpus.num_items == sum(part.num_items(None) or 0 for part in task.parts)


@pytest.mark.parametrize("packing", ["cut", "none"])
def test_the_stream_does_not_depend_on_batches_or_stops(packing: Packing) -> None:
    corpus = make_corpus(MIXED, 0, seq_len=90, packing=packing)
    whole, end = corpus.batch(corpus.start(), 64)
    cursor, rows, items = corpus.start(), [], []
    for count in (1, 7, 1, 1, 30, 24):
        batch, cursor = make_corpus(MIXED, 0, seq_len=90, packing=packing).batch(cursor, count)
        cursor = Cursor.from_dict(json.loads(json.dumps(asdict(cursor))))
        rows.append(batch.inputs)
        items.append(batch.item_ids)
    assert np.array_equal(np.concatenate(rows), whole.inputs) and cursor == end
    assert sorted(np.concatenate(items)) == sorted(whole.item_ids)


@pytest.mark.parametrize("objective", ["causal", "masked"])
@pytest.mark.parametrize("packing", ["cut", "none"])
def test_a_stopped_training_goes_on(packing: Packing, objective: str, tmp_path: Path) -> None:
    shape = ModelConfig(1, 2, 8, 128, causal=objective == "causal")
    config = TrainConfig(
        12, batch_size=7, seq_len=90, packing=packing, lr=1e-2, document_mask=True, objective=objective
    )  # type: ignore[arg-type]

    def stop(step: int, steps: int, loss: float) -> None:
        if step == 8:
            raise KeyboardInterrupt

    whole, stopped, again = (build(shape, shape.model_vocab_size(MIXED.vocab()), 0) for _ in range(3))
    history = train(whole, MIXED, config, 0, on_step=QUIET)
    with pytest.raises(KeyboardInterrupt):
        train(stopped, MIXED, config, 0, folder=tmp_path, checkpoint_every=5, log_every=4, on_step=stop)
    resumed = train(again, MIXED, config, 0, folder=tmp_path, checkpoint_every=5, log_every=4, on_step=QUIET)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), again.parameters(), strict=True))
    assert np.array_equal(history.exposures, resumed.exposures)  # type: ignore[arg-type]
    assert resumed.exposures is not None and resumed.exposures.sum() == resumed.documents


@pytest.mark.parametrize("packing", ["cut", "none"])
@pytest.mark.parametrize("task", [MIXED, FAMOUS], ids=["questions", "famous"])
def test_every_item_of_every_part_is_exposed(task: Mixture, packing: Packing) -> None:
    config = TrainConfig.for_exposures(task, 4, batch_size=3, seq_len=127, packing=packing)
    seen = []
    for steps in (config.steps, config.steps - 1):
        model = build(ModelConfig(1, 2, 8, 128), task.vocab().size, 0)
        history = train(model, task, replace(config, steps=steps), 0, on_step=QUIET)
        assert history.exposures is not None
        seen.append(np.split(history.exposures, [task.parts[0].num_items(None) or 0]))
    assert min(part.min() for part in seen[0]) == 4 and min(part.min() for part in seen[1]) == 3
    assert all(part.max() - part.min() <= 1 for part in seen[0]), "items of one part differ by one at most"


def test_the_identity_holds_parts_shares_and_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = {Mixture(MIXED.parts, shares).key for shares in ((0.2, 0.8), (0.8, 0.2))}
    keys |= {MIXED.key, FAMOUS.key, Mixture(MIXED.parts[::-1], MIXED.shares).key}
    assert len(keys) == 4
    monkeypatch.setattr(BioQuestions, "version", 2)
    assert Mixture(MIXED.parts, MIXED.shares).key not in keys


@pytest.mark.parametrize(
    ("parts", "shares", "named"),
    [((BIOS,), (0.5, 0.5), "1 parts have 2 shares"), ((BIOS, QUESTIONS), (0.5, 0.6), "add up to 1"),
     ((BIOS, QUESTIONS), (1.0, 0.0), "above 0"), ((MIXED, BIOS), (0.5, 0.5), "a mixture itself"), ((), (), "0 parts")],
)  # fmt: skip
def test_bad_mixtures_are_refused(parts: tuple, shares: tuple, named: str) -> None:
    with pytest.raises(UserError, match=named) as error:
        Mixture(parts, shares)
    assert "\n" not in str(error.value)


def test_another_vocabulary_is_refused() -> None:
    other = Mixture((BIOS, replace(QUESTIONS, questions=3)), (0.5, 0.5))
    with pytest.raises(UserError, match=r"^bioS has a vocabulary of .* ids and bioS-qa another of") as error:
        train(build(ModelConfig(1, 2, 8, 128), 200, 0), other, TrainConfig(2), 0)
    assert "\n" not in str(error.value)


def test_documents_are_asked_of_the_parts() -> None:
    with pytest.raises(UserError, match="ask one of its parts"):
        Corpus(MIXED, 0).documents(0, 3)  # type: ignore[arg-type]


def test_people_of_a_task() -> None:
    assert biographies_of(BIOS) == BIOS == biographies_of(MIXED) == main_part(MIXED) == main_part(BIOS)
    assert biographies_of(QUESTIONS) == BIOS == biographies_of(Mixture((QUESTIONS, BIOS), (0.5, 0.5)))
    assert biographies_of(FAMOUS) == FAMOUS.parts[0] and biographies_of(FAMOUS).half == "first"
    assert biographies_of(JunkS(**FIELDS)) == BIOS
    with pytest.raises(UserError, match="bioD is not about the people of bioS"):
        biographies_of(BioD())


@pytest.mark.parametrize("half", ["first", "second"])
def test_biographies_of_a_half(half: str) -> None:
    task = BioS(**{**FIELDS, "people": 21}, half=half)  # type: ignore[arg-type]
    corpus, n = Corpus(task, 1), {"first": 10, "second": 11}[half]
    block = corpus.documents(0, 3 * n)
    told = set(range(10)) if half == "first" else set(range(10, 21))
    for epoch in range(3):
        assert set(block.slices["person"][epoch * n : (epoch + 1) * n]) == told
    assert {task.parse(corpus.world, block[i].tokens)[0] for i in range(n)} == told
    everybody = replace(task, half="all")
    assert task.information_content().people == n and everybody.information_content().people == 21
    assert np.array_equal(corpus.world.names, everybody.world(1).names) and task.vocab() == everybody.vocab()
    assert task.floors(corpus.world)["loss"] < everybody.floors(corpus.world)["loss"]
    assert replace(task, codec="bpe:300").vocab() == replace(everybody, codec="bpe:300").vocab()


def test_halves_that_cannot_be_told_are_refused() -> None:
    for change, named in (({"people": 1, "half": "first"}, "half of 1 people is empty"), ({"half": "no"}, "half='no'")):
        with pytest.raises(UserError, match=named):
            BioS(**{**FIELDS, **change})
    with pytest.raises(UserError, match="junkS: half='first' is for bioS"):
        JunkS(**FIELDS, half="first")


@pytest.mark.filterwarnings("ignore::probing.capacity.bits_per_parameter.CapacityWarning")
def test_capacity_is_that_of_the_first_part() -> None:
    model = build(ModelConfig(1, 2, 8, 128), MIXED.vocab().size, 0)
    assert Capacity().measure(model, MIXED, 0) == Capacity().measure(model, BIOS, 0)
    assert Capacity().tokens(MIXED) == Capacity().tokens(BIOS)
    assert Capacity().measure(model, FAMOUS, 0)["people_read"] == 10


def test_a_mixture_with_a_part_from_a_file_pickles(tmp_path: Path) -> None:
    path = tmp_path / "own.py"
    path.write_text(
        "from dataclasses import dataclass\nfrom synth.tasks.copy import CopyTask\n\n"
        "@dataclass(frozen=True)\nclass Own(CopyTask):\n    name = 'own'\n"
    )
    mixture = Mixture((task_class(f"{path}:Own")[0](5), CopyTask(5)), (0.5, 0.5))
    again = pickle.loads(pickle.dumps(mixture))
    assert again == mixture and again.key == mixture.key and again.vocab() == mixture.vocab()
    assert again.parts[0].origin == mixture.parts[0].origin is not None
