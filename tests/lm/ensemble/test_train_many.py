"""Many models at once: the losses of lm.train, each with its own rate and data, through divergence and kills."""

import signal
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from lm.config import ModelConfig
from lm.ensemble.train_many import Unstackable, train_many
from lm.model import Decoder, build
from lm.training.history import Diverged, History
from lm.training.loop import train
from synth.errors import UserError
from synth.vocab import Vocab
from tests.lm.training.test_loop import CONFIG, SMALL, TASK, Counting

LONG = replace(CONFIG, steps=120, lr=3e-3)
RATES = [1e-3, 3e-3, 1e-2, 3e-3]
CONFIGS = [
    replace(LONG, lr=RATES[0]),
    replace(LONG, lr=RATES[1], max_grad_norm=0.1, weight_decay=0.0),
    replace(LONG, lr=RATES[2], warmup_steps=20, schedule="cosine", min_lr_ratio=0.1),
    replace(LONG, betas=(0.8, 0.95), eps=1e-6, max_grad_norm=0.0),
]
SHORT = [replace(each, steps=40) for each in CONFIGS]
SEEDS = [0, 1, 1, 2]


def models(config: ModelConfig = SMALL, count: int = 4) -> list[Decoder]:
    return [build(config, TASK.vocab().size, seed) for seed in range(count)]


def losses(history: Any) -> list[float]:
    assert isinstance(history, History)
    return [row["loss"] for row in history]


def plain(history: Any) -> list[dict[str, float]]:
    """The rows without what no two trainings share, to the digits that they do."""
    return [{k: v for k, v in row.items() if k not in ("seconds", "loss")} for row in history]


def agree(one: Any, other: Any) -> None:
    assert plain(one) == plain(other)
    assert losses(one) == pytest.approx(losses(other), abs=1e-4)
    assert (one.tokens, one.documents) == (other.tokens, other.documents)


@pytest.mark.parametrize(
    ("config", "steps"),
    [(SMALL, 120), (ModelConfig.gpt2(1, 2, 16, max_seq_len=32), 20), (ModelConfig.llama(1, 2, 16), 20),
     (replace(SMALL, bias=False, mlp="none"), 20)],
    ids=["rotary", "gpt2", "llama", "bare"],
)  # fmt: skip
def test_each_model_learns_what_it_would_alone(config: ModelConfig, steps: int) -> None:
    tasks = [TASK, TASK, TASK, Counting(people=7)]
    nets, alone, configs = models(config), models(config), [replace(each, steps=steps) for each in CONFIGS]
    found = train_many(nets, tasks, configs, SEEDS, SEEDS[::-1])
    for k, history in enumerate(found):
        single = train(alone[k], tasks[k], configs[k], SEEDS[k], SEEDS[::-1][k])
        agree(history, single)
        if k == 3:
            assert isinstance(history, History) and (history.exposures == single.exposures).all()  # type: ignore[union-attr]
        for a, b in zip(nets[k].parameters(), alone[k].parameters(), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-3, atol=2e-3)


@pytest.mark.parametrize("packing", ["cut", "whole", "none"])
def test_documents_apart_and_padding(packing: Any) -> None:
    configs = [replace(each, packing=packing, document_mask=True, steps=20) for each in CONFIGS]
    found = train_many(models(), [TASK] * 4, configs, SEEDS)
    for k, net in enumerate(models()):
        agree(found[k], train(net, TASK, configs[k], SEEDS[k]))


def test_an_encoder_is_trained_with_others() -> None:
    config = replace(CONFIG, objective="masked", steps=20)
    nets = [build(replace(SMALL, causal=False), TASK.vocab().size + 1, seed) for seed in (0, 1)]
    found = train_many(nets, [TASK] * 2, [config] * 2, [0, 1])
    for seed in (0, 1):
        net = build(replace(SMALL, causal=False), TASK.vocab().size + 1, seed)
        agree(found[seed], train(net, TASK, config, seed))


