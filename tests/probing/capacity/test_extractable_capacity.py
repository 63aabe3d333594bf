"""Extractable capacity against planted answers: models that know all, nothing, and only those they were taught on."""

from dataclasses import fields
from math import log, log2

import numpy as np
import pytest
import torch

from experiments.harness.run import RESERVED_COLUMNS
from lm.config import ModelConfig, TrainConfig
from lm.model import Decoder, build
from lm.training.loop import train
from probing.capacity.extractable_capacity import ExtractableCapacity, extractable_metrics, qa_losses
from probing.knowledge.qa_data import make_question_task
from synth import get_task
from synth.corpus import Corpus
from synth.errors import UserError
from synth.tasks.bios import BioS

TASK = BioS(
    people=12, questions=2, fullname=True, first=8, middle=8, last=8, years=4, months=2, days=2, cities=8,
    universities=8, majors=4, employers=8, templates=3,
)  # fmt: skip
MOST = {"birth date": 4, "birth city": 3, "university": 3, "major": 2, "employer": 3}  # bits a person
pytestmark = pytest.mark.filterwarnings("ignore::probing.capacity.bits_per_parameter.CapacityWarning")


class Knowing(Decoder):
    """After a prefix of a document that it has read, all such documents' next tokens; else any token alike."""

    def __init__(self, *corpora: Corpus) -> None:
        super().__init__(ModelConfig(1, 1, 2, mlp="none"), TASK.vocab().size)
        self.after: dict[bytes, list[int]] = {}
        for corpus in corpora:
            block = corpus.documents(0, corpus.num_items)
            for document in (block[i].tokens.astype(np.int64) for i in range(len(block))):
                for t in range(1, len(document)):
                    self.after.setdefault(document[:t].tobytes(), []).append(int(document[t]))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        found = torch.zeros(*inputs.shape, self.vocab_size)
        for i, row in enumerate(inputs.numpy()):
            for t in range(len(row)):
                if following := self.after.get(row[: t + 1].tobytes()):
                    counts = np.bincount(following, minlength=self.vocab_size) / len(following)
                    found[i, t] = torch.from_numpy(np.log(counts + 1e-12))
        return found


def asked(half: str) -> Corpus:
    return Corpus(make_question_task(TASK, half), 0, "test")


def bits(nats: dict[str, float]) -> dict[str, float]:
    return {name: MOST[name] - nats[name] / log(2) for name in nats}


def test_who_answers_everything_gives_all_bits() -> None:
    nats, exact = qa_losses(Knowing(asked("second")), make_question_task(TASK, "second"), 0)
    assert bits(nats) == pytest.approx(MOST, abs=1e-6) and exact == 1


def test_who_knows_nothing_gives_none() -> None:
    nats, exact = qa_losses(Knowing(), make_question_task(TASK, "second"), 0)
    assert all(known <= 0 for known in bits(nats).values()) and exact == 0
    assert nats["major"] >= log(TASK.vocab().size) - 1e-6


def test_who_knows_the_taught_half_gets_no_credit() -> None:
    taught = Knowing(asked("first"))
    assert qa_losses(taught, make_question_task(TASK, "first"), 0)[1] == 1
    nats, exact = qa_losses(taught, make_question_task(TASK, "second"), 0)
    assert all(known <= 0 for known in bits(nats).values()) and exact == 0


def test_who_knows_the_lists_and_no_person_gives_no_bits() -> None:
    """A uniform guess over an attribute's values, each of one token, has a loss of exactly its bits."""
    one_word = make_question_task(TASK, "second")
    majors = sorted({document.tokens[document.prompt_length] for document in documents(asked("all"), "major")})
    assert len(majors) == 4
    model = Knowing()
    for document in documents(asked("second"), "major"):
        model.after[document.prompt.astype(np.int64).tobytes()] = [int(major) for major in majors]
    assert bits(qa_losses(model, one_word, 0)[0])["major"] == pytest.approx(0, abs=1e-6)


def documents(corpus: Corpus, attribute: str) -> list:
    block = corpus.documents(0, corpus.num_items)
    return [block[i] for i in range(len(block)) if block[i].slices["attribute"] == attribute]


