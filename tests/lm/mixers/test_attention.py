"""Attention statistics: equal to a naive double loop, much faster, and right on planted attention."""

import sys
import time
from itertools import product
from types import ModuleType

import numpy as np
import pytest
import torch

from lm.config import ModelConfig
from lm.model import build
from probing.grammar.attention_accumulator import AttentionAccumulator, AttentionMeans
from probing.grammar.attention_patterns import AttentionStatistics, label_rows, swap_equal_lengths
from synth import Corpus, UserError, get_task

LAYERS, HEADS, SHIFTS, REACH = 3, 4, 2, 4
TASK = get_task("cfg3f", root="16")  # five levels, 20 to 81 tokens
DEPTH = TASK.world(0).depth
BLOCK = Corpus(TASK, 0, "test").documents(0, 20, labels=True)


def causal_weights(rows: int, length: int, seed: int) -> list[torch.Tensor]:
    """Random attention that prefers some distances and some keys, one tensor a layer."""
    gen = torch.Generator().manual_seed(seed)
    future = torch.ones(length, length).triu(1).bool()
    logits = (2 * torch.randn(rows, HEADS, length, length, generator=gen) for _ in range(LAYERS))
    return [layer.masked_fill(future, -torch.inf).softmax(-1) for layer in logits]


def batches() -> list[tuple[np.ndarray, list[torch.Tensor]]]:
    """The block in batches of five sentences, longest first, with the weights of each."""
    order = np.argsort(-BLOCK.lengths)
    groups = [order[i : i + 5] for i in range(0, len(order), 5)]
    return [(rows, causal_weights(len(rows), int(BLOCK.lengths[rows].max()), int(rows[0]))) for rows in groups]


def streamed(groups, depth: int = DEPTH) -> AttentionMeans:
    sums = AttentionAccumulator(LAYERS, HEADS, depth, int(BLOCK.lengths.max()), SHIFTS, REACH)
    for rows, weights in groups:
        sums.update(weights, *(label_rows(BLOCK, name, rows, weights[0].shape[-1]) for name in ("boundary", "subtree")))
    return sums.result()


def kinds(query: int, key: int, boundary: np.ndarray, subtree: np.ndarray) -> list[tuple]:
    """Every mean that a pair of positions of one sentence takes part in, straight from the definitions."""

    def ends(at: int) -> list[tuple[int, int]]:
        found = []
        for shift in range(-SHIFTS, SHIFTS + 1):
            if 0 <= at + shift < len(boundary) and 2 <= boundary[at + shift] < DEPTH:
                found.append((boundary[at + shift] - 2, shift + SHIFTS))
        return found

    of_query, of_key = ends(query), ends(key)
    found = [("to_end", *one) for one in of_key]
    found += [("end_to_end", *one, *other) for one, other in product(of_query, of_key)]
    first, second = boundary[query], boundary[key]
    if first < DEPTH and second < DEPTH:
        apart = subtree[query, second - 1] - subtree[key, second - 1]
        if apart <= REACH:
            found.append(("adjacent", first - 2, second - 2, apart))
    return found


def naive(groups, layer: int, head: int) -> tuple[dict, dict, dict]:
    """One head's mean weight by distance, and the mean residual and the number of pairs of every kind."""
    sentences = []
    for rows, weights in groups:
        for row, number in enumerate(rows):
            span = slice(BLOCK.offsets[number] + 1, BLOCK.offsets[number + 1] - 1)  # without <bos> and <eos>
            inside = slice(1, int(BLOCK.lengths[number]) - 1)
            one = weights[layer][row, head, inside, inside].double().numpy()
            sentences.append((one, BLOCK.labels["boundary"][span].astype(int), BLOCK.labels["subtree"][span]))
    sums, pairs = {}, {}
    for weights, boundary, _ in sentences:
        for query in range(len(boundary)):
            for key in range(query + 1):
                for place in (query - key, (query, key)):
                    sums[place] = sums.get(place, 0) + weights[query, key]
                    pairs[place] = pairs.get(place, 0) + 1
    means = {place: total / pairs[place] for place, total in sums.items()}
    residual, counted = {}, {}
    for weights, boundary, subtree in sentences:
        for query in range(len(boundary)):
            for key in range(query):
                for kind in kinds(query, key, boundary, subtree):
                    residual[kind] = residual.get(kind, 0) + weights[query, key] - means[query, key]
                    counted[kind] = counted.get(kind, 0) + 1
    position = {place: mean for place, mean in means.items() if isinstance(place, int)}
    return position, {kind: total / counted[kind] for kind, total in residual.items()}, counted


