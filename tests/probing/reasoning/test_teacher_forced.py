"""The count of right answers against planted ones: models that know everything, one hop, or nothing."""

import numpy as np
import pytest
import torch

from lm.config import ModelConfig
from lm.model import Decoder, build
from probing.reasoning.teacher_forced import TeacherForcedAccuracy
from synth import Corpus, UserError
from synth.random.rng import rng
from synth.tasks.biod import BioD
from synth.tasks.copy import CopyTask
from synth.tasks.depo import Depo
from synth.tasks.mano import Mano

TASK = Depo(nodes=12, hops=4, alphabet=9)


class Knows(Decoder):
    """Answers the questions of Depo with hops(k) steps along the edges, or, at None, with some node's name."""

    def __init__(self, hops) -> None:
        super().__init__(ModelConfig(1, 1, 8, max_seq_len=256), TASK.vocab().size)
        self.hops, self.draw = hops, rng("guesses")

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        rows = np.zeros((*inputs.shape, self.vocab_size), np.float32)
        for i, row in enumerate(inputs.numpy()):
            for at, name in self.answers(row):
                rows[i, np.arange(at, at + len(name)), name] = 9
        return torch.from_numpy(rows)

    def answers(self, row: np.ndarray):
        """Where each `ans` is, and the name said after it."""
        ends, inner = TASK.last_name_id, TASK.num_inner_ids
        marks = np.flatnonzero(row > ends)
        names = np.split(row[1 : marks[0]], np.flatnonzero(row[1 : marks[0]] > inner) + 1)[:-1]
        after = {tuple(a): tuple(b) for a, b in zip(names[::2], names[1::2], strict=True)}
        for mark, at in zip(marks[::2], marks[1::2], strict=True):
            node = tuple(row[mark + 1 : at])
            if self.hops is None:
                node = list(after)[self.draw.integers(len(after))]
            for _ in range(self.hops(row[mark] - ends) if self.hops else 0):
                node = after[node]
            yield at, np.array(node)[: len(row) - at]


class Says(Decoder):
    """Its likeliest next token is say(inputs (B, T)) (B, T)."""

    def __init__(self, task, say) -> None:
        super().__init__(ModelConfig(1, 1, 8, max_seq_len=256), task.vocab().size)
        self.say = say

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return 20 * torch.nn.functional.one_hot(self.say(inputs), self.vocab_size).float()


def rows_of(model: Decoder, task=TASK, **settings) -> dict[str, dict]:
    return {row["difficulty"]: row for row in TeacherForcedAccuracy(**settings).measure(model, task, 0, 0)}


def test_a_model_that_knows_everything() -> None:
    rows = rows_of(Knows(int))
    assert list(rows) == ["all", "1", "2", "3", "4"]
    assert all(row["correct"] == row["correct_tokens"] == 1 for row in rows.values())
    assert rows["all"]["questions"] == 2000 == sum(rows[k]["questions"] for k in "1234")
    assert rows["all"]["chance"] == pytest.approx(1 / 11)


def test_a_model_that_knows_one_hop() -> None:
    rows = rows_of(Knows(lambda k: 1))
    assert [rows[k]["correct"] for k in "1234"] == [1, 0, 0, 0]
    assert rows["all"]["correct"] == rows["1"]["questions"] / 2000
    assert rows["2"]["correct_tokens"] > 0, "names share tokens"


def test_a_model_that_guesses() -> None:
    for name, row in rows_of(Knows(None)).items():
        assert abs(row["correct"] - 1 / 12) < 4 * np.sqrt(1 / 12 / row["questions"]), name


def test_sizes_as_in_training() -> None:
    rows = rows_of(Knows(int), hardest=False, documents=50)
    assert rows["all"]["correct"] == 1 and rows["all"]["questions"] < 500  # small cycles have fewer questions
    assert rows["all"]["chance"] > 1 / 11


def test_the_commonest_value_is_the_floor_of_mano() -> None:
    task = Mano(ops=4)
    rows = rows_of(Says(task, torch.ones_like), task, documents=4000)
    assert list(rows) == ["all", "4"] and rows["4"]["questions"] == 4000
    assert rows["all"]["correct"] == pytest.approx(rows["all"]["chance"], abs=0.016)  # four standard errors


def test_one_wrong_token_fails_a_whole_copy() -> None:
    task = CopyTask(20)

    def copies(inputs: torch.Tensor) -> torch.Tensor:
        said = torch.zeros_like(inputs)
        said[:, 21:] = inputs[:, 1:21]
        return said

    def but_for_one(inputs: torch.Tensor) -> torch.Tensor:
        said = copies(inputs)
        said[:, 30] = 0
        return said

    right, wrong = (rows_of(Says(task, say), task)["all"] for say in (copies, but_for_one))
    assert right["correct"] == right["correct_tokens"] == 1 and right["nats"] < 1e-6 and right["questions"] == 200
    assert wrong["correct"] == 0 and wrong["correct_tokens"] == pytest.approx(19 / 20)
    assert wrong["nats"] == pytest.approx(1, abs=0.01), "twenty nats at one token of twenty"


def test_a_real_model_knows_nothing_at_first() -> None:
    model = build(ModelConfig(1, 2, 16, max_seq_len=256), TASK.vocab().size, 0)
    row = rows_of(model, documents=20)["all"]
    assert row["correct"] < 0.1 and row["nats"] == pytest.approx(np.log(TASK.vocab().size), abs=0.3)
    lengths = Corpus(TASK.hardest(), 0, "test").documents(0, 64).lengths
    assert TeacherForcedAccuracy(documents=100).tokens(TASK) == pytest.approx(100 * lengths.mean(), abs=1)


def test_refusals() -> None:
    short = build(ModelConfig(1, 2, 16, max_seq_len=16, positions="learned"), TASK.vocab().size, 0)
    with pytest.raises(UserError, match="build the model with max_seq_len="):
        TeacherForcedAccuracy(4).measure(short, TASK, 0, 0)
    people = BioD(people=9)
    model = build(ModelConfig(1, 2, 16), people.vocab().size, 0)
    with pytest.raises(UserError, match="set hardest=False"):
        TeacherForcedAccuracy(4).measure(model, people, 0, 0)
    with pytest.raises(UserError, match="does not label its answers"):
        TeacherForcedAccuracy(4, hardest=False).measure(model, people, 0, 0)
    with pytest.raises(UserError, match="at least 1"):
        TeacherForcedAccuracy(0)
