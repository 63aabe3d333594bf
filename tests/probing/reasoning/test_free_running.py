"""Solved against planted answers: one that is right, one right in another order, ones that are wrong in known ways."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from lm import ModelConfig, build
from lm.model import Decoder
from probing.reasoning import free_running
from probing.reasoning.free_running import SolveRate
from synth import Corpus, UserError, get_task
from synth.task import Example, Task
from synth.tasks.brevo import Brevo

BREVO, RECALL = Brevo(nodes=10, alphabet=4, shortest=1, longest=2), get_task("recall", pairs=6, least=2, values=8)
EOS = BREVO.vocab().eos


def model(task: Task, max_seq_len: int = 256) -> Decoder:
    return build(ModelConfig(1, 1, 8, max_seq_len=max_seq_len), task.vocab().size, 0)


def another_order(example: Example) -> np.ndarray:
    """A valid order, leaves first, that takes the least free name each time."""
    question = BREVO.parse(example.prompt)
    assert question is not None
    order: list[tuple[int, ...]] = []
    while left := question.dependencies - set(order):
        order.append(min(word for word in left if question.parents.get(word, set()) <= set(order)))
    return np.array([token for word in order for token in word] + [EOS], np.int32)


def planted(monkeypatch: pytest.MonkeyPatch, task: Task, answer: Callable[[Example, np.ndarray], np.ndarray]) -> None:
    """Has generate answer each prompt with answer(its document, its true answer)."""

    def write(model, prompts, room, temperature, eos, seed, progress):
        block = Corpus(task, 0, "test").documents(0, len(prompts))
        examples = [block[i] for i in range(len(block))]
        assert all(np.array_equal(prompt, e.prompt) for prompt, e in zip(prompts, examples, strict=True))
        return [answer(e, e.tokens[e.prompt_length :])[:room] for e in examples]

    monkeypatch.setattr(free_running, "generate", write)


def measured(task: Task, **settings) -> dict[str, dict]:
    rows = SolveRate(**settings).measure(model(task), task, 0, 0)
    return {row["difficulty"]: row for row in rows}


def test_the_document_itself_is_right(monkeypatch: pytest.MonkeyPatch) -> None:
    planted(monkeypatch, BREVO.hardest(), lambda example, truth: truth)
    rows = measured(BREVO, documents=100)
    row = rows["all"]
    assert row["correct"] == row["exact"] == row["high"] == 1 and 0.9 < row["low"] < 1 and row["unfinished"] == 0
    assert row["questions"] == 100 == sum(rows[d]["questions"] for d in rows if d != "all")
    depths = Corpus(BREVO.hardest(), 0, "test").documents(0, 100).slices["depth"]
    assert {d: row["questions"] for d, row in rows.items() if d != "all"} == {
        str(d): int((depths == d).sum()) for d in np.unique(depths)
    }
    assert row["chance"] == BREVO.hardest().floors(None)["correct"]


def test_another_valid_order_is_right_too(monkeypatch: pytest.MonkeyPatch) -> None:
    planted(monkeypatch, BREVO.hardest(), lambda example, truth: another_order(example))
    row = measured(BREVO, documents=100)["all"]
    assert row["correct"] == 1 and row["exact"] < 0.6


def test_duplicates_are_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    """The released checker compares sets and lets them pass."""

    def doubled(example: Example, truth: np.ndarray) -> np.ndarray:
        words = BREVO.split_names(truth[:-1])
        assert words is not None
        return np.array([*words[0], *truth.tolist()], np.int32)

    planted(monkeypatch, BREVO.hardest(), doubled)
    assert measured(BREVO, documents=50)["all"]["correct"] == 0


def test_who_solves_only_the_easy_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """Right at depth 1, no end in sight elsewhere."""
    planted(monkeypatch, BREVO, lambda e, truth: truth if e.slices["depth"] == 1 else truth[:-1])
    rows = measured(BREVO, documents=200, hardest=False)
    assert rows["1"]["correct"] == 1 and rows["1"]["unfinished"] == 0
    assert rows["2"]["unfinished"] == 1 and rows["2"]["exact"] == 0
    planted(monkeypatch, BREVO, lambda e, truth: truth if e.slices["depth"] == 1 else truth[1:])
    rows = measured(BREVO, documents=200, hardest=False)
    share = rows["1"]["questions"] / 200
    assert rows["2"]["correct"] == 0 and rows["all"]["correct"] == pytest.approx(share) and 0.2 < share < 0.9


def test_answers_without_an_end_are_as_long_as_the_truth(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model of recall goes on writing: only the answer counts. And guesses score chance."""
    planted(monkeypatch, RECALL.hardest(), lambda example, truth: np.concatenate([truth, example.prompt]))
    row = measured(RECALL, documents=60)["all"]
    assert row["correct"] == row["exact"] == 1 and row["unfinished"] == 0
    draw = np.random.default_rng(0)
    planted(monkeypatch, RECALL.hardest(), lambda e, truth: draw.integers(65, 73, 1))
    row = measured(RECALL, documents=1000)["all"]
    assert row["chance"] == 1 / 8 and row["correct"] == pytest.approx(1 / 8, abs=4.5 * 0.0105)


class Reciting(Decoder):
    """After a prompt of recall that it has read, all probability on the value behind the last key."""

    def __init__(self) -> None:
        super().__init__(ModelConfig(1, 1, 8, max_seq_len=64), RECALL.vocab().size)

    def forward(self, inputs: torch.Tensor, caches: object = None) -> torch.Tensor:
        logits = torch.zeros(*inputs.shape, self.vocab_size)
        for row, ids in enumerate(inputs.numpy()):
            told = dict(zip(ids[1:-1:2].tolist(), ids[2:-1:2].tolist(), strict=True))
            logits[row, -1, told[ids[-1].item()]] = 9.0
        return logits


def test_through_the_generator() -> None:
    """Prompts of one length are read at once, so that the forward pass alone decides."""
    rows = SolveRate(documents=300).measure(Reciting(), RECALL, 0, 0)
    assert rows[0]["correct"] == 1
    warm = SolveRate(documents=300, temperature=1.0).measure(Reciting(), RECALL, 0, 0)
    assert warm[0]["correct"] == pytest.approx(np.exp(9) / (np.exp(9) + RECALL.vocab().size - 1), abs=0.03)


def test_an_untrained_model_solves_nothing() -> None:
    rows = SolveRate(documents=40).measure(model(BREVO), BREVO, 0, 0)
    assert rows[0]["correct"] <= 0.1
    assert rows == SolveRate(documents=40).measure(model(BREVO), BREVO, 0, 0)


def test_refusals_name_the_mend() -> None:
    with pytest.raises(UserError, match="build the model with max_seq_len="):
        SolveRate(documents=8).measure(model(BREVO, max_seq_len=30), BREVO, 0, 0)
    cfg = get_task("cfg3f", root="13")
    with pytest.raises(UserError, match="set hardest=False"):
        SolveRate(documents=8).measure(model(cfg), cfg, 0, 0)
    with pytest.raises(UserError, match="not a task of problems"):
        SolveRate(documents=8, hardest=False).measure(model(cfg), cfg, 0, 0)
    for bad in ({"documents": 0}, {"temperature": -1.0}):
        with pytest.raises(UserError, match="at least 1"):
            SolveRate(**bad)


def test_the_cost_counts_the_problems_that_are_asked() -> None:
    assert SolveRate(documents=100).tokens(RECALL) == 100 * (1 + 2 * 6 + 2 * 4)