def test_one_streamed_pass_is_the_double_loop_and_fifty_times_faster() -> None:
    groups = batches()
    streamed(groups)  # what is loaded and planned at the first call is no part of either
    clock = time.perf_counter()
    found = streamed(groups)
    fast = time.perf_counter() - clock
    slow = 0.0
    for layer, head in product(range(LAYERS), range(HEADS)):
        clock = time.perf_counter()
        position, residual, counted = naive(groups, layer, head)
        slow += time.perf_counter() - clock
        for distance, mean in position.items():
            assert found.position[layer, head, distance] == pytest.approx(mean, rel=0, abs=1e-6)
        for (name, *axes), mean in residual.items():
            index = (layer, head, *axes)
            assert getattr(found, name)[index] == pytest.approx(mean, rel=0, abs=1e-6), (name, axes)
            assert getattr(found, f"{name}_pairs")[tuple(axes)] == counted[name, *axes]
        for name in ("to_end", "end_to_end", "adjacent"):  # and nothing beside these
            never = getattr(found, f"{name}_pairs") == 0
            assert (~never).sum() == sum(kind[0] == name for kind in residual)
            assert np.isnan(getattr(found, name)[layer, head][never]).all()
    assert slow > 50 * fast, f"{slow:.2f} s against {fast:.4f} s"


def test_batches_do_not_matter() -> None:
    groups = batches()
    single = [(rows[i : i + 1], [layer[i : i + 1] for layer in weights]) for rows, weights in groups for i in range(5)]
    together, apart = vars(streamed(groups)), vars(streamed(single))
    sentences, alone = (found.pop("by_sentence") for found in (together, apart))
    for name in sentences:
        for values, others in zip(sentences[name], alone[name], strict=True):
            np.testing.assert_allclose(values, others, atol=1e-6)
    for name, values in together.items():
        np.testing.assert_allclose(apart[name], values, rtol=0, atol=1e-6, err_msg=name)


def test_attention_by_distance_alone_has_no_residual() -> None:
    """Weights that fall with distance, not normalised: all of the variance is explained and every residual is 0."""

    def falling(length: int) -> torch.Tensor:
        steps = torch.arange(length)
        return (0.8 ** (steps[:, None] - steps).clamp_min(0).float()).tril()

    groups = [(rows, [falling(w.shape[-1]).expand_as(w) for w in weights]) for rows, weights in batches()]
    found = streamed(groups)
    assert np.allclose(found.position_r2, 1, atol=1e-5)
    assert np.allclose(found.position[..., :10], 0.8 ** np.arange(10), atol=1e-6)
    for name in ("to_end", "end_to_end", "adjacent"):
        assert np.nanmax(np.abs(getattr(found, name))) < 1e-6


def test_attention_by_position_alone_has_no_residual() -> None:
    """As of an untrained model: the weight of a key depends on how many keys its query has."""

    def uniform(length: int) -> torch.Tensor:
        return torch.ones(length, length).tril() / torch.arange(1, length + 1)[:, None]

    groups = [(rows, [uniform(w.shape[-1]).expand_as(w) for w in weights]) for rows, weights in batches()]
    found = streamed(groups)
    assert (found.position_r2 < 0.99).all(), "distance alone does not explain it"
    for name in ("to_end", "end_to_end", "adjacent"):
        assert np.nanmax(np.abs(getattr(found, name))) < 1e-6
    assert all(np.abs(sums).max() < 1e-5 for sums, _ in found.by_sentence.values())


