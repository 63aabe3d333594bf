"""The ancestor probe against planted trees, felled ones, exchanged answers and bad input."""

import numpy as np
import pytest
import torch
from torch import nn

from lm.config import ModelConfig
from lm.model import Decoder, build
from probing.grammar.ancestor_probe import AncestorProbe
from synth import Corpus, UserError, get_task
from synth.tasks.cfg import Cfg

TASK = Cfg("cfg3b", "14")  # thousands of sentences of 18 to 27 tokens, each with one parse; levels 2 and 3 are probed
QUICK = {"heads": 4, "position_width": 16, "updates": 150, "batch_size": 32, "lr": 1e-2, "sentences": 200}


def parses() -> dict[bytes, np.ndarray]:
    """Ancestors and b# (T, L + 1) of every sentence that the probe will meet."""
    known = {}
    for split in ("valid", "test"):
        block = Corpus(TASK, 0, split).documents(0, 8192, labels=True)
        for i in range(len(block)):
            labels = [block[i].labels["ancestor"], block[i].labels["boundary"][:, None]]
            known[block[i].tokens[1:-1].tobytes()] = np.concatenate(labels, 1)[1:-1]
    return known


class PlantedTree(Decoder):
    """Its residual stream holds noise and, until the tree is felled, the one-hot ancestors of a position at both
    levels and whether their subtrees end there."""

    def __init__(self, felled: bool = False) -> None:
        super().__init__(ModelConfig(1, 1, 16, max_seq_len=32, mlp="none"), TASK.vocab().size)
        self.known, self.felled = parses(), felled
        nn.init.zeros_(self.blocks[0].mixer.out.weight)
        nn.init.zeros_(self.blocks[0].mixer.out.bias)

    def embed_tokens(self, inputs: torch.Tensor, index: torch.Tensor | int) -> torch.Tensor:
        states = torch.randn(*inputs.shape, 16, generator=torch.Generator().manual_seed(int(inputs.sum())))
        for row, tokens in zip(states, inputs.numpy().astype(np.int32), strict=True):
            sentence = tokens[1 : 1 + (tokens[1:] > 0).sum()]  # padding is 0 and stands to the right
            if not self.felled:
                tree, real = torch.from_numpy(self.known[sentence.tobytes()]).long(), row[1 : len(sentence) + 1]
                real[:, 2:5] = 5.0 * nn.functional.one_hot(tree[:, 1], 3)
                real[:, 7:10] = 5.0 * nn.functional.one_hot(tree[:, 2], 3)
                real[:, 11:13] = 5.0 * (tree[:, 4:] <= torch.tensor([2, 3]))
        return states


@pytest.mark.parametrize("asked", [{}, {"mode": "tridiagonal", "ends_only": True}, {"mode": "diagonal"}])
def test_a_planted_tree_is_read_in_full(asked: dict) -> None:
    rows = AncestorProbe(**QUICK, **asked).measure(PlantedTree(), TASK, 0, 0)
    assert [(row["layer"], row["level"]) for row in rows] == [(n, lv) for n in ("embed", "block.0") for lv in (2, 3)]
    for row in rows:
        assert row["accuracy"] == 1 and row["mcc"] == 1 and 150 < row["groups"] <= 200, row
        assert row["majority"] < 0.5
    everywhere = 200 * TASK.world().mean_length
    assert rows[0]["n"] == pytest.approx(600 if asked.get("ends_only") else everywhere, rel=0.02)


def test_where_no_tree_is_planted_none_is_read() -> None:
    for row in AncestorProbe(**QUICK, mode="diagonal", layers=("embed",)).measure(PlantedTree(felled=True), TASK, 0):
        assert row["low"] - 0.02 < row["majority"] and abs(row["mcc"]) < 0.05


def test_answers_of_other_sentences_cannot_be_read() -> None:
    """The planted tree no longer tells: nothing is left but what the number of a position tells of its ancestors."""
    trees = parses().values()
    counts = np.zeros((27, 2, 3))
    for tree in trees:
        for level in (0, 1):
            counts[np.arange(len(tree)), level, tree[:, level + 1]] += 1
    by_position = counts.max(-1).sum(0) / counts.sum((0, 2))
    rows = AncestorProbe(**QUICK, layers=("embed",), shuffled=True).measure(PlantedTree(), TASK, 0)
    for row, most in zip(rows, by_position, strict=True):
        assert row["accuracy"] < most + 0.03, (row, most)
    felled = AncestorProbe(**QUICK, layers=("embed",), shuffled=True).measure(PlantedTree(felled=True), TASK, 0)
    assert all(abs(row["mcc"]) < 0.05 for row in felled)


