"""Snapshots of models that are trained together: no trace, no company, ends of their own."""

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from lm.config import ModelConfig
from lm.ensemble.train_many import train_many
from lm.model import Decoder
from lm.training import loop
from lm.training.history import Diverged, History
from lm.training.loop import train
from synth.errors import UserError
from tests.lm.ensemble.test_train_many import CONFIGS, SEEDS, SHORT, models
from tests.lm.training.test_loop import TASK
from tests.lm.training.test_snapshots import equal, noisy, rows, weights

STEPS = (1, 10, 17, 20, 33, 40)
Found = dict[int, dict[int, dict[str, Tensor]]]


class Keep:
    """An on_snapshot that keeps the weights by number and step, and ends models at the steps of `ends`."""

    def __init__(self, ends: dict[int, int] | None = None, action: Callable[[int, int], Any] = lambda *_: None) -> None:
        self.found: Found = defaultdict(dict)
        self.ends, self.action = ends or {}, action

    def __call__(self, number: int, step: int, net: Decoder) -> bool:
        assert not net.training and not torch.is_grad_enabled() and step not in self.found[number]
        self.action(number, step)
        self.found[number][step] = weights(net)
        return self.ends.get(number) == step


def fit(nets: Sequence[Decoder], numbers: Sequence[int] = range(4), **more: Any) -> list[Any]:
    """Train the models of these numbers together."""
    data = [SEEDS[number] for number in numbers]
    return train_many(nets, [TASK] * len(nets), [SHORT[number] for number in numbers], data, **more)


def single(number: int) -> list[Decoder]:
    return [models()[number]]


def check_same(nets: Sequence[Decoder], histories: Sequence[Any], others: Sequence[Decoder], found: Any) -> None:
    for net, history, other, again in zip(nets, histories, others, found, strict=True):
        assert equal(weights(net), weights(other)) and rows(history) == rows(again)
        assert (history.tokens, history.documents) == (again.tokens, again.documents)


def test_snapshots_leave_no_trace() -> None:
    plain, watched = models(), models()
    history = fit(plain)
    state = torch.get_rng_state()
    modes = [[m.training for m in net.modules()] for net in watched]
    other = fit(watched, snapshot_steps=STEPS, on_snapshot=lambda _, step, net: noisy(step, net))
    check_same(plain, history, watched, other)
    assert torch.equal(state, torch.get_rng_state())
    assert modes == [[m.training for m in net.modules()] for net in watched]


def test_a_snapshot_has_the_weights_of_its_step_whatever_the_company() -> None:
    keep = Keep()
    fit(models(), snapshot_steps=STEPS, on_snapshot=keep)
    assert {number: tuple(found) for number, found in keep.found.items()} == dict.fromkeys(range(4), STEPS)
    for number in range(4):
        alone, tracked = Keep(), {}
        fit(single(number), [number], snapshot_steps=STEPS, on_snapshot=alone)
        assert all(equal(alone.found[0][step], keep.found[number][step]) for step in STEPS)

        def note(step: int, net: Decoder, tracked: Any = tracked) -> bool:
            tracked[step] = weights(net)
            return False

        train(models()[number], TASK, SHORT[number], SEEDS[number], snapshot_steps=STEPS, on_snapshot=note)
        for step in STEPS:
            for name, tensor in tracked[step].items():
                torch.testing.assert_close(keep.found[number][step][name], tensor, rtol=1e-3, atol=2e-3)


@pytest.mark.parametrize("ends", [{1: 17}, {0: 20, 3: 20}, {0: 1, 1: 10, 2: 17, 3: 40}, {0: 17, 1: 17, 2: 17, 3: 17}])
def test_a_model_that_ends_leaves_the_group(tmp_path: Path, ends: dict[int, int]) -> None:
    nets, alone, keep = models(), models(), Keep(ends)
    homes = [tmp_path / str(number) for number in range(4)]
    found = fit(nets, snapshot_steps=STEPS, on_snapshot=keep, folders=homes)
    for number in range(4):
        end = ends.get(number, 40)
        assert list(keep.found[number]) == [step for step in STEPS if step <= end]
        assert equal(keep.found[number][end], weights(nets[number]))
        more: dict[str, Any] = {"snapshot_steps": STEPS, "on_snapshot": Keep({0: end})} if number in ends else {}
        check_same([nets[number]], [found[number]], [alone[number]], fit([alone[number]], [number], **more))
        assert found[number][-1]["step"] == end and found[number].tokens == end * 4 * 32
        assert [path.name for path in homes[number].glob("step-*")] == [f"step-{end}"]
        assert len((homes[number] / "metrics.jsonl").read_text().splitlines()) == len(found[number])
        like = train(models()[number], TASK, SHORT[number], SEEDS[number], snapshot_steps=[end],
                     on_snapshot=lambda step, net: True)  # fmt: skip
        assert [row["step"] for row in like] == [row["step"] for row in found[number]]
        assert [row["loss"] for row in like] == pytest.approx([row["loss"] for row in found[number]], abs=1e-4)