def test_summaries_are_the_means_of_their_kinds() -> None:
    found = streamed(batches())
    at = SHIFTS
    pairs = found.end_to_end_pairs[:, at, :, at]
    expected = {"end_to_end": (found.end_to_end[:, :, :, at, :, at], pairs)}
    expected["adjacent"] = (found.adjacent[..., 1], found.adjacent_pairs[..., 1])
    expected["farther"] = (found.adjacent[..., 2:], found.adjacent_pairs[..., 2:])
    for name, (means, counts) in expected.items():
        sums, by_sentence = found.by_sentence[name]
        assert by_sentence.sum() == counts.sum() > 0
        total = (np.nan_to_num(means.mean((0, 1))) * counts).sum()
        assert sums.sum() == pytest.approx(total, abs=1e-6)


def test_swapped_trees_are_of_sentences_of_the_same_length() -> None:
    lengths = np.array([5, 7, 5, 9, 7, 5])
    assert swap_equal_lengths(lengths).tolist() == [2, 4, 5, 3, 1, 0]


class Planted(torch.nn.Module):
    """A stand-in for a trained model: every end of level 2 looks at the end of the subtree before its own."""

    config = ModelConfig(LAYERS, HEADS, 24, max_seq_len=128)


def plant(numbers: np.ndarray, block) -> list[torch.Tensor]:
    weights = torch.zeros(len(numbers), HEADS, int(block.lengths[numbers].max()), int(block.lengths[numbers].max()))
    for row, number in enumerate(numbers):
        weights[row, :, : block.lengths[number], 0] = 1.0
        ends = np.flatnonzero(block[int(number)].labels["boundary"] == 2)
        for before, end in zip(ends[:-1], ends[1:], strict=True):
            weights[row, :, end, 0], weights[row, :, end, before] = 0.0, 1.0
    return [weights] * LAYERS


class Batch(dict):
    """A batch as lm.inference.activations gives it: tensors by name, and the numbers of its documents."""

    def __init__(self, tensors: dict[str, torch.Tensor], rows: np.ndarray) -> None:
        super().__init__(tensors)
        self.tensors, self.rows = tensors, rows


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch) -> Planted:
    """In the place of lm.inference.activations, a generator that gives planted weights."""
    fake = ModuleType("lm.inference.activations")

    def iter_activations(model, documents, wanted):
        block = Corpus(TASK, 0, "test").documents(0, len(documents), labels=True)
        assert wanted == "block.*.weights"
        for first in range(0, len(documents), 7):
            rows = np.arange(first, min(first + 7, len(documents)))
            yield Batch({f"block.{i}.weights": layer for i, layer in enumerate(plant(rows, block))}, rows)

    fake.iter_activations = iter_activations  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "lm.inference.activations", fake)
    return Planted()


def test_a_mean_over_layers_is_the_mean_of_their_rows(planted: Planted) -> None:
    settings = {"sentences": 30, "reach": 3, "distances": 5}
    each = AttentionStatistics(**settings).measure(planted, TASK, 0, 0)
    mean = AttentionStatistics(**settings, by_layer=False).measure(planted, TASK, 0, 0)

    def labels(row: dict) -> tuple:
        return tuple(sorted((k, v) for k, v in row.items() if k not in ("layer", "value")))

    for row in mean:
        if row["statistic"] in ("position", "explained", "map", "summary"):
            assert row in each
        else:
            values = [one["value"] for one in each if labels(one) == labels(row)]
            assert len(values) == LAYERS and row["value"] == pytest.approx(sum(values) / LAYERS)
    assert {r["statistic"] for r in mean} == {r["statistic"] for r in each}
    with pytest.raises(UserError, match="by_layer=True"):
        AttentionStatistics(by_head=True, by_layer=False)


