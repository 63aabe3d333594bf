"""The compiled kernels compute what the plain path does: blocks, losses, gradients, attention, updates."""

import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from lively_models import BASE, CONFIGS, VOCAB, lively
from torch import Tensor

import lm.model
import lm.native.block as native_block
import lm.native.objective as native_objective
from lm.config import TrainConfig
from lm.data.mlm import IGNORE_INDEX
from lm.model import Decoder, build
from lm.native.block import is_known
from lm.native.build import FOLDER, SWITCH, load_library
from lm.native.objective import FusedObjective, fuse_objective
from lm.native.optimizer import make_update
from lm.throughput import has_compiled_kernels
from lm.training import step as training_step
from lm.training.loop import make_optimizer, train
from synth.registry import get_task

pytestmark = pytest.mark.skipif(load_library() is None, reason="no compiler here, so there are no kernels to compare")


def batch(rows: int, length: int) -> tuple[Tensor, Tensor, Tensor]:
    """Inputs, targets with some masked, and three documents a row."""
    rng = torch.Generator().manual_seed(1)
    inputs, targets = (torch.randint(VOCAB, (rows, length), generator=rng) for _ in range(2))
    targets[0, : length // 4] = IGNORE_INDEX
    return inputs, targets, (torch.arange(length) * 3 // length).expand(rows, length).contiguous()


def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on only the plain path is used."""
    monkeypatch.setattr(lm.model, "can_fuse", lambda *_: False)
    monkeypatch.setattr(training_step, "fuse_objective", lambda *_: None)
    monkeypatch.setattr(training_step, "make_update", lambda *_: None)


def fuse(model: Decoder, bf16: bool = False) -> FusedObjective:
    found = fuse_objective(model, bf16)
    assert found is not None and found.applies()
    return found


def fused_gradients(
    model: Decoder, *data: Tensor | None, scale: float = 1.0, bf16: bool = False
) -> tuple[float, list[Tensor]]:
    """Summed loss and gradients of inputs, targets and document numbers, by the kernels."""
    model.zero_grad()
    loss = fuse(model, bf16)(*data, scale) / scale  # type: ignore[arg-type]
    return loss, [p.grad.clone() for p in model.parameters() if p.grad is not None]


def gradients(model: Decoder, loss: Tensor) -> list[Tensor]:
    model.zero_grad()
    loss.backward()
    return [p.grad.clone() for p in model.parameters() if p.grad is not None]


def assert_close(found: list[Tensor], expected: list[Tensor], share: float = 1e-5) -> None:
    """Equal up to a share of the largest entry."""
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        assert (a - b).abs().max() <= share * b.abs().max().clamp(min=1e-6)


@pytest.mark.parametrize("length", [1, 15, 50])
@pytest.mark.parametrize("documents", [False, True])
@pytest.mark.parametrize("name", CONFIGS)
def test_loss_and_gradients_are_those_of_the_plain_path(
    name: str, documents: bool, length: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = lively(CONFIGS[name])
    inputs, targets, numbers = batch(3, length)
    known = numbers if documents else None
    loss, fused = fused_gradients(model, inputs, targets, known, scale=0.01)
    with_blocks = model(inputs, known)
    plain(monkeypatch)
    logits = model(inputs, known)
    assert_close([with_blocks], [logits])
    expected = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORE_INDEX, reduction="sum")
    assert loss == pytest.approx(float(expected.detach()), rel=1e-5)
    assert_close(fused, gradients(model, 0.01 * expected))


@pytest.mark.parametrize("name", ["rotary", "LLaMA with Canon", "odd heads"])
def test_gradients_of_blocks_alone(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = lively(CONFIGS[name])
    inputs, *_ = batch(2, 33)
    weight = torch.randn(2, 33, VOCAB, generator=torch.Generator().manual_seed(2))
    fused = gradients(model, (model(inputs) * weight).sum())
    plain(monkeypatch)
    assert_close(fused, gradients(model, (model(inputs) * weight).sum()))


def test_gradients_agree_with_finite_differences() -> None:
    model = lively(replace(BASE, n_layers=1, canon="ABCD"))
    inputs, targets, _ = batch(2, 20)

    def loss() -> float:
        return fused_gradients(model, inputs, targets, None)[0]

    _, slopes = fused_gradients(model, inputs, targets, None)
    for parameter, gradient in zip(model.parameters(), slopes, strict=True):
        direction = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(3))
        slope = float((gradient * direction).sum())
        size = 3e-3 / float(direction.norm())
        with torch.no_grad():
            parameter += size * direction
        above = loss()
        with torch.no_grad():
            parameter -= 2 * size * direction
        below = loss()
        with torch.no_grad():
            parameter += size * direction
        assert (above - below) / (2 * size) == pytest.approx(slope, rel=0.03, abs=0.15)


@pytest.mark.parametrize("threads", [1, 2])
def test_threads_change_nothing_but_the_order_of_sums(threads: int) -> None:
    model = lively(CONFIGS["LLaMA with Canon"])
    inputs, targets, _ = batch(4, 50)
    before = torch.get_num_threads()
    try:
        found = []
        for count in (1, threads):
            torch.set_num_threads(count)
            loss, grads = fused_gradients(model, inputs, targets, None)
            found.append([torch.tensor([loss]), *grads])
    finally:
        torch.set_num_threads(before)
    assert_close(found[1], found[0])


def test_losses_of_two_hundred_steps_are_those_of_the_plain_path(monkeypatch: pytest.MonkeyPatch) -> None:
    task, config = (
        get_task("cfg", grammar="cfg3f", root="10"),
        TrainConfig(steps=200, batch_size=8, seq_len=32, lr=3e-3),
    )
    histories = []
    for _ in range(2):
        model = build(BASE, task.vocab().size, 0)
        histories.append([row["loss"] for row in train(model, task, config, 0, on_step=lambda *_: None)])
        plain(monkeypatch)
    assert histories[0] == pytest.approx(histories[1], rel=1e-5)


def test_hooks_and_changed_modules_take_the_plain_path() -> None:
    model = lively(BASE)
    inputs, *_ = batch(2, 10)
    seen = []
    objective = fuse(model)
    handle = model.blocks[0].mlp.register_forward_hook(lambda *_: seen.append(1))
    assert not objective.applies()
    model(inputs)
    assert seen
    handle.remove()
    assert objective.applies()
    handle = model.blocks[0].mlp.up.weight.register_hook(lambda gradient: 2 * gradient)
    assert not objective.applies()
    handle.remove()
    up = model.blocks[1].mlp.up
    up.forward = lambda x: torch.nn.functional.linear(x, up.weight, up.bias)
    assert not objective.applies()
    del up.forward
    assert objective.applies()
    model.blocks[1].mlp.up = torch.nn.Sequential(model.blocks[1].mlp.up)
    assert fuse_objective(model) is None
    for name, spoil in (
        ("blocks.1.mlp.down.weight", lambda w: w.T.contiguous().T),
        ("blocks.0.mixer.qkv.bias", torch.Tensor.double),
        ("norm.weight", torch.Tensor.bfloat16),
    ):
        model = lively(BASE)
        module = model.get_submodule(name.rpartition(".")[0])
        setattr(module, name.rpartition(".")[2], torch.nn.Parameter(spoil(model.get_parameter(name).detach())))
        assert fuse_objective(model) is None, name
        assert name.startswith("norm") or not is_known(model.get_submodule(name[:8])), "nor block by block"
    model = lively(BASE)
    model.blocks[0].mlp.up.forward = lambda x: x
    assert not is_known(model.blocks[0]) and is_known(model.blocks[1])
    for other in ({"qk_norm": True}, {"positions": "alibi"}, {"causal": False}, {"n_experts": 2}, {"mixer": "gla"}):
        assert fuse_objective(build(replace(BASE, **other), VOCAB, 0)) is None


@pytest.mark.parametrize("documents", [False, True])
def test_parts_of_a_batch_add_up(documents: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    model = lively(CONFIGS["LLaMA with Canon"])
    inputs, targets, numbers = batch(7, 50)
    known = numbers.clone() if documents else None
    if known is not None:
        known[3] = 0  # rows differ in where documents begin
    loss, whole = fused_gradients(model, inputs, targets, known)
    for rows in (1, 3):
        monkeypatch.setattr(native_objective, "rows_at_a_time", lambda *_, rows=rows: rows)
        part_loss, parts = fused_gradients(model, inputs, targets, known)
        assert part_loss == pytest.approx(loss, rel=1e-6)
        assert_close(parts, whole)
    monkeypatch.setattr(native_objective, "rows_at_a_time", lambda *_: 2)
    objective = fuse(model)
    first = objective(inputs[:4], targets[:4], None if known is None else known[:4], 1.0)
    second = objective(inputs[4:], targets[4:], None if known is None else known[4:], 1.0, add=True)
    assert first + second == pytest.approx(loss, rel=1e-6)
    assert_close([p.grad for p in model.parameters() if p.grad is not None], whole)


def test_frozen_weights_get_no_gradient() -> None:
    model = lively(BASE)
    inputs, targets, _ = batch(2, 10)
    model.embed.weight.requires_grad_(False)
    fuse(model)(inputs, targets, None, 1.0)
    assert model.embed.weight.grad is None and model.blocks[0].mlp.up.weight.grad is not None


def test_what_is_not_finite_stays_so() -> None:
    model = lively(BASE)
    inputs, targets, _ = batch(2, 10)
    with torch.no_grad():
        model.blocks[0].mlp.up.weight[0, 0] = torch.nan
    assert math.isnan(fused_gradients(model, inputs, targets, None)[0])


def test_rounded_products_are_near_and_sum_in_fp32() -> None:
    model = lively(BASE)
    inputs, targets, _ = batch(3, 50)
    exact, gradient = fused_gradients(model, inputs, targets, None)
    rounded, near = fused_gradients(model, inputs, targets, None, bf16=True)
    assert rounded != exact and rounded == pytest.approx(exact, rel=1e-2)
    assert_close(near, gradient, share=0.1)


def test_the_update_is_that_of_torch() -> None:
    ours, theirs = (lively(BASE) for _ in range(2))
    config = TrainConfig(steps=50, lr=1e-2)
    optimizers = [make_optimizer(model, config) for model in (ours, theirs)]
    update = make_update(list(ours.parameters()), optimizers[0])
    assert update is not None
    rng = torch.Generator().manual_seed(0)
    for number in range(20):
        for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            mine.grad = 10.0 ** (number % 3 - 2) * torch.randn(mine.shape, generator=rng)
            other.grad = mine.grad.clone()
        assert update(1.0)
        torch.nn.utils.clip_grad_norm_(theirs.parameters(), 1.0)
        optimizers[1].step()
    assert_close(list(ours.parameters()), list(theirs.parameters()))
    states = [optimizer.state_dict()["state"] for optimizer in optimizers]
    assert states[0].keys() == states[1].keys()
    for mine, other in zip(states[0].values(), states[1].values(), strict=True):
        assert_close([mine[name] for name in mine], [other[name] for name in mine])


def test_a_parameter_without_gradient_leaves_the_update_to_torch() -> None:
    model = lively(BASE)
    update = make_update(list(model.parameters()), make_optimizer(model, TrainConfig(steps=1)))
    assert update is not None and not update(1.0)


@pytest.mark.parametrize(("where", "token"), [("inputs", VOCAB), ("inputs", -1), ("targets", VOCAB + 7)])
def test_tokens_that_the_model_lacks_are_refused(where: str, token: int) -> None:
    """As torch refuses them; the kernels would read whatever lies there."""
    inputs, targets, _ = batch(2, 10)
    {"inputs": inputs, "targets": targets}[where][1, 3] = token
    with pytest.raises(IndexError, match=f"token {token} is outside"):
        fuse(lively(BASE))(inputs, targets, None, 1.0)


def test_a_locale_of_ascii_and_a_home_that_cannot_be_written(tmp_path: Path) -> None:
    """A file stands where the cache's folder would be."""
    (tmp_path / "no-folder").write_text("")
    code = "from lm.native.build import library; print(library() is not None)"
    given = {SWITCH: "", "XDG_CACHE_HOME": str(tmp_path / "no-folder"), "LC_ALL": "C", "PYTHONUTF8": "0"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env={**os.environ, **given}, capture_output=True, text=True, check=True)
    assert done.stdout == "True\n" and not done.stderr


def test_without_a_compiler_training_goes_on(tmp_path) -> None:
    code = "from lm.native.build import library; print(library())"
    for environment, line in (
        ({SWITCH: "", "CXX": "no-such-compiler", "XDG_CACHE_HOME": str(tmp_path)}, True),
        ({SWITCH: "0", "CXX": "no-such-compiler", "XDG_CACHE_HOME": str(tmp_path)}, False),
    ):
        found = subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, **environment}, capture_output=True, text=True, check=True
        )
        assert found.stdout == "None\n"
        assert found.stderr.count("\n") == line and ("install g++" in found.stderr) == line


def test_the_structs_are_those_of_the_sources() -> None:
    text = (FOLDER / "block.h").read_text().split("struct Block {")[1].split("};")[0]
    names = [
        name.strip(" *")
        for line in text.split(";")
        for name in line.split("//")[0]
        .replace("const float", "")
        .replace("const int", "")
        .replace("int ", "")
        .split(",")
    ]
    found = [name.replace("float ", "").replace("*", "").strip() for name in names if name.strip()]
    assert [name for name, _ in native_block.BlockStruct._fields_] == found


@pytest.mark.parametrize(
    "changes", [{}, {"qk_norm": True}, {"positions": "alibi"}, {"causal": False}, {"n_experts": 2}, {"mixer": "gla"},
                {"mlp": "none"}, {"canon": "AC", "canon_activation": True}, {"positions": "learned", "norm": "rms"}]
)  # fmt: skip
def test_estimates_know_which_models_are_compiled(changes: dict[str, object]) -> None:
    config = replace(BASE, **changes)  # type: ignore[arg-type]
    assert has_compiled_kernels(config) == (fuse_objective(build(config, VOCAB, 0)) is not None)
