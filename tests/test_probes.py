"""The probes as instruments: they find what was planted and nothing in noise, and equal a naive computation."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch import nn

from experiments.harness.stats import interval
from lm.config import ModelConfig
from lm.model import Decoder, build
from probing.ancestors import AncestorProbe
from probing.linear import Batch, PositionProbes, fit
from probing.plain import linear_probe, logistic
from probing.scores import exchanged, grouped_interval, held_out, matthews, settled
from synth import Corpus, UserError, get_task
from synth.tasks.cfg import Cfg

TASK = Cfg("cfg3b", "14")  # thousands of sentences of 18 to 27 tokens, each with one parse; levels 2 and 3 are probed
QUICK = {"heads": 4, "position_width": 16, "updates": 150, "batch": 32, "rate": 1e-2, "sentences": 200}


# ---- scores ---------------------------------------------------------------------------------------------------------
def test_matthews_of_two_classes_is_the_textbook_formula() -> None:
    tp, fn, fp, tn = 9, 3, 2, 11
    textbook = (tp * tn - fp * fn) / np.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
    table = np.array([[[tp, fn], [fp, tn]], [[10, 0], [5, 0]], [[4, 0], [0, 7]]])
    assert matthews(table) == pytest.approx([textbook, 0, 1])


def test_the_interval_counts_groups_and_not_rows() -> None:
    hits, counts = np.array([3, 9, 6, 8, 0]), np.full(5, 10)
    by_group = interval(hits / 10)
    assert grouped_interval(hits, counts) == pytest.approx((max(by_group.low, 0), by_group.high))
    assert grouped_interval(10 * hits, 10 * counts) == pytest.approx(grouped_interval(hits, counts))
    assert np.isnan(grouped_interval(np.array([3, 0]), np.array([4, 0]))).all()


def test_groups_are_never_split() -> None:
    groups = np.repeat(np.arange(50), np.arange(1, 51))
    test = held_out(groups, 0.2, 3)
    assert len(np.unique(groups[test])) == 10 and not np.isin(groups[~test], groups[test]).any()
    labels = groups * 100 + np.arange(len(groups)) - np.searchsorted(groups, groups)
    others = exchanged(labels, groups, 3)
    assert (others // 100 != groups).all()
    owner = {(g, o) for g, o in zip(groups, others // 100, strict=True)}
    assert len(owner) == 50, "a group has the labels of more than one"


def test_at_rest_or_not() -> None:
    steps = np.arange(200.0)[:, None]
    losses = np.concatenate([np.exp(-steps / 100), 0.5 + 0 * steps, 1e-3 * np.exp(-steps / 50)], 1)
    assert settled(losses).tolist() == [False, True, True]
    assert not settled(losses[:19]).any()


# ---- the plain probe ------------------------------------------------------------------------------------------------
def test_the_plain_probe_is_the_optimum() -> None:
    """Of scikit-learn's objective, sum of losses + |w|^2 / (2 C), found here by another solver, one layer at a time."""
    rng = np.random.default_rng(0)
    features, n, width, classes = rng.standard_normal((3, 80, 5)) * np.array([1, 3, 0.3])[:, None, None], 80, 5, 3
    labels = rng.integers(0, classes, n)
    found = logistic(torch.from_numpy(features), torch.from_numpy(labels), classes, strength=0.7)
    assert found.converged.all()
    for s in range(3):

        def loss(flat: np.ndarray, rows: np.ndarray = features[s]) -> float:
            weight, bias = flat[: width * classes].reshape(width, classes), flat[width * classes :]
            logits = rows @ weight + bias
            top = logits.max(1, keepdims=True)
            said = logits - top - np.log(np.exp(logits - top).sum(1, keepdims=True))
            return -said[np.arange(n), labels].sum() + (weight**2).sum() / 1.4

        best = minimize(loss, np.zeros(classes * (width + 1)), method="BFGS", options={"gtol": 1e-4, "maxiter": 2000}).x
        assert found.weight[s].numpy() == pytest.approx(best[: width * classes].reshape(width, classes), abs=1e-3)
        differences = best[width * classes :] - best[width * classes]  # a shift of all biases changes nothing
        assert (found.bias[s, 0] - found.bias[s, 0, 0]).numpy() == pytest.approx(differences, abs=1e-3)


@pytest.fixture
def planted() -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """40 groups of 25 rows: a layer with the label in a direction, one of noise, one that only names the group."""
    rng = np.random.default_rng(1)
    groups = np.repeat(np.arange(40), 25)
    labels = np.where(rng.random(40) < 0.5, 4, 7)[groups]
    signal = np.outer(labels == 4, rng.standard_normal(60)) + 0.1 * rng.standard_normal((1000, 60))
    named = rng.standard_normal((40, 60))[groups] + 0.1 * rng.standard_normal((1000, 60))
    return {"signal": signal, "noise": rng.standard_normal((1000, 60)), "leak": named}, labels, groups


