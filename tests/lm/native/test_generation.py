"""The compiled sampler draws what the plain path draws."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from lively_models import BASE, CONFIGS, VOCAB, lively

import lm.inference.sampling as sampling
from lm.config import ModelConfig
from lm.inference.sampling import generate, no_progress
from lm.model import Decoder, build
from lm.native import generation, objective
from lm.native.build import load_library
from lm.native.generation import can_generate, slots_for

pytestmark = pytest.mark.skipif(load_library() is None, reason="no compiler here, so there are no kernels to compare")
PROMPTS = [[3, 1, 4, 1, 5, 9, 2, 6][: 1 + i % 8] for i in range(37)]
Draw = Callable[[Decoder], list[np.ndarray]]


def both(model: Decoder, draw: Draw, monkeypatch: pytest.MonkeyPatch) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """What the kernels draw, and what the plain path draws."""
    assert can_generate(model)
    compiled = draw(model)
    monkeypatch.setattr(sampling, "can_generate", lambda _: False)
    return compiled, draw(model)


def assert_same(found: list[np.ndarray], expected: list[np.ndarray]) -> None:
    assert [each.tolist() for each in found] == [each.tolist() for each in expected]
    assert all(each.dtype == np.int32 for each in found)


@pytest.mark.parametrize("temperature", [0, 0.7])
@pytest.mark.parametrize("name", CONFIGS)
def test_samples_are_those_of_the_plain_path(name: str, temperature: float, monkeypatch: pytest.MonkeyPatch) -> None:
    def draw(model: Decoder) -> list[np.ndarray]:
        return generate(model, PROMPTS, 20, temperature, eos=7, seed=5, progress=no_progress)

    found, expected = both(lively(CONFIGS[name]), draw, monkeypatch)
    assert_same(found, expected)
    assert len(set(map(len, found))) > 1 or temperature == 0


@pytest.mark.parametrize("slots", [1, 3, 100])
def test_the_number_of_sequences_at_a_time_changes_nothing(slots: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generation, "slots_for", lambda *_: slots)
    found, expected = both(
        lively(BASE), lambda model: generate(model, PROMPTS, 30, eos=7, progress=no_progress), monkeypatch
    )
    assert_same(found, expected)


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_the_batch_changes_nothing(batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    found, expected = both(
        lively(BASE), lambda model: generate(model, PROMPTS, 9, eos=7, batch=batch, progress=no_progress), monkeypatch
    )
    assert_same(found, expected)


@pytest.mark.parametrize(("batch", "most"), [(1, 1), (8, 8), (1000, len(PROMPTS))])
def test_no_more_sequences_are_in_memory_than_the_batch(batch: int, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    slots, call = [], generation._generate_tokens()

    def record(settings: Any) -> None:
        slots.append(settings._obj.slots)
        call(settings)

    monkeypatch.setattr(generation, "_generate_tokens", lambda: record)
    generate(lively(BASE), PROMPTS, 3, batch=batch, progress=no_progress)
    assert max(slots) == -(-most // torch.get_num_threads())


@pytest.mark.parametrize("threads", [1, 2])
def test_threads_change_nothing(threads: int) -> None:
    model, before = lively(BASE), torch.get_num_threads()
    drawn = []
    try:
        for count in (1, threads):
            torch.set_num_threads(count)
            drawn.append(generate(model, PROMPTS, 12, progress=no_progress))
    finally:
        torch.set_num_threads(before)
    assert_same(drawn[1], drawn[0])


def test_calls_may_be_split() -> None:
    model = lively(BASE)
    whole = generate(model, PROMPTS, 9, eos=7, progress=no_progress)
    parts = [generate(model, PROMPTS[a:b], 9, eos=7, first=a, progress=no_progress) for a, b in ((0, 5), (5, 37))]
    assert_same([*parts[0], *parts[1]], whole)


@pytest.mark.parametrize("budget", [1, 2])
def test_one_sequence_and_few_tokens(budget: int, monkeypatch: pytest.MonkeyPatch) -> None:
    found, expected = both(
        lively(BASE), lambda model: generate(model, [[2]], budget, progress=no_progress), monkeypatch
    )
    assert_same(found, expected)
    assert len(found[0]) == budget


def test_the_whole_context_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    model = lively(CONFIGS["learned"])
    length = model.config.max_seq_len
    found, expected = both(
        model, lambda model: generate(model, [[1] * 40, [2]], length - 39, progress=no_progress), monkeypatch
    )
    assert_same(found, expected)


def test_a_rare_token_is_drawn_as_often_as_it_is_likely() -> None:
    model = lively(BASE)
    with torch.inference_mode():
        expected = model(torch.tensor([[4]]))[0, -1].softmax(-1).numpy()
    drawn = np.array([tokens[0] for tokens in generate(model, [[4]] * 20_000, 1, progress=no_progress)])
    counts = np.bincount(drawn, minlength=VOCAB) / len(drawn)
    assert np.abs(counts - expected).max() < 4 * np.sqrt(0.25 / len(drawn))


@pytest.mark.parametrize("changes", [{"qk_norm": True}, {"positions": "alibi"}, {"n_experts": 2}, {"mixer": "gla"}])
def test_other_models_take_the_plain_path(changes: dict[str, object]) -> None:
    model = build(replace(BASE, **changes), VOCAB, 0)  # type: ignore[arg-type]
    assert not can_generate(model)
    assert len(generate(model, [[1]], 3, progress=no_progress)[0]) == 3


def test_a_hooked_model_takes_the_plain_path() -> None:
    model = lively(BASE)
    handle = model.blocks[0].mlp.register_forward_hook(lambda *_: None)
    assert not can_generate(model)
    handle.remove()
    assert can_generate(model)


def test_slots_fill_the_cache_and_keep_products_fast() -> None:
    assert slots_for(2, 64, 128) == 16
    assert slots_for(4, 128, 128) == 128
    assert slots_for(1, 16, 16) == 256


def test_without_a_compiler_the_plain_path_draws_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    model = lively(BASE)
    expected = generate(model, PROMPTS, 9, eos=7, progress=no_progress)
    monkeypatch.setattr(objective, "library", lambda: None)
    assert not can_generate(model)
    assert_same(generate(model, PROMPTS, 9, eos=7, progress=no_progress), expected)


def test_long_prompts_of_mixed_lengths(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    prompts = [rng.integers(VOCAB, size=size).tolist() for size in rng.integers(1, 57, size=20)]
    found, expected = both(
        lively(CONFIGS["learned"]), lambda model: generate(model, prompts, 8, eos=7, progress=no_progress), monkeypatch
    )
    assert_same(found, expected)


def test_half_precision_takes_the_plain_path() -> None:
    model = build(ModelConfig(2, 2, 16), VOCAB, 0).bfloat16()
    assert not can_generate(model)
