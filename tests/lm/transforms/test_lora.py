"""Low-rank adapters: what they add by hand, that nothing else moves, and that training goes on after a stop."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lm.config import ModelConfig, TrainConfig
from lm.model import Decoder, build
from lm.pretrained import load, save
from lm.training.loop import train
from lm.transforms.lora import add_lora, merge_lora
from synth import get_task
from synth.errors import UserError

TASK = get_task("cfg3f", root="13")
VOCAB = TASK.vocab().size
SMALL = ModelConfig(2, 2, 16, max_seq_len=32)
CONFIG = TrainConfig(steps=12, batch_size=4, seq_len=32, lr=1e-2)
TOKENS = torch.randint(0, VOCAB, (3, 20), generator=torch.Generator().manual_seed(0))


def same(one: Decoder, two: Decoder) -> bool:
    first, second = one.state_dict(), two.state_dict()
    return first.keys() == second.keys() and all(torch.equal(tensor, second[name]) for name, tensor in first.items())


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("positions", ["rotary", "learned", "relative", "position_only", "uniform"])
def test_adapters_start_at_no_change(positions: str, tied: bool) -> None:
    model = build(replace(SMALL, positions=positions, tie_embeddings=tied), VOCAB, 0)
    state = torch.random.get_rng_state()
    adapted = add_lora(model.eval(), 2, 3, seed=1)
    assert adapted.training and not model.training
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.testing.assert_close(adapted(TOKENS), model(TOKENS), rtol=1e-4, atol=1e-6)
    assert same(adapted, add_lora(model, 2, 3, seed=1)) and not same(adapted, add_lora(model, 2, 3, seed=2))
    matrices = 2 if positions in ("rotary", "learned", "relative") else 1  # values alone where nothing is asked
    trainable = sum(p.numel() for p in adapted.parameters() if p.requires_grad)
    assert trainable == 2 * matrices * 2 * (16 + 16) + 3 * (16 + VOCAB)
    assert all("lora_" in name for name, p in adapted.named_parameters() if p.requires_grad)


def test_what_adapters_add() -> None:
    """W + 4 B A in queries, values and the embedding where it is read; keys and the tied output table stay."""
    model = build(SMALL, VOCAB, 0)
    adapted = add_lora(model, 2, 3)
    gen = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in adapted.parameters():
            if p.requires_grad:
                p.normal_(generator=gen)
    embed, qkv, x = adapted.embed, adapted.blocks[1].mixer.qkv, torch.randn(5, 16, generator=gen)
    table = model.embed.weight + 4 * (embed.lora_embedding_B["default"] @ embed.lora_embedding_A["default"]).T
    torch.testing.assert_close(adapted.embed_tokens(TOKENS, 0), table[TOKENS])
    assert torch.equal(adapted.logits(x), model.logits(x))
    fused = model.blocks[1].mixer.qkv(x).chunk(3, -1)
    update = [0 if name == "k" else 4 * x @ _product(getattr(qkv, name)).T for name in "qkv"]
    for mine, base, more in zip(qkv(x).chunk(3, -1), fused, update, strict=True):
        torch.testing.assert_close(mine, base + more, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("tied", "embed_rank"), [(True, 3), (True, 0), (False, 3)])
@pytest.mark.parametrize("positions", ["rotary", "learned", "relative", "position_only", "uniform"])
def test_a_merged_model_is_plain_and_computes_the_same(
    positions: str, tied: bool, embed_rank: int, tmp_path: Path
) -> None:
    model = build(replace(SMALL, positions=positions, tie_embeddings=tied), VOCAB, 0)
    adapted = add_lora(model, 2, embed_rank)
    train(adapted, TASK, CONFIG, 0)
    plain = merge_lora(adapted)
    before = adapted(TOKENS)
    assert (before - model(TOKENS)).abs().max() > 1e-2, "nothing was learned"
    torch.testing.assert_close(plain(TOKENS), before, rtol=0, atol=1e-5)
    assert plain.config == replace(model.config, tie_embeddings=tied and embed_rank == 0)
    outline = build(plain.config, VOCAB, 0)
    assert plain.state_dict().keys() == outline.state_dict().keys() and all(p.requires_grad for p in plain.parameters())
    save(plain, tmp_path)
    again = load(tmp_path)
    assert again.config == plain.config and same(again, plain)
    with torch.no_grad():
        plain.embed.weight.zero_()
    torch.testing.assert_close(adapted(TOKENS), before)
    add_lora(again, 2, embed_rank)


def _product(layer: torch.nn.Module) -> torch.Tensor:
    return layer.lora_B["default"].weight @ layer.lora_A["default"].weight


def test_training_moves_adapters_and_nothing_else() -> None:
    model = build(SMALL, VOCAB, 0)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    adapted = add_lora(model, 2, 3)
    start = {name: p.detach().clone() for name, p in adapted.named_parameters()}
    history = train(adapted, TASK, CONFIG, 0, log_every=6)
    assert history[1]["loss"] < history[0]["loss"]
    for name, p in adapted.named_parameters():
        assert torch.equal(p, start[name]) != p.requires_grad, name
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(p.requires_grad for p in model.parameters())


def test_a_stopped_training_goes_on(tmp_path: Path) -> None:
    model = build(SMALL, VOCAB, 0)

    def stop(step: int, steps: int, loss: float) -> None:
        if step == 8:
            raise KeyboardInterrupt

    whole, parts = add_lora(model, 2, 3), add_lora(model, 2, 3)
    train(whole, TASK, CONFIG, 0, log_every=4)
    with pytest.raises(KeyboardInterrupt):
        train(parts, TASK, CONFIG, 0, folder=tmp_path, checkpoint_every=5, log_every=4, on_step=stop)
    parts = add_lora(model, 2, 3)
    train(parts, TASK, CONFIG, 0, folder=tmp_path, checkpoint_every=5, log_every=4)
    assert same(whole, parts)
    with pytest.raises(UserError, match="another initial_weights"):
        train(add_lora(model, 2, 3, seed=1), TASK, CONFIG, 0, folder=tmp_path, checkpoint_every=5, log_every=4)


def test_token_by_token_is_all_at_once() -> None:
    adapted = add_lora(build(SMALL, VOCAB, 0), 2, 3)
    train(adapted, TASK, CONFIG, 0)
    with torch.no_grad():
        whole, caches = adapted(TOKENS), adapted.empty_caches(3, 20)
        for t in range(20):
            torch.testing.assert_close(adapted.step(TOKENS[:, t], caches, t), whole[:, t], rtol=1e-4, atol=1e-5)


def test_the_embedding_can_be_left_alone() -> None:
    adapted = add_lora(build(SMALL, VOCAB, 0), 2, 0)
    assert not any("embed" in name for name, p in adapted.named_parameters() if p.requires_grad)


def test_what_cannot_be_adapted_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build(SMALL, VOCAB, 0)
    with pytest.raises(UserError, match="rank=0, embed_rank=3 cannot be had"):
        add_lora(model, 0, 3)
    with pytest.raises(UserError, match="adapters already"):
        add_lora(add_lora(model, 2, 0), 2, 0)
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(UserError, match=r"^adapters need peft; install it with pip install 'physics-of-lms\[adapt\]'$"):
        add_lora(model)