def test_a_planted_signal_is_found_and_noise_is_not(planted) -> None:
    states, labels, groups = planted
    rows = {row["layer"]: row for row in linear_probe(states, labels, groups, test_share=0.5)}
    assert rows["signal"]["accuracy"] == 1 and rows["signal"]["mcc"] == 1 and rows["signal"]["converged"]
    assert abs(rows["noise"]["mcc"]) < 0.15 and rows["noise"]["low"] < rows["noise"]["majority"]
    assert rows["signal"]["groups"] == 20 and rows["signal"]["n"] == 500


def test_a_leak_by_group_is_gone_under_a_split_by_group(planted) -> None:
    states, labels, groups = planted
    leaking = linear_probe({"leak": states["leak"]}, labels, np.arange(1000))[0]
    assert leaking["accuracy"] > 0.99
    honest = linear_probe({"leak": states["leak"]}, labels, groups, test_share=0.5)[0]
    assert honest["accuracy"] < 0.8 and honest["low"] < honest["majority"]


def test_shuffled_labels_give_no_signal(planted) -> None:
    states, labels, groups = planted
    row = linear_probe({"signal": states["signal"]}, labels, groups, test_share=0.5, shuffled=True)[0]
    assert row["accuracy"] < row["majority"] + 0.1 and abs(row["mcc"]) < 0.3


def test_classes_that_were_never_taught_are_left_out_and_counted(planted) -> None:
    states, labels, groups = planted
    test = held_out(groups, 0.2, 0)
    rare = np.where(groups == groups[test][0], 9, labels)
    row = linear_probe(states, rare, groups)[0]
    assert row["unseen"] == 25 and row["n"] == test.sum() - 25 and row["accuracy"] == 1


@pytest.mark.parametrize(("groups", "labels"), [(np.zeros(4, int), np.arange(4)), (np.arange(4), np.zeros(4, int))])
def test_too_little_to_learn_on_is_one_line(groups: np.ndarray, labels: np.ndarray) -> None:
    with pytest.raises(UserError, match="give .*groups"):
        linear_probe({"a": np.ones((4, 2))}, labels, groups)


# ---- the position-based probe ---------------------------------------------------------------------------------------
@pytest.mark.parametrize("reach", [None, 0, 1])
def test_the_probe_is_equation_4_2(reach: int | None) -> None:
    layers, width, length, classes = 2, 5, 7, [3, 2]
    probes = PositionProbes(layers, classes, width, 9, heads=3, position_width=4, reach=reach, seed=1)
    with torch.no_grad():
        probes.bias.normal_(generator=torch.Generator().manual_seed(0))
    lengths = torch.tensor([7, 4, 1])
    states = torch.randn(layers, 3, length, width, generator=torch.Generator().manual_seed(2))
    states *= (torch.arange(length) < lengths[:, None])[..., None]
    logits = probes(states, lengths)
    assert logits.shape == (layers, 2, 3, length, 3) and (logits[:, 1, ..., 2] == -torch.inf).all()
    for y, v, b in np.ndindex(layers, 2, 3):
        n = int(lengths[b])
        for i in range(n):
            total = probes.bias[y, v, 0, 0].clone()
            for r in range(probes.heads):
                near = [k for k in range(n) if reach is None or abs(i - k) <= reach]
                if probes.positions is None:
                    weights = torch.ones(1)
                else:
                    P = probes.positions[y, v, r]
                    weights = torch.stack([P[i] @ P[k] for k in near]).softmax(0)
                for w, k in zip(weights, near, strict=True):
                    total = total + w * (states[y, b, k] @ probes.weight[y, :, v, r])
            torch.testing.assert_close(logits[y, v, b, i, : classes[v]], total[: classes[v]], rtol=1e-4, atol=1e-5)