def test_the_account_by_hand() -> None:
    """12 people, 3 bits of name read of log2(512 / 12); each value stored whole, half of it told; 100 parameters."""
    stored = {"name_bits": 36.0} | {f"{name.replace(' ', '_')}_bits": float(most) for name, most in MOST.items()}
    half = {name: most / 2 * log(2) for name, most in MOST.items()}
    row = extractable_metrics(TASK, stored, half, 100)
    expected = {
        "r_extract": (36 + 12 * 7.5) / 100, "r_stored": (36 + 12 * 15) / 100, "r_extract_share": 126 / 216,
        "r_extract_max": 12 * (log2(512 / 12) + 15) / 100, "extract_value_bits": 90, "extract_value_bits_max": 180,
        "major_extract_bits": 1, "major_extract_bits_max": 2, "birth_date_extract_bits": 2,
    }  # fmt: skip
    assert {name: row[name] for name in expected} == pytest.approx(expected, abs=1e-9)
    assert (row["extract_bits_unclamped"], row["stored_bits_unclamped"]) == pytest.approx((126, 216))
    wrong = extractable_metrics(TASK, stored, dict.fromkeys(MOST, 9.0), 100)
    assert wrong["r_extract"] == wrong["r_extract_share"] == 0 and wrong["extract_value_bits"] < -36
    assert wrong["extract_bits_unclamped"] == pytest.approx(36 + wrong["extract_value_bits"])


def test_who_knows_and_tells_all_reaches_the_most(monkeypatch: pytest.MonkeyPatch) -> None:
    """Through `measure`, with a model that needs no teaching to answer when it is adapted."""
    model, adapted = Knowing(Corpus(TASK, 0, "train")), Knowing(asked("first"), asked("second"))
    monkeypatch.setattr("lm.transforms.lora.add_lora", lambda *_: adapted)
    monkeypatch.setattr("lm.training.loop.train", lambda *_, **__: None)
    row = ExtractableCapacity().measure(model, TASK, 0)
    assert row["r_extract"] == pytest.approx(row["r_extract_max"], rel=1e-6)
    assert row["r_extract_share"] == pytest.approx(1, rel=1e-6)
    assert row["extract_exact"] == row["extract_exact_trained"] == 1 > row["extract_exact_floor"] > 0


def test_from_training_to_answers() -> None:
    """A model that read biographies learns to answer about the people it is taught on; it stays as it was itself."""
    model = build(ModelConfig(2, 2, 32), TASK.vocab().size, 0)
    train(model, TASK, TrainConfig(steps=150, batch_size=8, seq_len=64, lr=1e-2), 0)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    evaluation = ExtractableCapacity(8, 32, qa_steps=300, qa_batch=8, qa_window=64, qa_lr=5e-3)
    row = evaluation.measure(model, TASK, 0)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert row["extract_exact_trained"] > 0.6 > row["extract_exact"] and 0 < row["r_stored"] < row["r_extract_max"]
    assert evaluation.measure(model, TASK, 0) == row
    assert not {f.name for f in fields(evaluation)} & (RESERVED_COLUMNS | row.keys())


def test_all_weights_may_be_finetuned_with_biographies_mixed_in(monkeypatch: pytest.MonkeyPatch) -> None:
    trained = {}

    def remember(model, data, *_, **__) -> None:
        trained["free"], trained["data"] = all(p.requires_grad for p in model.parameters()), data

    monkeypatch.setattr("lm.training.loop.train", remember)
    model = Knowing(Corpus(TASK, 0, "train"))
    ExtractableCapacity(0, 0, biography_share=0.25).measure(model, TASK, 0)
    assert trained["free"] and trained["data"].shares == (0.25, 0.75)
    assert trained["data"].parts == (TASK, make_question_task(TASK, "first"))
    ExtractableCapacity(0, 0).measure(model, TASK, 0)
    assert trained["data"] == make_question_task(TASK, "first")


def test_a_part_of_the_people_and_the_cost() -> None:
    model = Knowing(asked("second"))
    assert qa_losses(model, make_question_task(TASK, "second"), 0, people=4)[1] == 1
    few = ExtractableCapacity(qa_steps=1, qa_batch=1, qa_window=1, people=3).tokens(TASK)
    every = ExtractableCapacity(qa_steps=1, qa_batch=1, qa_window=1).tokens(TASK)
    assert 200 < few < every and ExtractableCapacity().tokens(TASK) > 3 * 75_000 * 96 * 512


def test_what_cannot_be_asked_is_named() -> None:
    with pytest.raises(UserError, match="^the vocabulary has no words for questions; pretrain on bioS with questions="):
        make_question_task(get_task("bioS", people=40), "first")
    with pytest.raises(UserError, match="bioD is not about the people of bioS"):
        make_question_task(get_task("bioD", people=40), "first")
    with pytest.raises(UserError, match="at least 1"):
        ExtractableCapacity(qa_steps=0)
    with pytest.raises(UserError, match="give both ranks 0 for all weights"):
        ExtractableCapacity(lora_rank=0)
    with pytest.raises(UserError, match="leaves no questions"):
        ExtractableCapacity(biography_share=1.0)
