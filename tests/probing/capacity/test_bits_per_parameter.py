"""Capacity against planted answers: the worked example of docs/capacity.md, the paper's numbers, models that know."""

from collections import Counter, defaultdict
from dataclasses import dataclass
from math import log, log2
from typing import ClassVar

import numpy as np
import pytest
import torch

from lm.config import ModelConfig, TrainConfig
from lm.model import Decoder, build
from lm.training.loop import train
from probing.capacity.bits_per_parameter import Capacity, CapacityWarning, QuantizedCapacity, capacity_metrics
from probing.capacity.fact_losses import FactLosses, average_fact_losses, first_mention, nats_per_document
from synth.bio import InformationContent
from synth.errors import UserError
from synth.random.rng import rng as stream
from synth.task import Block, Example, Task
from synth.vocab import Vocab


@dataclass(frozen=True)
class Eight(Task):
    """Eight people out of 64 names; a colour out of 8; a town out of 4, in two tokens, and its mayor, who follows."""

    people: int = 8

    name: ClassVar[str] = "eight"
    source: ClassVar[str] = "docs/capacity.md"
    attributes: ClassVar[tuple[str, ...]] = ("mayor", "colour", "town")

    def vocab(self) -> Vocab:
        kinds = ("n", "m", "c", "t", "u", "y")
        return Vocab((*(f"{k}{i}" for k in kinds for i in range(8)), "likes", "lives", "mayor", "says"))

    def information_content(self, world) -> InformationContent:
        return InformationContent(self.people, 6.0, {"colour": 3.0, "town": 2.0})

    def num_items(self, world) -> int:
        return self.people

    def world(self, seed: int) -> np.ndarray:
        """Names, colours, towns (8, 3): the same for every seed."""
        names = np.array([0, 9, 18, 27, 36, 45, 54, 63])[: self.people]
        return np.stack([names, np.arange(self.people), np.arange(self.people) % 4], 1)

    def render(self, world, item, rng, split) -> Example:
        name, colour, town = world[item]
        first, last = f"n{name // 8}", f"m{name % 8}"
        words = [first, last, "likes", f"c{colour}", "lives", f"t{town // 2}", f"u{town}", "mayor", f"y{town}"]
        words += ["says", first, last]
        tokens = np.array([0, *self.vocab().encode(words), self.vocab().eos], np.int32)
        part = np.array([0, 1, 1, 0, 2, 0, 2, 2, 0, 0, 0, 1, 1, 0])
        attribute = np.array([-1, -1, -1, -1, 1, -1, 2, 2, -1, -1, -1, -1, -1, -1])
        return Example(tokens, np.arange(14) > 0, labels={"part": part, "attribute": attribute})

    def sample(self, world, rng, split) -> Example:
        raise AssertionError("never called for fixed items")

    def score(self, world, example, completion) -> dict[str, float]:
        return {}

    def floors(self, world) -> dict[str, float]:
        return {}


# docs/capacity.md: losses in BITS of the 14 tokens of a document, for the half that the model knows and the other half
KNOWN = [0, 2, 1, 0.5, 0, 0.1, 0, 0, 0.3, 7, 0.2, 9, 9, 0.4]
UNKNOWN = [0, 2, 3, 0.5, 2, 0.1, 1, 1, 0.3, 7, 0.2, 9, 9, 0.4]


def example_block() -> Block:
    task = Eight()
    return Block.from_examples([task.render(task.world(0), i, stream(), "train") for i in range(8)])


def test_the_worked_example() -> None:
    nats = np.array([KNOWN] * 4 + [UNKNOWN] * 4).ravel() * log(2)
    rows = nats_per_document(nats, example_block(), [1, 2])
    losses = average_fact_losses(rows, ["colour", "town"])
    assert losses.name == pytest.approx(4 * log(2), abs=1e-9)
    assert losses.values == pytest.approx({"colour": log(2), "town": log(2)}, abs=1e-9)
    row = capacity_metrics(Eight().information_content(None), losses, {"total": 16, "non_embedding": 10, "active": 8})
    expected = {
        "r": 2.5, "r_max": 4, "r_share": 0.625, "r_non_embedding": 4, "r_active": 5, "bits": 40, "bits_max": 64,
        "bits_unclamped": 40, "name_bits": 16, "name_bits_max": 24, "value_bits": 24, "value_bits_max": 40,
        "diversity_bits": 0, "name_nats": 4 * log(2), "name_nats_chance": 6 * log(2), "name_nats_floor": log(8),
        "value_nats": 2 * log(2), "value_nats_chance": 5 * log(2), "colour_bits": 2, "colour_bits_max": 3,
        "town_bits": 1, "town_bits_max": 2, "town_nats": log(2),
    }  # fmt: skip
    assert {key: row[key] for key in expected} == pytest.approx(expected, abs=1e-9)