def test_probes_do_not_depend_on_their_company() -> None:
    """Fitted together or alone, a probe ends in the same place: Adam scales each parameter by itself."""
    generator = torch.Generator().manual_seed(0)
    states, lengths = torch.randn(2, 6, 5, 3, generator=generator), torch.full((6,), 5)
    labels = torch.randint(0, 2, (1, 6, 5), generator=generator)
    pair, alone = (PositionProbes(n, [2], 3, 5, heads=2, position_width=4) for n in (2, 1))
    with torch.no_grad():
        for mine, theirs in zip(alone.parameters(), pair.parameters(), strict=True):
            mine.copy_(theirs[1:])
    both = fit(pair, [Batch(states, lengths, labels)] * 40, 40)
    one = fit(alone, [Batch(states[1:], lengths, labels)] * 40, 40)
    np.testing.assert_allclose(both[:, 1:], one, rtol=1e-4)
    assert (one[-1] < one[0]).all()


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
        super().__init__(ModelConfig(1, 1, 16, context=32, mlp="none"), TASK.vocab().size)
        self.known, self.felled = parses(), felled
        nn.init.zeros_(self.blocks[0].mixer.out.weight)
        nn.init.zeros_(self.blocks[0].mixer.out.bias)

    def embedded(self, inputs: torch.Tensor, index: torch.Tensor | int) -> torch.Tensor:
        states = torch.randn(*inputs.shape, 16, generator=torch.Generator().manual_seed(int(inputs.sum())))
        for row, tokens in zip(states, inputs.numpy().astype(np.int32), strict=True):
            sentence = tokens[1 : 1 + (tokens[1:] > 0).sum()]  # padding is 0 and stands to the right
            if not self.felled:
                tree, real = torch.from_numpy(self.known[sentence.tobytes()]).long(), row[1 : len(sentence) + 1]
                real[:, 2:5] = 5.0 * nn.functional.one_hot(tree[:, 1], 3)
                real[:, 7:10] = 5.0 * nn.functional.one_hot(tree[:, 2], 3)
                real[:, 11:13] = 5.0 * (tree[:, 4:] <= torch.tensor([2, 3]))
        return states


@pytest.mark.parametrize("asked", [{}, {"mode": "tridiagonal", "ends": True}, {"mode": "diagonal"}])
def test_a_planted_tree_is_read_in_full(asked: dict) -> None:
    rows = AncestorProbe(**QUICK, **asked).measure(PlantedTree(), TASK, 0, 0)
    assert [(row["layer"], row["level"]) for row in rows] == [(n, lv) for n in ("embed", "block.0") for lv in (2, 3)]
    for row in rows:
        assert row["accuracy"] == 1 and row["mcc"] == 1 and row["groups"] == 200, row
        assert row["majority"] < 0.5
    everywhere = 200 * TASK.world().mean_length
    assert rows[0]["n"] == pytest.approx(600 if asked.get("ends") else everywhere, rel=0.02)


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


def test_a_fresh_decoder_end_to_end() -> None:
    model = build(ModelConfig(2, 2, 16, context=32), TASK.vocab().size, 0).train()
    probe = AncestorProbe(**{**QUICK, "updates": 20}, layers=("block.*", "final"))
    first, again = (probe.measure(model, TASK, 0, 3) for _ in range(2))
    assert first == again and model.training
    assert [row["layer"] for row in first] == ["block.0", "block.0", "block.1", "block.1", "final", "final"]
    assert all(0 < row["low"] <= row["accuracy"] <= row["high"] < 1 and row["groups"] == 200 for row in first)
    assert probe.tokens(TASK) == pytest.approx((20 * 32 + 200) * (TASK.world().mean_length + 1), abs=1)


@pytest.mark.parametrize(
    ("changes", "task", "size", "message"),
    [
        ({"layers": ("block.7",)}, TASK, 6, "^no activation is called 'block.7'; there are: embed, block.0.attn"),
        ({"layers": ("block.0.weights",)}, TASK, 6, "'block.0.weights'"),
        ({}, TASK, 9, "^the model has 9 tokens and cfg3b has 6; probe it on the grammar"),
        ({}, get_task("cfg3b", root="20"), 6, "tokens do not fit context=32"),
        ({}, get_task("cfg3b", root="8"), 6, "no level between"),
        ({}, get_task("bioS", people=4), 6, "parse tree; bioS has none"),
        ({"heads": 0}, TASK, 6, "^heads=0 is too small"),
        ({"target": "boundary", "ends": True}, TASK, 6, "ends=False"),
    ],
)
def test_bad_input_is_one_line(changes: dict, task: Cfg, size: int, message: str) -> None:
    model = build(ModelConfig.gpt2(1, 2, 8, context=32), size, 0)
    with pytest.raises(UserError, match=message) as raised:
        AncestorProbe(**{**QUICK, **changes}).measure(model, task, 0)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", ["target", "mode"])
def test_unknown_words_are_named(name: str) -> None:
    word = AncestorProbe()
    object.__setattr__(word, name, "wide")  # the tests' type checker would refuse it before we could
    with pytest.raises(UserError, match=f"^{name}='wide' is unknown; choose one of"):
        word.__post_init__()
