"""Snapshots leave no trace in a training, can end it, and survive kills."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lm.config import ModelConfig
from lm.inference.sampling import generate
from lm.model import Decoder
from lm.training import loop
from lm.training.history import Diverged
from lm.training.loop import train
from lm.training.snapshots import take_snapshot
from synth.errors import UserError
from tests.lm.training.test_loop import CONFIG, TASK, model, same

ROOT = Path(__file__).resolve().parents[3]
STEPS = (1, 3, 5, 6, 12)


def rows(history: Any) -> list[dict[str, float]]:
    return [{k: v for k, v in row.items() if k != "seconds"} for row in history]


def weights(net: Decoder) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in net.state_dict().items()}


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


class Keep:
    """An on_snapshot that keeps the weights by step, and does something at one step."""

    def __init__(self, at: int = 0, action: Callable[[], Any] = lambda: None, ends: bool = False) -> None:
        self.found: dict[int, dict[str, Tensor]] = {}
        self.at, self.action, self.ends = at, action, ends

    def __call__(self, step: int, net: Decoder) -> bool:
        if step == self.at:
            self.action()
        assert step not in self.found
        self.found[step] = weights(net)
        return self.ends and step == self.at


def noisy(step: int, net: Decoder) -> bool:
    """Does all that could show in the training; the model itself it does not change."""
    assert not any(module.training for module in net.modules()) and not torch.is_grad_enabled()
    torch.rand(3), np.random.rand(3), random.random()
    torch.manual_seed(step), np.random.seed(step), random.seed(step)
    generate(net, [[0, 1], [0]], 5, eos=6)
    with torch.enable_grad():
        net(torch.zeros(2, 60, dtype=torch.long)).sum().backward()
    net.train()
    return False


def with_dropout() -> Decoder:
    """A model whose training draws from the global random state, one block of it in eval mode."""
    net = model().train()
    for block in net.blocks:
        block.mlp.up = torch.nn.Sequential(block.mlp.up, torch.nn.Dropout(0.5))
    net.blocks[1].eval()
    return net


def test_snapshots_leave_no_trace() -> None:
    plain, watched = with_dropout(), with_dropout()
    torch.manual_seed(0)
    history = train(plain, TASK, CONFIG, 0, log_every=4)
    torch.manual_seed(0)
    other = train(watched, TASK, CONFIG, 0, log_every=4, snapshot_steps=STEPS, on_snapshot=noisy)
    assert same(plain, watched) and rows(history) == rows(other)
    assert [m.training for m in plain.modules()] == [m.training for m in watched.modules()]
    torch.manual_seed(1)
    train(again := with_dropout(), TASK, CONFIG, 0)
    assert not same(plain, again), "the global random state does not matter here, so that nothing was tested"


def test_the_global_random_states_are_kept_whatever_happens() -> None:
    def fail(step: int, net: Decoder) -> bool:
        noisy(step, net)
        raise RuntimeError("broken")

    net = model().train()
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()  # type: ignore[index, union-attr]
    with pytest.raises(RuntimeError, match="broken"):
        take_snapshot(1, net, fail)
    after = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()  # type: ignore[index, union-attr]
    assert torch.equal(before[0], after[0]) and before[1:] == after[1:]
    assert net.training and torch.is_grad_enabled() and all(p.grad is None for p in net.parameters())


def test_a_snapshot_has_the_weights_of_its_step() -> None:
    config, keep = replace(CONFIG, schedule="constant"), Keep()
    train(model(), TASK, config, 0, snapshot_steps=range(1, 13), on_snapshot=keep)
    assert list(keep.found) == list(range(1, 13))
    for step in (1, 2, 7, 12):
        train(net := model(), TASK, replace(config, steps=step), 0)
        assert equal(keep.found[step], weights(net))


@pytest.mark.parametrize("end", [1, 5, 6, 12])
def test_a_training_ends_where_a_snapshot_says(tmp_path: Path, end: int) -> None:
    every = train(model(), TASK, CONFIG, 0, log_every=1)
    keep, net = Keep(end, ends=True), model()
    history = train(net, TASK, CONFIG, 0, folder=tmp_path, log_every=3, snapshot_steps=STEPS, on_snapshot=keep)
    assert list(keep.found) == [step for step in STEPS if step <= end]
    assert equal(keep.found[end], weights(net))
    assert [row["step"] for row in history] == sorted({*range(3, end + 1, 3), end})
    since = [row["loss"] for row in every if end - 1 - (end - 1) % 3 < row["step"] <= end]
    assert history[-1]["loss"] == pytest.approx(np.mean(since)) and history.tokens == end * 4 * 32
    assert [path.name for path in tmp_path.glob("step-*")] == [f"step-{end}"]
    assert [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()] == history


@pytest.mark.parametrize("watched", [True, False])
def test_a_call_after_the_end_ends_at_once(tmp_path: Path, watched: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two, keep = model(), model(), Keep()
    first = Keep(6, ends=True)
    history = train(one, TASK, CONFIG, 0, folder=tmp_path, log_every=4, snapshot_steps=STEPS, on_snapshot=first)
    monkeypatch.setattr(loop, "record_batch", lambda *_: pytest.fail("another step was taken"))
    more: dict[str, Any] = {"snapshot_steps": STEPS, "on_snapshot": keep} if watched else {}
    again = train(two, TASK, CONFIG, 0, folder=tmp_path, log_every=4, **more)
    assert not keep.found and same(one, two) and again == history and again.seconds == history.seconds


def fail(error: type[BaseException]) -> None:
    raise error("killed")


@pytest.mark.parametrize("every", [1, 4])
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("end", [11, None])
def test_a_snapshot_that_was_broken_off_is_taken_again(
    tmp_path: Path, every: int, error: type[BaseException], end: int | None
) -> None:
    whole, again, steps = model(), model(), range(2, 13)
    keep = Keep(end or 0, ends=True)
    history = train(whole, TASK, CONFIG, 0, log_every=3, snapshot_steps=steps, on_snapshot=keep)
    cut, rest = Keep(8, lambda: fail(error)), Keep(end or 0, ends=True)
    args: dict[str, Any] = {"folder": tmp_path, "checkpoint_every": every, "log_every": 3, "snapshot_steps": steps}
    with pytest.raises(error):
        train(model(), TASK, CONFIG, 0, on_snapshot=cut, **args)
    saved = 7 if every == 1 else 4  # step 8 is not saved before its snapshot is complete
    assert [path.name for path in tmp_path.glob("step-*")] == [f"step-{saved}"]
    other = train(again, TASK, CONFIG, 0, on_snapshot=rest, **args)
    assert min(rest.found) == saved + 1 and same(whole, again) and rows(history) == rows(other)
    found = cut.found | rest.found
    assert found.keys() == keep.found.keys() and all(equal(found[step], keep.found[step]) for step in found)


def test_a_signal_in_a_snapshot_ends_the_training_after_it(tmp_path: Path) -> None:
    keep, rest = Keep(5, lambda: signal.raise_signal(signal.SIGINT)), Keep()
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    try:
        with pytest.raises(KeyboardInterrupt):
            train(model(), TASK, CONFIG, 0, folder=tmp_path, snapshot_steps=STEPS, on_snapshot=keep)
    finally:
        signal.signal(signal.SIGINT, before)
    assert [path.name for path in tmp_path.glob("step-*")] == ["step-5"]
    train(whole := model(), TASK, CONFIG, 0)
    train(again := model(), TASK, CONFIG, 0, folder=tmp_path, snapshot_steps=STEPS, on_snapshot=rest)
    assert [*keep.found, *rest.found] == list(STEPS) and same(whole, again)


VICTIM = """
import os, signal, sys
sys.path[:0] = [{root!r}, {helpers!r}]
from pathlib import Path
import torch
from tests.lm.training.test_loop import CONFIG, TASK, model, train
folder = Path({folder!r})

