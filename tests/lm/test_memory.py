"""The memory model: planted profiles worked out by hand, and counts held to what autograd saves for real models."""

from dataclasses import replace

import pytest
import torch

from lm.config import ModelConfig, TrainConfig
from lm.memory import SAVED_ACTIVATIONS, MemoryProfile, bytes_per_device, check_batch, check_memory
from lm.model import build
from lm.training.step import Objective
from synth.errors import UserError

GPT2 = MemoryProfile(
    parameters=124_000_000,
    batch_size=64,
    seq_len=1024,
    activation_bytes_per_token=100_000.0,
    layers=12,
    kv_cache_bytes=0.0,
)


def test_memory_of_a_planted_model() -> None:
    """124M parameters; 64 rows of 1024 tokens at 100 kB take 6.5536e9 bytes, an eighth of it on each of eight GPUs."""
    assert bytes_per_device(GPT2) == pytest.approx(18 * 124e6 + 6.5536e9)
    assert bytes_per_device(replace(GPT2, autocast=False)) == pytest.approx(16 * 124e6 + 6.5536e9)
    assert bytes_per_device(GPT2, 8) == pytest.approx(22 * 124e6 + 6.5536e9 / 8)
    assert bytes_per_device(GPT2, 8, sharded=True) == pytest.approx(16 * 124e6 / 8 + 12 * 124e6 / 12 + 6.5536e9 / 8)
    assert bytes_per_device(replace(GPT2, kv_cache_bytes=9e9), 8) == pytest.approx(22 * 124e6 + 9e9), (
        "a cache is not shared"
    )
    assert bytes_per_device(replace(GPT2, batch_size=2), 8) == pytest.approx(22 * 124e6 + 1024 * 1e5), (
        "at least one row"
    )


def test_profile_of_a_planted_model() -> None:
    """Two layers of width 8: 12 x 8 numbers beside the MLP and 2 x 32 in it for each; 5 for each of 10 logits."""
    config = ModelConfig(2, 2, 8, max_seq_len=16)
    profile = MemoryProfile.from_model(config, 10, 0, 4, 16)
    assert profile.activation_bytes_per_token == 2 * (2 * (12 * 8 + 2 * 32) + 5 * 10)
    assert profile.kv_cache_bytes == 4 * 2 * 2 * 8 * 16 * 256
    fp32 = MemoryProfile.from_model(config, 10, 0, 4, 16, autocast=False)
    assert fp32.activation_bytes_per_token == 2 * profile.activation_bytes_per_token


def test_models_and_batches_beyond_the_machine_are_refused() -> None:
    check_memory(ModelConfig(), 50_257)
    check_batch(TrainConfig(steps=1))
    with pytest.raises(UserError, match="the model needs .* GiB and this machine has .*; give fewer n_layers"):
        check_memory(ModelConfig(n_layers=10**6, n_heads=1, d_model=10**5), 10)
    with pytest.raises(UserError, match="batch_size=1000000 of seq_len=1000000 needs .* lower batch_size"):
        check_batch(TrainConfig(steps=1, batch_size=10**6, seq_len=10**6))


SWITCHES: list[dict] = [
    {},
    {"positions": "relative"},
    {"canon": "ABCD"},
    {"qk_norm": True},
    {"mlp": "swiglu", "norm": "rms", "bias": False},
    *({"mixer": mixer, "positions": "none"} for mixer in SAVED_ACTIVATIONS if mixer != "attention"),
]


@pytest.mark.parametrize("autocast", [True, False], ids=["bf16", "fp32"])
@pytest.mark.parametrize("switches", SWITCHES, ids=str)
def test_activations_are_what_autograd_saves(switches: dict, autocast: bool) -> None:
    """By what more layers and more rows add, as the copies of weights and the ends of the model are counted apart."""

    def saved(layers: int, rows: int) -> int:
        config = ModelConfig(layers, 4, 256, max_seq_len=128, **switches)
        objective, storages = Objective(build(config, 50, 0)), {}

        def hold(tensor: torch.Tensor) -> torch.Tensor:
            storage = tensor.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes(), tensor  # held, so that no other takes its place
            return tensor

        tokens = torch.randint(50, (rows, 128))
        with torch.autograd.graph.saved_tensors_hooks(hold, lambda x: x):
            with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
                objective(tokens, tokens, None)
        return sum(size for size, _ in storages.values())

    def estimated(layers: int) -> float:
        config = ModelConfig(layers, 4, 256, max_seq_len=128, **switches)
        return MemoryProfile.from_model(config, 50, 0, 1, 128, autocast).activation_bytes_per_token

    measured = (saved(3, 4) - saved(1, 4) - saved(3, 2) + saved(1, 2)) / (2 * 2 * 128)
    estimate = (estimated(3) - estimated(1)) / 2
    assert measured <= 1.1 * estimate, "an upper bound in fp32 too"
    assert measured >= (0.9 if autocast else 0.6) * estimate