def test_bioD_by_hand() -> None:
    """Two attributes of C = 3 chunks out of D = 4 strings of T^L = 2^10; the model misses 1 bit a chunk at first."""
    facts = InformationContent(16, 5.0, {"a0": 6.0, "a1": 6.0}, sets=2, set_size=4, log2_strings=10.0)
    losses = FactLosses(4.5 * log(2), {"a0": 1.5 * log(2), "a1": 2.5 * log(2)}, {"a0": log(2), "a1": 3 * log(2)})
    row = capacity_metrics(facts, losses, {"total": 50, "non_embedding": 50, "active": 50})
    assert row["name_bits"] == pytest.approx(16 * 0.5, abs=1e-9)
    assert row["value_bits"] == pytest.approx(16 * (4.5 + 3.5), abs=1e-9)
    assert row["diversity_bits"] == pytest.approx(2 * 4 * (10 - 2 - 2), abs=1e-9)
    assert row["bits_max"] == pytest.approx(16 * 1 + 16 * 12 + 2 * 4 * 8, abs=1e-9)
    assert row["r"] == pytest.approx((8 + 128 + 48) / 50, abs=1e-9)


def test_the_paper_s_biographies() -> None:
    """S0 = 2.12e14 is 47.59 bits; at N = 50K a person holds 59.2 bits (Part 3.3, section 3)."""
    sizes = {"date": 12 * 28 * 200, "city": 200, "university": 300, "major": 100, "employer": 263, "pronoun": 2}
    facts = InformationContent(50_000, log2(400 * 400 * 1000), {name: log2(size) for name, size in sizes.items()})
    assert sum(facts.log2_values.values()) == pytest.approx(47.59, abs=0.005)
    assert facts.bits / 50_000 == pytest.approx(59.2, abs=0.05)
    perfect = FactLosses(log(50_000), dict.fromkeys(sizes, 0.0), dict.fromkeys(sizes, 0.0))
    row = capacity_metrics(facts, perfect, {"total": 10**6, "non_embedding": 10**6, "active": 10**6})
    assert row["r"] == pytest.approx(row["r_max"], abs=1e-9) and row["r_max"] == pytest.approx(2.96, abs=0.005)


def test_worse_than_chance_is_clamped_once_after_summing() -> None:
    facts = InformationContent(8, 6.0, {"colour": 3.0, "town": 2.0})
    sizes = {"total": 10, "non_embedding": 10, "active": 10}
    mixed = capacity_metrics(facts, FactLosses(3 * log(2), {"colour": 5 * log(2), "town": 0.0}, {}), sizes)
    assert mixed["colour_bits"] == pytest.approx(-2) and mixed["bits"] == pytest.approx(8 * (3 - 2 + 2))
    bad = capacity_metrics(facts, FactLosses(9.0, {"colour": 9.0, "town": 9.0}, {}), sizes)
    assert bad["r"] == bad["bits"] == 0 and bad["bits_unclamped"] < 0


def test_too_large_a_model_is_warned_of() -> None:
    """What a re-implementation reported as 0.000 beside 'expected 2.0': 200 people and 3.2M parameters."""
    facts = InformationContent(200, log2(160_000_000), {"all": 47.59})
    sizes = dict.fromkeys(("total", "non_embedding", "active"), 3_200_000)
    with pytest.warns(CapacityWarning, match="R_max is 0.00[34].*at most 6... parameters"):
        capacity_metrics(facts, FactLosses(20.2, {"all": 33.6}, {}), sizes)


def test_a_name_counts_once_at_its_first_mention() -> None:
    named = np.array([1, 1, 0, 1, 0, 1, 0, 1, 1, 1], bool)
    owner = np.array([0, 0, 0, 0, 1, 1, 1, 1, 2, 2])
    assert first_mention(named, owner).tolist() == [True, True, False, False, False, True, False, False, True, True]


def test_what_gives_a_value_away_counts_with_it() -> None:
    """The mayor (8, 16 bits) follows from the town: not counted after it, counted with it before it."""
    block, nats = example_block(), np.zeros(8 * 14)
    part, attribute = block.labels["part"].copy(), block.labels["attribute"].copy()
    part[9::14], attribute[9::14], nats[9::14] = 2, 0, 16.0  # after the town in all
    part[3], attribute[3], nats[3] = 2, 0, 8.0  # and before it in the first
    nats[7::14] = 1.0
    labels = {"part": part, "attribute": attribute}
    marked = Block(block.tokens, block.offsets, block.loss_mask, block.prompt_lengths, {}, labels)
    plain, joint = nats_per_document(nats, marked, [1, 2]), nats_per_document(nats, marked, [1, 2], {0: 2})
    assert plain[:, 2].tolist() == [1.0] * 8
    assert joint[:, 2].tolist() == [9.0] + [1.0] * 7 and (joint[:, [0, 1]] == plain[:, [0, 1]]).all()


