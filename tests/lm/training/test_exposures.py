"""Exposures: everybody is seen as often as was planned, also after kills, and on two processes."""

import json
import multiprocessing
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from lm.config import ModelConfig, TrainConfig
from lm.model import Decoder, build
from lm.training.history import History
from lm.training.loop import train
from synth import Corpus, UserError
from synth.mixture import Mixture
from synth.task import Task
from synth.tasks.biod import BioD
from synth.tasks.bios import BioS
from synth.tasks.cfg import Cfg

ROOT = Path(__file__).resolve().parents[3]
BIOD = BioD(people=48, kinds=2, set_size=4, alphabet=6, name_length=2, name_alphabet=8)
BIOS = BioS(people=48, first=5, middle=4, last=6, years=3, months=2, days=4, cities=4, universities=5, majors=3,
            employers=9, templates=2)  # fmt: skip
HALVES = Mixture((replace(BIOS, half="first"), replace(BIOS, half="second", wordings=1)), (0.5, 0.5))
TASKS = {"bioD": BIOD, "bioS": BIOS}
QUIET: Callable[[int, int, float], None] = lambda *_: None  # noqa: E731


def model(task: Task) -> Decoder:
    return build(ModelConfig(1, 2, 8, 128), task.vocab().size, 0)


def exposed(task: Task, config: TrainConfig, seed: int = 0) -> tuple[np.ndarray, History]:
    history = train(model(task), task, config, seed, order_seed=3, on_step=QUIET)
    assert history.exposures is not None and history.exposures.sum() == history.documents
    return history.exposures, history


@pytest.mark.parametrize("name", TASKS)
def test_one_document_a_row_is_exact(name: str) -> None:
    config = TrainConfig.for_exposures(TASKS[name], 5, batch_size=16, seq_len=127, packing="none")
    counts, _ = exposed(TASKS[name], config)
    assert config.steps == 15 and set(counts) == {5}
    counts, _ = exposed(TASKS[name], replace(config, steps=14))
    assert sorted(set(counts)) == [4, 5] and counts.sum() == 14 * 16


@pytest.mark.parametrize("packing", ["cut", "whole"])
def test_windows_that_end_with_an_epoch_are_exact(packing: str) -> None:
    """bioD: documents of one length, two of them a window, so that 5 * 48 / (2 * 8) = 15 steps."""
    window = 2 * BIOD.document_length - (packing == "whole")  # a whole row holds one token more than its targets
    config = TrainConfig(steps=15, batch_size=8, seq_len=window, packing=packing)
    if packing == "cut":
        assert TrainConfig.for_exposures(BIOD, 5, batch_size=8, seq_len=window) == config
    assert set(exposed(BIOD, config)[0]) == {5}


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("name", TASKS)
def test_cut_windows_are_exact_within_one(name: str, seed: int) -> None:
    """Everybody has E or E + 1: one more whose last token the last window still reached."""
    task = TASKS[name]
    config = TrainConfig.for_exposures(task, 5, batch_size=2, seq_len=100)
    counts, history = exposed(task, config, seed)
    corpus = Corpus(task, seed, seq_len=100, order_seed=3)
    ends = np.cumsum(corpus.documents(0, 7 * 48).lengths) - 1  # where in the stream each document's last token is
    ended = int((ends <= config.steps * 2 * 100).sum())
    assert history.documents == ended
    assert np.array_equal(counts, np.bincount(corpus.item_ids(0, ended), minlength=48))
    assert counts.max() - counts.min() <= 1
    if seed == 0 or name == "bioD":  # the lengths that were counted
        assert set(counts) <= {5, 6} and min(exposed(task, replace(config, steps=config.steps - 1))[0]) < 5


def test_whole_documents_differ_by_one_at_most() -> None:
    counts, _ = exposed(BIOS, TrainConfig(steps=23, batch_size=3, seq_len=160, packing="whole"))
    assert counts.max() - counts.min() <= 1 and counts.min() >= 2


def test_long_plans_count_whole_epochs_only(monkeypatch: pytest.MonkeyPatch) -> None:
    import lm.data.exposures

    exact = TrainConfig.for_exposures(BIOS, 40, batch_size=2, seq_len=100).steps
    monkeypatch.setattr(lm.data.exposures, "COUNTED_DOCUMENTS", 10 * 48 + 7)
    assert TrainConfig.for_exposures(BIOS, 40, batch_size=2, seq_len=100).steps == pytest.approx(exact, rel=0.01)
    monkeypatch.setattr(lm.data.exposures, "COUNTED_DOCUMENTS", 30)  # fewer than there are people
    assert TrainConfig.for_exposures(BIOS, 40, batch_size=2, seq_len=100).steps == pytest.approx(exact, rel=0.05)
    assert TrainConfig.for_exposures(BIOD, 40, batch_size=1, seq_len=1).steps == 40 * 48 * BIOD.document_length - 1