@pytest.mark.parametrize("by_head", [False, True])
def test_planted_attention_is_found(planted: Planted, by_head: bool) -> None:
    evaluation = AttentionStatistics(sentences=30, reach=3, distances=5, by_head=by_head)
    rows = evaluation.measure(planted, TASK, 0, 0)
    summaries = {row["kind"]: row for row in rows if row["statistic"] == "summary"}
    assert summaries["adjacent"]["value"] > 5 * summaries["adjacent"]["error"] > 0 > summaries["farther"]["value"]
    control = AttentionStatistics(sentences=300, reach=3, swapped=True).measure(planted, TASK, 0, 0)
    control = {row["kind"]: row for row in control if row["statistic"] == "summary"}
    assert abs(control["adjacent"]["value"]) < 0.2 * summaries["adjacent"]["value"]
    rows = [row for row in rows if row["statistic"] != "summary"]
    maps = [row for row in rows if row["statistic"] == "map"]
    assert len(maps) == LAYERS * HEADS and all(row["value"] > 0.03 for row in maps)
    assert {row["layer"] for row in rows} == {1, 2, 3}
    adjacent = [r for r in rows if r["statistic"] == "adjacent" and r["query_level"] == r["key_level"] == 2]
    value = {row["apart"]: row["value"] for row in adjacent}
    assert value[1] > 0.5 and 0 not in value and value[2] <= 0
    assert len(adjacent) == LAYERS * (HEADS if by_head else 1) * 2
    assert all(("head" in row) == (by_head or row["statistic"] in ("position", "explained", "map")) for row in rows)
    near = {
        (row["query_shift"], row["key_shift"]): row["value"]
        for row in rows
        if row["statistic"] == "end_to_end" and row["query_level"] == row["key_level"] == 2
    }
    assert len(near) == 25 and max(near, key=near.__getitem__) == (0, 0)
    assert {row["distance"] for row in rows if row["statistic"] == "position"} == set(range(5))
    assert all(row["pairs"] > 0 and np.isfinite(row["value"]) for row in rows)
    assert len({tuple(sorted((k, v) for k, v in r.items() if k not in ("value", "pairs"))) for r in rows}) == len(rows)


def test_a_real_model_is_measured() -> None:
    pytest.importorskip("lm.inference.activations")
    model = build(ModelConfig(12, 2, 8, max_seq_len=128, init_std=0.5), TASK.vocab().size, 0)
    rows = AttentionStatistics(sentences=20).measure(model, TASK, 0, 0)
    position = [row for row in rows if row["statistic"] == "position" and row["distance"] == 0]
    assert {(row["layer"], row["head"]) for row in position} == set(product(range(1, 13), (1, 2)))
    assert all(0 < row["value"] < 1 for row in position)
    assert all(0 < row["value"] < 1 for row in rows if row["statistic"] == "explained")


@pytest.mark.parametrize(
    ("settings", "named"), [({"sentences": 0}, "sentences"), ({"reach": 0}, "reach"), ({"shifts": -1}, "shifts")]
)
def test_bad_settings_are_named(settings: dict, named: str) -> None:
    with pytest.raises(UserError, match=named):
        AttentionStatistics(**settings)


def test_what_cannot_be_measured_is_refused() -> None:
    model = build(ModelConfig(1, 1, 8, max_seq_len=16), TASK.vocab().size, 0)
    with pytest.raises(UserError, match="max_seq_len=16"):
        AttentionStatistics(sentences=5).measure(model, TASK, 0, 0)
    with pytest.raises(UserError, match="whose truth is a grammar"):
        AttentionStatistics(sentences=5).measure(model, get_task("bioD"), 0, 0)
    with pytest.raises(UserError, match="levels"):
        AttentionAccumulator(1, 1, depth=2, longest=8)
    sums = AttentionAccumulator(1, 1, DEPTH, longest=8)
    with pytest.raises(UserError, match="do not fit an AttentionAccumulator"):
        sums.update([torch.zeros(1, 1, 9, 9)], torch.zeros(1, 9).long(), torch.zeros(1, 9, DEPTH).long())