def test_a_call_after_the_end_ends_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where one model has ended at the step at which the checkpoint of another is."""
    homes, stopped = [tmp_path / str(number) for number in range(4)], Keep({1: 20, 2: 20})

    def kill(number: int, step: int) -> None:
        if step == 30:
            raise RuntimeError("killed")

    args: dict[str, Any] = {"snapshot_steps": STEPS, "folders": homes, "checkpoint_every": 20}
    with pytest.raises(RuntimeError, match="killed"):
        fit(models(), on_snapshot=stopped, on_step=kill, **args)
    assert {path.name for path in tmp_path.glob("*/step-*")} == {"step-20"}
    nets, whole, rest = models(), models(), Keep()
    found = fit(nets, on_snapshot=rest, **args)
    assert set(rest.found) == {0, 3} and all(min(each) == 33 for each in rest.found.values())
    check_same(nets, found, whole, fit(whole, snapshot_steps=STEPS, on_snapshot=Keep({1: 20, 2: 20})))
    again, alone = models(), models()[1]
    monkeypatch.setattr(loop, "record_batch", lambda *_: pytest.fail("another step was taken"))
    monkeypatch.setattr("lm.ensemble.group.record_batch", lambda *_: pytest.fail("another step was taken"))
    assert fit(again, on_snapshot=rest, **args) == found and set(rest.found) == {0, 3}
    assert train(alone, TASK, SHORT[1], SEEDS[1], folder=homes[1]) == found[1]
    assert equal(weights(alone), weights(nets[1])) and equal(weights(again[1]), weights(nets[1]))


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_group_that_was_killed_in_a_snapshot_loses_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    """In that of model 2, when 0 and 1 have theirs."""
    homes, ends = [tmp_path / str(number) for number in range(4)], {0: 17, 3: 33}

    def kill(number: int, step: int) -> None:
        if (number, step) == (2, 20):
            raise error("killed")

    cut, rest, keep, whole, nets = Keep(ends, kill), Keep(ends), Keep(ends), models(), models()
    args: dict[str, Any] = {"snapshot_steps": STEPS, "folders": homes, "checkpoint_every": 10}
    with pytest.raises(error):
        fit(models(), on_snapshot=cut, **args)
    saved = [path.name for home in homes for path in home.glob("step-*")]
    assert saved == ["step-17", "step-10", "step-10", "step-10"]
    found = fit(nets, on_snapshot=rest, **args)
    check_same(nets, found, whole, fit(whole, snapshot_steps=STEPS, on_snapshot=keep))
    assert keep.found.keys() == (cut.found | rest.found).keys()
    for number, each in keep.found.items():
        other = cut.found[number] | rest.found[number]
        assert each.keys() == other.keys() and all(equal(each[step], other[step]) for step in each)


def test_a_model_that_is_not_finite_is_dropped_instead() -> None:
    config = ModelConfig.gpt2(1, 1, 8, max_seq_len=64)
    broken, whole, keep = models(config, 3), models(config, 3), Keep()
    with torch.no_grad():
        broken[1].positions.weight[-1] = torch.nan  # beyond the window: the loss does not see it
    found = fit(broken, range(3), snapshot_steps=[17], on_snapshot=keep)
    assert isinstance(found[1], Diverged) and "weights are no longer finite at step 17" in str(found[1])
    assert set(keep.found) == {0, 2}
    check_same(broken[::2], found[::2], whole[::2], fit(whole, range(3))[::2])


def test_an_error_of_a_snapshot_is_not_taken_for_that_of_a_model() -> None:
    def diverge(number: int, step: int, net: Decoder) -> bool:
        raise Diverged("a probe diverged")

    with pytest.raises(Diverged, match="a probe diverged"):
        fit(models(), snapshot_steps=[10], on_snapshot=diverge)


def test_the_time_of_snapshots_is_not_that_of_training() -> None:
    keep, began = Keep(action=lambda *_: time.sleep(0.05)), time.perf_counter()
    found = fit(models(), snapshot_steps=STEPS, on_snapshot=keep)
    assert sum(history.seconds for history in found) < time.perf_counter() - began - 4 * len(STEPS) * 0.05


def test_nothing_is_done_without_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lm.ensemble.group.take_snapshot", lambda *_: pytest.fail("called"))
    synced: list[bool] = []
    monkeypatch.setattr("lm.ensemble.group.Ensemble.write_back", lambda *_: synced.append(True))
    assert all(isinstance(each, History) for each in fit(models(), on_snapshot=Keep()))
    assert len(synced) == 1  # at the end


def test_steps_that_a_training_does_not_have_are_refused() -> None:
    with pytest.raises(UserError, match="has 41 and .* 1 to 40"):
        fit(models(), snapshot_steps=[41], on_snapshot=Keep())
    with pytest.raises(UserError, match="give on_snapshot too"):
        fit(models(), snapshot_steps=[1])


def test_recurrent_models_end_apart_too() -> None:
    """Their layers run model by model on the modules of the models themselves."""
    config = ModelConfig.llama(1, 2, 16, mixer="gdn", canon="ABCD")
    configs = [replace(each, steps=20) for each in CONFIGS[:2]]
    nets, alone = models(config, 2), models(config, 2)
    found = train_many(nets, [TASK] * 2, configs, SEEDS[:2], snapshot_steps=[7], on_snapshot=Keep({0: 7}))
    other = train_many(alone[1:], [TASK], configs[1:], SEEDS[1:2])
    check_same(nets[1:], found[1:], alone[1:], other)
    assert [row["step"] for row in found[0]] == [7]