def test_one_that_diverges_is_taken_out(tmp_path: Path) -> None:
    nets = models()
    with torch.no_grad():
        nets[1].blocks[0].mlp.up.weight.fill_(1e30)
    homes = [tmp_path / str(k) for k in range(4)]
    config = replace(LONG, steps=20)
    found = train_many(nets, [TASK] * 4, [config] * 4, SEEDS, folders=homes, checkpoint_every=5)
    assert isinstance(found[1], Diverged) and "at or before step 5 is not finite" in str(found[1])
    assert not list(homes[1].glob("step-*"))
    for k in (0, 2, 3):
        agree(found[k], train(models()[k], TASK, config, SEEDS[k]))
    ruined = models(count=2)
    with torch.no_grad():
        for net in ruined:
            net.embed.weight[0] = torch.nan
    assert all(isinstance(each, Diverged) for each in train_many(ruined, [TASK] * 2, [LONG] * 2, [0, 1]))


def stopped(homes: list[Path], at: int) -> None:
    """A group that is killed at a row."""

    def interrupt(number: int, step: int) -> None:
        if step >= at and number == 1:
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        train_many(models(), [TASK] * 4, SHORT, SEEDS, folders=homes, checkpoint_every=10, on_step=interrupt)


def test_a_group_that_was_killed_goes_on(tmp_path: Path) -> None:
    """At step 30, where models 0 and 1 have saved already and 2 and 3 stand at step 20; model 3 is set back to none."""
    whole = train_many(models(), [TASK] * 4, SHORT, SEEDS)
    homes = [tmp_path / str(k) for k in range(4)]
    stopped(homes, 30)
    assert [[path.name for path in home.glob("step-*")] for home in homes] == [
        ["step-30"], ["step-30"], ["step-20"], ["step-20"]]  # fmt: skip
    (homes[3] / "step-20").rename(homes[3] / "gone")
    found = train_many(models(), [TASK] * 4, SHORT, SEEDS, folders=homes, checkpoint_every=10)
    for one, other in zip(found, whole, strict=True):
        agree(one, other)
    rows = (homes[1] / "metrics.jsonl").read_text().splitlines()
    assert len(rows) == 4
    again = train_many(nets := models(), [TASK] * 4, SHORT, SEEDS, folders=homes, checkpoint_every=10)
    assert again == found and not torch.equal(nets[0].embed.weight, models()[0].embed.weight)


def test_a_signal_ends_a_group_after_saving(tmp_path: Path) -> None:
    folders, heard = [tmp_path / str(number) for number in range(2)], []
    before = signal.signal(signal.SIGUSR1, lambda number, frame: heard.append(number))

    def told(number: int, step: int) -> None:
        if (number, step) == (1, 10):
            signal.raise_signal(signal.SIGUSR1)

    try:
        with pytest.raises(KeyboardInterrupt):
            train_many(models(count=2), [TASK] * 2, SHORT[:2], SEEDS[:2], folders=folders, on_step=told)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert heard == [signal.SIGUSR1]
    assert [path.name for folder in folders for path in folder.glob("step-*")] == ["step-11"] * 2


def test_lm_train_goes_on_where_a_group_was_stopped(tmp_path: Path) -> None:
    homes = [tmp_path / str(k) for k in range(4)]
    stopped(homes, 30)
    for k, net in enumerate(models()):
        single = train(net, TASK, SHORT[k], SEEDS[k], folder=homes[k], checkpoint_every=10)
        agree(single, train(models()[k], TASK, SHORT[k], SEEDS[k]))


@pytest.mark.parametrize(
    "config",
    [SMALL, ModelConfig.gpt2(1, 2, 16, max_seq_len=32), ModelConfig.llama(2, 4, 32, canon="ABCD", qk_norm=True)]
    + [ModelConfig.llama(1, 2, 16, mixer=name) for name in ("gla", "mamba2", "gdn")],
    ids=["rotary", "gpt2", "canon", "gla", "mamba2", "gdn"],
)
def test_the_company_does_not_show_in_a_model(config: ModelConfig) -> None:
    weights, rows = [], []
    for count in (1, 2, 4):
        nets = models(config, count)
        found = train_many(nets, [TASK] * count, [replace(each, steps=20) for each in CONFIGS[:count]], SEEDS[:count])
        weights.append([p.detach().clone() for p in nets[0].parameters()])
        rows.append(losses(found[0]))
    assert rows[0] == rows[1] == rows[2]
    for one, two, four in zip(*weights, strict=True):
        assert torch.equal(one, two) and torch.equal(one, four)
    assert train_many([], [], [], []) == []