class Oracle(Decoder):
    """After any prefix, the distribution of the documents it has read: knows everything, and no order of people."""

    def __init__(self, documents: list[np.ndarray], parameters: ModelConfig) -> None:
        vocab = Eight().vocab()
        super().__init__(parameters, vocab.size)
        self.after: dict[bytes, Counter] = defaultdict(Counter)
        for document in documents:
            for t in range(1, len(document)):
                self.after[document[:t].astype(np.int64).tobytes()][int(document[t])] += 1

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        found = torch.full((*inputs.shape, self.vocab_size), -1e4)
        for i, row in enumerate(inputs.numpy()):
            for t in range(len(row)):
                counts = self.after.get(row[: t + 1].tobytes(), Counter())
                for token, count in counts.items():
                    found[i, t, token] = log(count / counts.total())
        return found


SMALL = ModelConfig(1, 1, 2, mlp="none")


@pytest.mark.filterwarnings("ignore::probing.capacity.bits_per_parameter.CapacityWarning")
def test_a_model_that_knows_everything_reaches_r_max() -> None:
    block = example_block()
    row = Capacity().measure(Oracle([block[i].tokens for i in range(8)], SMALL), Eight(), 0)
    assert row["r"] == pytest.approx(row["r_max"], abs=1e-6) and row["bits"] == pytest.approx(64, abs=1e-4)
    assert row["people_read"] == 8 and row["r_share"] == pytest.approx(1)


@pytest.mark.filterwarnings("ignore::probing.capacity.bits_per_parameter.CapacityWarning")
def test_a_model_that_was_never_trained_holds_nothing() -> None:
    task, model = Eight(), build(ModelConfig(1, 1, 8), Eight().vocab().size, 0)
    row = Capacity().measure(model, task, 0)
    assert row["r"] == 0 and row["name_nats"] == pytest.approx(2 * log(task.vocab().size), rel=0.02)
    assert row["bits_unclamped"] < 0 and row["parameters_active"] < 3000
    assert Capacity().tokens(task) == 8 * 14 and Capacity(people=3).tokens(task) == 3 * 14


@pytest.mark.filterwarnings("ignore::probing.capacity.bits_per_parameter.CapacityWarning")
def test_training_fills_it_and_eight_bits_keep_it() -> None:
    task = Eight()
    model = build(ModelConfig(2, 2, 16), task.vocab().size, 0)
    history = train(model, task, TrainConfig(steps=400, batch_size=8, seq_len=16, packing="none", lr=1e-2), 0)
    row = Capacity().measure(model, task, 0, exposures=history.exposures)
    assert row["exposures"] == row["exposures_min"] == row["exposures_max"] == 400
    assert 0.9 < row["r_share"] <= 1 + 1e-6
    eight = QuantizedCapacity(8, group_size=16, calibration_documents=8).measure(model, task, 0)
    two = QuantizedCapacity(2, "rtn", group_size=16, calibration_documents=8).measure(model, task, 0)
    assert eight["r"] == pytest.approx(row["r"], rel=0.05) and two["r"] < 0.8 * row["r"]


def test_people_in_parts_are_people_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build(ModelConfig(1, 1, 8), Eight().vocab().size, 0)
    whole = Capacity().fact_losses(model, Eight(), 0)
    monkeypatch.setattr("probing.capacity.bits_per_parameter.CHUNK_DOCUMENTS", 3)
    assert Capacity().fact_losses(model, Eight(), 0).name == pytest.approx(whole.name, rel=1e-6)


def test_what_cannot_be_measured_is_named() -> None:
    model, block = build(SMALL, Eight().vocab().size, 0), example_block()
    with pytest.raises(UserError, match="cfg does not"):
        from synth import get_task

        Capacity().measure(model, get_task("cfg3f"), 0)
    with pytest.raises(UserError, match="at least 1"):
        Capacity(people=0)
    with pytest.raises(UserError, match="labels part and attribute"):
        nats_per_document(np.zeros(14), Block.from_examples([Example(block[0].tokens, block[0].loss_mask)]), [1])
    block.labels["part"][:14] = 0
    with pytest.raises(UserError, match="document 0 names nobody"):
        nats_per_document(np.zeros(len(block.tokens)), block, [1])
    with pytest.raises(UserError, match="no document tells town"):
        average_fact_losses(np.array([[1.0, 2.0, np.nan, 0.0, 0.0]]), ["colour", "town"])


@pytest.mark.filterwarnings("ignore::probing.capacity.bits_per_parameter.CapacityWarning")
@pytest.mark.parametrize(
    ("name", "changes"),
    [("bioS", {"people": 40}), ("bioS", {"people": 40, "permute": 1, "fullname": True}), ("bioD", {"people": 40})],
)
def test_real_tasks_say_what_capacity_needs(name: str, changes: dict) -> None:
    """A fresh model has the losses of a uniform guess over the vocabulary, and holds nothing."""
    from synth import get_task

    task = get_task(name, **changes)
    row = Capacity().measure(build(ModelConfig(1, 1, 8), task.vocab().size, 0), task, 0)
    assert row["r"] == 0 and row["bits_max"] == pytest.approx(task.information_content(None).bits)
    tokens = 3 if name == "bioS" else task.name_length
    assert row["name_nats"] == pytest.approx(tokens * log(task.vocab().size), rel=0.05)
    assert row["people_read"] == 40
