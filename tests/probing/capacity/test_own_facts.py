"""What a model knows of facts of one's own: planted models that know everything, one half, and nothing."""

import json
from math import log
from pathlib import Path

import numpy as np
import pytest
import torch

from lm.__main__ import _run as run_lm
from lm.config import ModelConfig
from lm.model import Decoder
from probing.__main__ import run
from probing.capacity.own_facts import answer, answer_questions, format_facts, measure_facts, require_facts
from synth import Corpus
from synth.errors import UserError
from synth.tasks.facts import Facts
from synth.tasks.recall import Recall

TASK = Facts(asked="first", wordings=1)


class Knowing(Decoder):
    """After a prefix of a document that it has read, all such documents' next tokens; else any token alike."""

    def __init__(self, *corpora: Corpus) -> None:
        super().__init__(ModelConfig(1, 1, 2, mlp="none"), TASK.vocab().size)
        self.after: dict[bytes, list[int]] = {}
        for corpus in corpora:
            for document in corpus.documents(0, corpus.num_items).documents:
                for t in range(1, len(document)):
                    self.after.setdefault(document[:t].astype(np.int64).tobytes(), []).append(int(document[t]))

    def forward(self, inputs: torch.Tensor, caches: object = None) -> torch.Tensor:
        self.read = inputs
        found = torch.zeros(*inputs.shape, self.vocab_size)
        for i, row in enumerate(inputs.numpy()):
            for t in range(len(row)):
                if following := self.after.get(row[: t + 1].tobytes()):
                    counts = np.bincount(following, minlength=self.vocab_size) / len(following)
                    found[i, t] = torch.from_numpy(np.log(counts + 1e-12))
        return found

    def step(self, tokens: torch.Tensor, caches: object, position: int) -> torch.Tensor:
        return self(torch.cat([self.read, tokens[:, None]], dim=1))[:, -1]


def asked(half: str) -> Corpus:
    return Corpus(TASK.as_questions(half), 0, "test")


def test_who_knows_everything_has_all_bits() -> None:
    row = measure_facts(Knowing(Corpus(TASK, 0), asked("first"), asked("second")), TASK, 0)
    assert row["bits"] == pytest.approx(row["bits_max"], rel=1e-3)
    assert row["name_bits"] == pytest.approx(0, abs=1e-3), "20 names of one word each: nothing to know"
    assert row["extract_exact"] == row["extract_exact_trained"] == 1 and row["extract_exact_floor"] == pytest.approx(
        0.1
    )
    assert row["extract_value_bits"] == pytest.approx(row["extract_value_bits_max"], rel=1e-3)
    text = format_facts(TASK, row)
    assert "(100%)" in text and "100% right about the half held out" in text and "most frequent values: 10%" in text


def test_who_was_taught_one_half_gets_no_credit() -> None:
    row = measure_facts(Knowing(Corpus(TASK, 0), asked("first")), TASK, 0)
    assert row["extract_exact"] == 0 and row["extract_exact_trained"] == 1 and row["extract_value_bits"] <= 0
    assert row["bits"] == pytest.approx(row["bits_max"], rel=1e-3), "stored, and not extracted"


def test_who_knows_nothing_loses_the_vocabulary() -> None:
    nats, exact = answer_questions(Knowing(), TASK.as_questions("second"), 0)
    assert exact == 0 and nats["symbol"] == pytest.approx(log(TASK.vocab().size))
    assert measure_facts(Knowing(), TASK, 0)["bits"] == 0


def test_without_a_half_held_out_only_storage_is_measured() -> None:
    for task in (Facts(), Facts(asked="all"), Facts(asked="first", half="first")):
        row = measure_facts(Knowing(), task, 0)
        assert "extract_exact" not in row and "no half of the subjects is held out" in format_facts(task, row)


def test_it_answers_and_refuses_other_tasks() -> None:
    knowing = Knowing(asked("all"))
    assert answer(knowing, TASK, "What is the symbol of Neon?") == "Ne"
    with pytest.raises(UserError, match="'Gold'"):
        answer(knowing, TASK, "What is the symbol of Gold?")
    assert require_facts(TASK) is TASK
    for other in (Recall(), TASK.as_questions("all")):
        with pytest.raises(UserError, match="train on facts"):
            require_facts(other)


def test_from_a_table_to_an_answer(tmp_path: Path) -> None:
    """The commands of the walk in docs/capacity.md, with a training of three steps."""
    (tmp_path / "my.csv").write_text("name,town\nAnn Lee,Oslo\nBob Lee,Paris\nAnn Kay,Rome\nBob Kay,Oslo\n")
    here = ["--output-dir", str(tmp_path / "run")]
    small = ["--train.steps", "3", "--train.seq-len", "64", "--model.d-model", "16", "--model.n-layers", "1"]
    run_lm(["train", "facts", "--path", str(tmp_path / "my.csv"), "--asked", "first", *here, *small])
    assert "bits per parameter" in run(["facts", *here])
    row = json.loads(run(["facts", *here, "--json"]))
    assert row["town_bits_max"] == pytest.approx(np.log2(3)) and 0 <= row["extract_exact"] <= 1
    run(["facts", *here, "--ask", "What is the town of Ann Lee?"])
    (tmp_path / "my.csv").write_text("name,town\nAnn Lee,Oslo\nBob Lee,Bern\nAnn Kay,Rome\nBob Kay,Oslo\n")
    with pytest.raises(UserError, match="as it was when the model was trained"):
        run(["facts", *here])