def test_planted_ends_of_subtrees_are_read_where_they_stand() -> None:
    probe = AncestorProbe(**QUICK, target="boundary", mode="diagonal", layers=("embed",))
    for row in probe.measure(PlantedTree(), TASK, 0):
        assert row["accuracy"] == 1 and row["mcc"] == 1 and 0.5 < row["majority"] < 0.9, row
    assert all(abs(row["mcc"]) < 0.05 for row in probe.measure(PlantedTree(felled=True), TASK, 0))


def test_a_sentence_that_comes_often_is_one_group() -> None:
    """A grammar of 16 sentences: however many are asked for, few are distinct, and they were not learned on."""
    task = Cfg("cfg3b", "10")
    rows = AncestorProbe(**QUICK).measure(build(ModelConfig(1, 2, 16), task.vocab().size, 0), task, 0)
    assert all(1 <= row["groups"] < 8 and row["n"] >= 200 * task.world().min_length for row in rows)


def test_a_fresh_decoder_end_to_end() -> None:
    model = build(ModelConfig(2, 2, 16, max_seq_len=32), TASK.vocab().size, 0).train()
    probe = AncestorProbe(**{**QUICK, "updates": 20}, layers=("block.*", "final"))
    first, again = (probe.measure(model, TASK, 0, 3) for _ in range(2))
    assert first == again and model.training
    assert [row["layer"] for row in first] == ["block.0", "block.0", "block.1", "block.1", "final", "final"]
    assert all(0 < row["low"] <= row["accuracy"] <= row["high"] < 1 and row["groups"] > 150 for row in first)
    assert probe.tokens(TASK) == pytest.approx((20 * 32 + 200) * (TASK.world().mean_length + 1), abs=1)


@pytest.mark.parametrize(
    ("changes", "task", "size", "message"),
    [
        ({"layers": ("block.7",)}, TASK, 6, "^no activation is called 'block.7'; there are: embed, block.0.attn"),
        ({"layers": ("block.0.weights",)}, TASK, 6, "'block.0.weights'"),
        ({}, TASK, 9, "^the model has 9 tokens and cfg3b needs 6; probe it on the grammar"),
        ({}, get_task("cfg3b", root="20"), 6, "tokens do not fit max_seq_len=32"),
        ({}, get_task("cfg3b", root="8"), 6, "no level between"),
        ({}, get_task("bioS", people=4), 6, "parse tree; bioS has none"),
        ({"lr": 0.0}, TASK, 6, "^lr=0.0 trains nothing"),
        ({"heads": 0}, TASK, 6, "^heads=0 is too small"),
        ({"target": "boundary", "ends_only": True}, TASK, 6, "ends_only=False"),
    ],
)
def test_bad_input_is_one_line(changes: dict, task: Cfg, size: int, message: str) -> None:
    model = build(ModelConfig.gpt2(1, 2, 8, max_seq_len=32), size, 0)
    with pytest.raises(UserError, match=message) as raised:
        AncestorProbe(**{**QUICK, **changes}).measure(model, task, 0)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", ["target", "mode"])
def test_unknown_words_are_named(name: str) -> None:
    word = AncestorProbe()
    object.__setattr__(word, name, "wide")  # the tests' type checker would refuse it before we could
    with pytest.raises(UserError, match=f"^{name}='wide' is unknown; choose one of"):
        word.__post_init__()


def test_an_encoder_is_read_and_its_mask_is_no_symbol() -> None:
    config = ModelConfig(1, 2, 16, max_seq_len=32, causal=False)
    model = build(config, config.model_vocab_size(TASK.vocab()), 0)
    rows = AncestorProbe(**QUICK | {"updates": 20}).measure(model, TASK, 0, 0)
    assert len(rows) == 4 and all(row["n"] > 0 for row in rows)
    with pytest.raises(UserError, match="has 6 tokens and cfg3b needs 7"):
        AncestorProbe(**QUICK).measure(build(config, TASK.vocab().size, 0), TASK, 0, 0)