def test_a_stop_between_two_rows_changes_no_bit(tmp_path: Path) -> None:
    homes = [tmp_path / str(k) for k in range(4)]

    def stop(number: int, step: int) -> None:
        if (number, step) == (3, 30):
            signal.raise_signal(signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    try:
        with pytest.raises(KeyboardInterrupt):
            train_many(models(), [TASK] * 4, SHORT, SEEDS, folders=homes, on_step=stop)
    finally:
        signal.signal(signal.SIGINT, before)
    assert {path.name for path in tmp_path.glob("*/step-*")} == {"step-31"}
    found = train_many(models(), [TASK] * 4, SHORT, SEEDS, folders=homes)
    assert [*map(losses, found)] == [*map(losses, train_many(models(), [TASK] * 4, SHORT, SEEDS))]


@dataclass(frozen=True)
class Longer(Counting):
    def vocab(self) -> Vocab:
        return Vocab(tuple("abcdefg"))


def test_what_does_not_go_together_is_refused() -> None:
    two = [TASK] * 2
    other = build(SMALL, TASK.vocab().size + 3, 1)
    with pytest.raises(Unstackable, match="different vocabularies .* a group of each kind"):
        train_many([models()[0], other], two, [CONFIG] * 2, [0, 1])
    with pytest.raises(UserError, match="the task needs 10; use vocab_size=10"):
        train_many(models(count=2), [TASK, Longer()], [CONFIG] * 2, [0, 1])
    with pytest.raises(Unstackable, match="different configurations"):
        train_many([models()[0], models(replace(SMALL, norm="rms"))[1]], two, [CONFIG] * 2, [0, 1])
    with pytest.raises(Unstackable, match="settings beside lr"):
        train_many(models(count=2), two, [CONFIG, replace(CONFIG, batch_size=8)], [0, 1])
    with pytest.raises(Unstackable, match="set it to 1"):
        train_many(models(count=2), two, [replace(CONFIG, grad_accum_steps=2)] * 2, [0, 1])
    with pytest.raises(Unstackable, match="positions=relative"):
        train_many(models(replace(SMALL, positions="relative"), 2), two, [CONFIG] * 2, [0, 1])


class Own(torch.nn.Module):
    """A gain that no layer of torch holds, and a buffer that is not trained."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.gain = torch.nn.Parameter(torch.full((16,), 1.0 + seed))
        self.register_buffer("shift", torch.full((16,), 0.1 * seed))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.gain + self.shift


def with_own(seed: int) -> Decoder:
    net = build(SMALL, TASK.vocab().size, seed)
    for block in net.blocks:
        block.mlp.up = torch.nn.Sequential(block.mlp.up, torch.nn.Linear(64, 16), Own(seed), torch.nn.Linear(16, 64))
    torch.manual_seed(seed)
    for block in net.blocks:
        for layer in block.mlp.up[1::2]:
            layer.reset_parameters()
    return net


def test_layers_of_other_kinds_are_asked_model_by_model() -> None:
    configs = [replace(each, steps=20) for each in CONFIGS[:3]]
    found = train_many([with_own(k) for k in range(3)], [TASK] * 3, configs, SEEDS[:3])
    for k in range(3):
        agree(found[k], train(with_own(k), TASK, configs[k], SEEDS[k]))


class Across(torch.nn.Module):
    """Mixes the rows of a batch: alone it does something else than together."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + x.mean(0)


def test_models_that_differ_together_are_refused() -> None:
    nets = models(count=2)
    for net in nets:
        net.norm = torch.nn.Sequential(net.norm, Across())
    with pytest.raises(Unstackable, match="other losses together than alone"):
        train_many(nets, [TASK] * 2, [CONFIG] * 2, [0, 1])


def test_the_page_shows_what_works() -> None:
    page = (Path(__file__).resolve().parents[3] / "docs" / "many.md").read_text()
    code = page.split("```python\n")[1].split("```")[0].replace("steps=500", "steps=2")
    found: dict[str, Any] = {}
    exec(code, found)
    assert [len(history) for history in found["histories"]] == [1] * 4
