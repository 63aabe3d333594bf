"""Training: accumulation, exact resume, damaged checkpoints, counts, schedules and a golden step."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from lm.config import ModelConfig, TrainConfig
from lm.model import Decoder, build
from lm.training.history import Diverged
from lm.training.loop import train
from lm.training.schedule import learning_rate
from lm.training.signals import SIGNALS
from synth.errors import UserError
from synth.task import Example, Task
from synth.vocab import Vocab


@dataclass(frozen=True)
class Counting(Task):
    """Numbers that count up from a random start: learnt in a few steps, and without numba."""

    name: ClassVar[str] = "counting"
    source: ClassVar[str] = "tests"
    people: int = 0

    def vocab(self) -> Vocab:
        return Vocab(tuple("abcde"))

    def num_items(self, world: Any) -> int | None:
        return self.people or None

    def sample(self, world: Any, rng: np.random.Generator, split: str) -> Example:
        begin, length = rng.integers(5), rng.integers(4, 12)
        tokens = np.concatenate([[0], 1 + (begin + np.arange(length)) % 5, [6]]).astype(np.int32)
        return Example(tokens, np.arange(length + 2) > 0)

    def render(self, world: Any, item: int, rng: np.random.Generator, split: str) -> Example:
        return self.sample(world, rng, split)

    def score(self, world: Any, example: Example | None, completion: np.ndarray) -> dict[str, float]:
        return {}

    def floors(self, world: Any) -> dict[str, float]:
        return {}


TASK = Counting()
SMALL = ModelConfig(2, 2, 16, max_seq_len=32)
CONFIG = TrainConfig(steps=12, batch_size=4, seq_len=32, lr=1e-2, warmup_steps=2)


def model(config: ModelConfig = SMALL) -> Decoder:
    return build(config, TASK.vocab().size, 0)


def same(one: Decoder, two: Decoder) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))


def test_golden_first_losses() -> None:
    golden = [2.15672, 1.99138, 1.90404]
    losses = [row["loss"] for row in train(model(), TASK, replace(CONFIG, steps=3), 0, log_every=1)]
    assert losses == pytest.approx(golden, abs=2e-4), (
        "the first losses changed: if you meant to change the initialisation, the model, the loss, the optimizer or "
        f"the data stream, put these numbers in and say so in the change; if not, something broke. Now: {losses}"
    )


def test_loss_falls_to_the_floor_and_counts_are_kept() -> None:
    history = train(model(), TASK, replace(CONFIG, steps=150, lr=1e-2), 0, log_every=50)
    assert history[-1]["loss"] < 0.56  # (log 5 + log 8) / 8.5 = 0.43, and more where a window begins
    assert history.tokens == 150 * 4 * 32 == history[-1]["tokens"]
    assert 150 * 4 * 32 / 13 < history.documents < 150 * 4 * 32 / 5


def test_a_fixed_batch_is_learnt_by_heart() -> None:
    net = model(ModelConfig.gpt2(2, 2, 32, max_seq_len=16))
    inputs = torch.randint(7, (2, 16), generator=torch.Generator().manual_seed(0))
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-2)
    for _ in range(150):
        loss = torch.nn.functional.cross_entropy(net(inputs)[:, :-1].flatten(0, 1), inputs[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 0.2  # the two rows may begin alike


@pytest.mark.parametrize("packing", ["cut", "whole", "none"])
def test_accumulation_is_one_large_batch(packing: str) -> None:
    config = replace(CONFIG, packing=packing, steps=4)
    whole, parts = model(), model()
    train(whole, TASK, config, 0)
    train(parts, TASK, replace(config, grad_accum_steps=4), 0)
    for a, b in zip(whole.parameters(), parts.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=2e-5)


def test_exposures_are_counted_per_item() -> None:
    task = Counting(people=7)
    history = train(model(), task, replace(CONFIG, steps=5), 0)
    assert history.exposures is not None and history.exposures.sum() == history.documents
    assert history.exposures.max() - history.exposures.min() <= 1  # whole epochs, then a part of one


@pytest.mark.parametrize("stop", [1, 5, 11])
def test_resume_is_exact_at_awkward_steps(tmp_path: Path, stop: int) -> None:
    whole, broken, again = model(), model(), model()
    plain = train(whole, TASK, CONFIG, 0, folder=tmp_path / "a", log_every=3)

    def interrupt(step: int, steps: int, loss: float) -> None:
        if step >= stop:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(broken, TASK, CONFIG, 0, folder=tmp_path / "b", checkpoint_every=2, log_every=3, on_step=interrupt)
    history = train(again, TASK, CONFIG, 0, folder=tmp_path / "b", checkpoint_every=2, log_every=3)
    assert same(whole, again)
    strip = [{k: v for k, v in row.items() if k != "seconds"} for row in history]
    assert strip == [{k: v for k, v in row.items() if k != "seconds"} for row in plain]
    written = [json.loads(line)["step"] for line in (tmp_path / "b" / "metrics.jsonl").read_text().splitlines()]
    assert written == [3, 6, 9, 12]


def test_a_finished_run_is_not_trained_again(tmp_path: Path) -> None:
    one, two = model(), model()
    train(one, TASK, CONFIG, 0, folder=tmp_path)
    history = train(two, TASK, CONFIG, 0, folder=tmp_path)
    assert same(one, two) and history[-1]["step"] == 12


VICTIM = """
import sys
sys.path[:0] = [{root!r}, {helpers!r}]
from tests.lm.training.test_loop import CONFIG, TASK, model, train, replace
print("ready", flush=True)
train(model(), TASK, replace(CONFIG, steps=400), 0, folder={folder!r}, checkpoint_every=1)
"""


def test_killed_runs_end_with_the_same_weights(tmp_path: Path) -> None:
    root = Path(__file__).resolve().parents[3]
    code = VICTIM.format(root=str(root), helpers=str(root / "tests/helpers"), folder=str(tmp_path / "b"))
    long = replace(CONFIG, steps=400)
    killed = 0
    for seconds in (0.3, 0.55):
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        victim = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=environment)
        assert victim.stdout is not None and victim.stdout.readline() == b"ready\n"
        begin = len(list(tmp_path.glob("b/step-*")))
        while not (begin or list(tmp_path.glob("b/step-*"))) and victim.poll() is None:
            time.sleep(0.01)
        time.sleep(seconds)
        victim.send_signal(signal.SIGKILL)
        killed += victim.wait() == -signal.SIGKILL
        victim.stdout.close()
    assert killed, "both victims finished before they were killed; give them more steps"
    whole, again = model(), model()
    train(whole, TASK, long, 0)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    train(again, TASK, long, 0, folder=tmp_path / "b")
    torch.set_num_threads(threads)
    assert same(whole, again)


@pytest.mark.parametrize("name", ["tensors.safetensors", "state.json"])
@pytest.mark.parametrize("damage", ["cut", "altered", "missing"])
def test_damaged_checkpoints_are_named(tmp_path: Path, name: str, damage: str) -> None:
    train(model(), TASK, CONFIG, 0, folder=tmp_path)
    path = tmp_path / "step-12" / name
    data = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        middle = len(data) // 2
        rest = b"" if damage == "cut" else bytes([data[middle] ^ 1]) + data[middle + 1 :]
        path.write_bytes(data[:middle] + rest)
    with pytest.raises(UserError, match=f"{name}.*delete the folder"):
        train(model(), TASK, CONFIG, 0, folder=tmp_path)


def test_a_full_disk_leaves_the_last_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, again = model(), model()
    train(whole, TASK, CONFIG, 0)
    write = Path.write_bytes

    def full(path: Path, data: bytes) -> int:
        if "step-8" in str(path) and path.suffix == ".safetensors":
            write(path, data[:100])
            raise OSError(28, "No space left on device")
        return write(path, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(UserError, match="No space left.*free some space"):
        train(model(), TASK, CONFIG, 0, folder=tmp_path, checkpoint_every=4)
    monkeypatch.undo()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["metrics.jsonl", "step-4"]
    train(again, TASK, CONFIG, 0, folder=tmp_path, checkpoint_every=4)
    assert same(whole, again)


@pytest.mark.parametrize("change", ["seed", "lr", "weights"])
def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path, change: str) -> None:
    train(model(), TASK, CONFIG, 0, folder=tmp_path)
    net = build(SMALL, TASK.vocab().size, 1) if change == "weights" else model()
    config = replace(CONFIG, lr=1e-3) if change == "lr" else CONFIG
    with pytest.raises(UserError, match="another"):
        train(net, TASK, config, int(change == "seed"), folder=tmp_path)


def test_a_loss_that_is_not_finite_stops_the_run() -> None:
    net = model()
    with torch.no_grad():
        net.embed.weight[0] = torch.nan
    with pytest.raises(Diverged, match="at or before step 1 is not finite"):
        train(net, TASK, CONFIG, 0, log_every=1)


def test_schedules() -> None:
    config = TrainConfig(steps=10, lr=1.0, warmup_steps=2, min_lr_ratio=0.1)
    kinds = ("linear", "cosine", "constant")
    rates = {kind: [learning_rate(replace(config, schedule=kind), s) for s in range(11)] for kind in kinds}
    for kind, values in rates.items():
        assert values[:3] == [0.5, 1.0, 1.0], kind
    assert rates["linear"][10] == pytest.approx(0.1) and rates["cosine"][10] == pytest.approx(0.1)
    assert rates["linear"][6] == pytest.approx(0.55) == pytest.approx(rates["cosine"][6])
    assert set(rates["constant"][1:]) == {1.0}


@pytest.mark.parametrize(
    ("bad", "named"), [({"steps": 0}, "steps"), ({"batch_size": 5, "grad_accum_steps": 2}, "grad_accum_steps"),
    ({"betas": (0.9, 1.0)}, "betas"),
     ({"lr": 0.0}, "lr"), ({"lr": float("nan")}, "lr"),
     ({"weight_decay": float("inf")}, "weight_decay"), ({"max_grad_norm": float("nan")}, "max_grad_norm")],
)  # fmt: skip
def test_impossible_settings_are_refused_by_name(bad: dict, named: str) -> None:
    with pytest.raises(UserError, match=named):
        TrainConfig(**{"steps": 1, **bad})


@pytest.mark.parametrize(
    ("switch", "word"), [("schedule", "step"), ("precision", "fp8"), ("compile", "yes"), ("packing", "tight")]
)
def test_unknown_words_are_refused_with_the_known_ones(switch: str, word: str) -> None:
    object.__setattr__(config := TrainConfig(steps=1), switch, word)  # past the type checker, which is on in tests only
    with pytest.raises(UserError, match=f"{switch}='{word}' is unknown; choose"):
        config.__post_init__()


def test_settings_that_do_not_fit_the_model_are_refused() -> None:
    with pytest.raises(UserError, match="vocab_size=8"):
        train(build(SMALL, 4, 0), TASK, CONFIG, 0)
    with pytest.raises(UserError, match="max_seq_len=8"):
        train(model(ModelConfig.gpt2(1, 1, 8, max_seq_len=8)), TASK, CONFIG, 0)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_ends_training_after_saving(number: int, tmp_path: Path) -> None:
    """It comes in step 7, where no checkpoint is due, and does afterwards what it would have done."""
    heard: list[int] = []

    def told(step: int, steps: int, loss: float) -> None:
        if step == 7:
            signal.raise_signal(number)

    before = signal.signal(number, lambda *_: heard.append(number))
    try:
        with pytest.raises(KeyboardInterrupt):
            train(model(), TASK, CONFIG, 0, folder=tmp_path, log_every=1, on_step=told)
        assert heard == [number]
    finally:
        signal.signal(number, before)
    assert [path.name for path in tmp_path.glob("step-*")] == ["step-8"]
    whole, again = model(), model()
    train(whole, TASK, CONFIG, 0, log_every=1)
    train(again, TASK, CONFIG, 0, folder=tmp_path, log_every=1)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), again.parameters(), strict=True))