@pytest.mark.parametrize(
    ("task", "exposures", "settings", "named"),
    [(BIOD, 5, {"batch_size": 25, "packing": "none"}, "the nearest that does is batch_size=24"),
     (BIOD, 1, {"batch_size": 99, "packing": "none"}, "batch_size=48"), (BIOD, 0, {}, "at least 1"),
     (BIOD, 5, {"packing": "whole"}, "none or cut"), (Cfg("cfg3f"), 5, {}, "give steps"),
     (BIOD, 5, {"batch_size": 16, "packing": "none", "lr": 0.0}, "lr=0.0")],
)  # fmt: skip
def test_plans_that_cannot_be_kept_are_refused(task: Task, exposures: int, settings: dict, named: str) -> None:
    with pytest.raises(UserError, match=named) as error:
        TrainConfig.for_exposures(task, exposures, **settings)
    assert "\n" not in str(error.value)


LONG = TrainConfig.for_exposures(BIOD, 50, batch_size=8, seq_len=15, packing="none", lr=1e-2)  # 300 steps
RESUMED = {"order_seed": 3, "checkpoint_every": 3, "log_every": 7, "on_step": QUIET}


def victim(folder: Path) -> None:
    torch.set_num_threads(1)
    train(model(BIOD), BIOD, LONG, 0, folder=folder, **RESUMED)


def newest(folder: Path) -> int:
    return max((int(path.name.removeprefix("step-")) for path in folder.glob("step-*")), default=0)


def test_kills_at_random_moments_lose_no_exposure(tmp_path: Path) -> None:
    """Four processes in a row are killed; a server that has torch loaded forks them, or each would take seconds."""
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["lm.training.loop", __name__])
    chance, reached = random.Random(), [0]
    for _ in range(4):
        process = processes.Process(target=victim, args=(tmp_path,))
        process.start()
        while newest(tmp_path) <= reached[-1] and process.is_alive():
            time.sleep(0.002)
        time.sleep(chance.uniform(0, 0.2))
        process.kill()
        process.join()
        if process.exitcode == 0:
            break
        reached.append(newest(tmp_path))
    assert len(reached) > 2, f"only {len(reached) - 1} kills came before the end; lengthen the training"
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    whole, again = model(BIOD), model(BIOD)
    train(whole, BIOD, LONG, 0, order_seed=3, on_step=QUIET)
    history = train(again, BIOD, LONG, 0, folder=tmp_path, **RESUMED)
    torch.set_num_threads(threads)
    assert history.exposures is not None and set(history.exposures) == {50}, f"killed at steps {reached[1:]}"
    assert history.documents == 50 * 48 and history[-1]["step"] == LONG.steps
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), again.parameters(), strict=True))


SCRIPT = """
import json, signal, sys
from accelerate import PartialState
from lm.training.loop import train
from tests.lm.training.test_exposures import BIOD, BIOS, HALVES, QUIET, TrainConfig, model

def stop(step, steps, loss):
    if step == 4:
        signal.raise_signal(signal.SIGINT)  # to the first rank, which the others follow

signal.signal(signal.SIGINT, signal.default_int_handler)
cut = {"batch_size": 4, "seq_len": 100}
for task, settings in ((BIOD, {"packing": "none", "batch_size": 16, "seq_len": 15}), (BIOS, cut), (HALVES, cut)):
    config = TrainConfig.for_exposures(task, 3, lr=1e-2, **settings)
    folder = f"{sys.argv[1]}/{task.name}"
    try:
        train(model(task), task, config, 0, folder=folder, checkpoint_every=3, log_every=1, on_step=stop)
    except KeyboardInterrupt:
        pass
    history = train(model(task), task, config, 0, folder=folder, log_every=1, on_step=QUIET)
    if PartialState().is_main_process:
        print(json.dumps([history.exposures.tolist(), [row["loss"] for row in history]]))
"""


def test_two_processes_count_as_one(tmp_path: Path) -> None:
    """Each rank draws the same global batch, so each counts all; here also across a stop and a resume."""
    (tmp_path / "job.py").write_text(SCRIPT)
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests/helpers")])
    env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": path, "ACCELERATE_USE_CPU": "1"}
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    printed = []
    for ranks, launcher in ((1, []), (2, torchrun)):
        command = [sys.executable, *launcher, str(tmp_path / "job.py"), str(tmp_path / str(ranks))]
        done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=200)
        assert done.returncode == 0, done.stderr[-2000:]
        printed.append([json.loads(line) for line in done.stdout.strip().splitlines()[-3:]])
    for one, two, allowed in zip(*printed, ({3}, {3, 4}, {3, 4}), strict=True):
        assert one[0] == two[0] and set(one[0]) <= allowed
        assert np.allclose(one[1], two[1], rtol=0, atol=1e-5)