def on_snapshot(step, net):
    if step == 7 and not (folder / "killed").exists():
        (folder / "killed").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    torch.save(net.state_dict(), folder / f"{{step}}.pt")
    return step == 10

torch.set_num_threads({threads})
args = {{"checkpoint_every": 2, "snapshot_steps": range(1, 13), "on_snapshot": on_snapshot}}
train(model(), TASK, CONFIG, 0, folder=folder / "run", **args)
"""


def test_a_process_that_is_killed_in_a_snapshot_loses_nothing(tmp_path: Path) -> None:
    helpers = str(ROOT / "tests/helpers")
    code = VICTIM.format(root=str(ROOT), helpers=helpers, folder=str(tmp_path), threads=torch.get_num_threads())
    for status in (-signal.SIGKILL, 0):
        assert subprocess.run([sys.executable, "-c", code], env=os.environ).returncode == status
    keep = Keep(10, ends=True)
    train(model(), TASK, CONFIG, 0, snapshot_steps=range(1, 13), on_snapshot=keep)
    found = {int(path.stem): torch.load(path) for path in tmp_path.glob("*.pt")}
    assert found.keys() == keep.found.keys() and all(equal(found[step], keep.found[step]) for step in found)
    assert [path.name for path in tmp_path.glob("run/step-*")] == ["step-10"]


def test_no_snapshot_is_taken_of_weights_that_are_not_finite() -> None:
    net, keep = model(ModelConfig.gpt2(1, 1, 8, max_seq_len=64)), Keep()
    with torch.no_grad():
        net.positions.weight[-1] = torch.nan  # beyond the window: the loss does not see it
    with pytest.raises(Diverged, match="weights are no longer finite at step 5"):
        train(net, TASK, CONFIG, 0, snapshot_steps=[5], on_snapshot=keep)
    assert not keep.found


def test_the_time_of_snapshots_is_not_that_of_training() -> None:
    keep, began = Keep(5, lambda: time.sleep(0.3)), time.perf_counter()
    history = train(model(), TASK, CONFIG, 0, snapshot_steps=STEPS, on_snapshot=keep)
    assert history[-1]["seconds"] == history.seconds < time.perf_counter() - began - 0.3


def test_nothing_is_done_without_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "ends_at_snapshot", lambda *_: pytest.fail("called"))
    monkeypatch.setattr(Decoder, "eval", lambda *_: pytest.fail("called"))
    keep = Keep()
    train(model(), TASK, CONFIG, 0, folder=tmp_path, on_snapshot=keep)
    assert not keep.found and sorted(path.name for path in tmp_path.iterdir()) == ["metrics.jsonl", "step-12"]


@pytest.mark.parametrize(("steps", "named"), [([3, 0], "has 0 and .* 1 to 12; leave"), ([13], "has 13 and .* 1 to 12")])
def test_steps_that_a_training_does_not_have_are_refused(steps: list[int], named: str) -> None:
    with pytest.raises(UserError, match=named):
        train(model(), TASK, CONFIG, 0, snapshot_steps=steps, on_snapshot=Keep())
    with pytest.raises(UserError, match="give on_snapshot too"):
        train(model(), TASK, CONFIG, 0, snapshot_steps=[1])
