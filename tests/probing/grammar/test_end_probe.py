"""The probe of subtree ends against planted trees, scikit-learn's optimum, and bad input."""

import numpy as np
import pytest
import torch

from lm.config import ModelConfig
from lm.model import build
from probing.grammar.end_probe import NEIGHBOURS, EndProbe
from probing.grammar.parse_states import HiddenStateSampler, ProbeTarget
from synth import UserError
from tests.probing.grammar.test_ancestor_probe import TASK, PlantedTree

QUICK = EndProbe(max_ends=600, sentences=300)


def test_a_planted_symbol_is_read_at_its_end_and_from_the_neighbours() -> None:
    rows = QUICK.measure(PlantedTree(), TASK, 0)
    assert {(row["layer"], row["level"]) for row in rows} == {(n, lv) for n in ("embed", "block.0") for lv in (2, 3)}
    assert [row["offset"] for row in rows[:5]] == ["-2", "-1", "0", "1", "2"]
    for row in rows:
        assert row["converged"], row
        if row["offset"] in ("0", NEIGHBOURS):
            assert row["accuracy"] == 1 and row["groups"] > 100, row
        if row["offset"] in ("1", "2"):  # states of the next subtree
            assert row["accuracy"] < 0.8, row
    assert len({row["n"] for row in rows if row["level"] == 3}) == 1, "offsets are compared on the same ends"


@pytest.mark.parametrize("model", [PlantedTree(felled=True)])
def test_where_nothing_is_planted_nothing_is_read(model: PlantedTree) -> None:
    for row in QUICK.measure(model, TASK, 0):
        assert row["low"] - 0.03 < row["majority"] and abs(row["mcc"]) < 0.12, row
    for row in EndProbe(max_ends=600, sentences=300, reach=0, shuffled=True).measure(PlantedTree(), TASK, 0):
        assert row["accuracy"] < 0.75, row


def test_the_optimum_is_that_of_scikit_learn() -> None:
    linear_model = pytest.importorskip("sklearn.linear_model", reason="scikit-learn is an extra (dev)")
    model = build(ModelConfig(1, 2, 16, max_seq_len=32), TASK.vocab().size, 0)
    probe = EndProbe(layers=("block.0",), reach=0, max_ends=500, sentences=200)
    sampler = HiddenStateSampler(model, TASK, 0, probe.layers, ProbeTarget(ends_only=True), 60)
    training = probe._collect(sampler.training_batches(500), 2, 500)
    test = probe._collect(sampler.test_batches(200), 2)
    for row, fitted, held in zip(probe.measure(model, TASK, 0), training, test, strict=True):
        theirs = linear_model.LogisticRegression(C=1.0, max_iter=5000, tol=1e-8)
        theirs.fit(fitted.states[0, :, 0].double().numpy(), fitted.labels)
        accuracy = theirs.score(held.states[0, :, 0].double().numpy(), held.labels)
        assert row["accuracy"] == pytest.approx(accuracy, abs=0.005)


def test_an_encoder_is_read_with_the_end_token_that_it_was_trained_with() -> None:
    config = ModelConfig(1, 2, 16, max_seq_len=32, causal=False)
    model = build(config, config.model_vocab_size(TASK.vocab()), 0)
    seen: list[torch.Tensor] = []
    original = model.embed_tokens
    model.embed_tokens = lambda tokens, index: seen.append(tokens) or original(tokens, index)  # type: ignore[method-assign]
    rows = QUICK.measure(model, TASK, 0)
    assert rows and all((tokens == TASK.vocab().eos).any(1).all() for tokens in seen)


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"reach": -1}, "^reach=-1"), ({"max_ends": 0}, "^max_ends=0"), ({"inverse_regularization": 0.0}, "above 0")],
)
def test_bad_input_is_one_line(changes: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        EndProbe(**changes)


def test_a_level_without_ends_has_no_row() -> None:
    rows = EndProbe(reach=20, max_ends=10, sentences=10).measure(PlantedTree(), TASK, 0)
    assert rows == [] and np.isfinite(QUICK.tokens(TASK))
