"""Looking for informative sizes: the search, what is read off a command line, whole calibrations with known ends."""

import csv
import itertools
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import leaky
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from leaky import Leaky

from experiments.harness import Run, cli, run_id
from experiments.harness.calibration import calibrate
from experiments.harness.calibration.config_text import import_lines, parse_assignments, parse_value, to_code
from experiments.harness.calibration.report import run_code
from experiments.harness.calibration.search import Search, classify_score, combine_verdicts
from experiments.harness.evaluation.task_metrics import TaskScore, metric_for
from experiments.harness.execution import execute
from experiments.harness.planning import cost
from lm.config import ModelConfig, TrainConfig
from lm.model import build
from synth import UserError
from synth.registry import get_task
from synth.tasks.cfg import Cfg
from tests.experiments.test_cli import fails

LEAKY = str(Path(leaky.__file__))
TINY = ["--scale", "smoke", "--jobs", "1", "--model", "n_layers=1,d_model=8", "--train", "batch_size=8"]


def call(tmp_path, *arguments):
    cli.main_all(["calibrate", *arguments, "--runs-dir", str(tmp_path / "runs")])


@pytest.fixture
def fast(monkeypatch):
    """Steps of 10 ms, whatever the machine is doing."""
    monkeypatch.setattr(cost, "time_training_step", lambda *_, **__: 0.01)


# ---- the search ---------------------------------------------------------------------------------------------------
def test_verdicts_lie_a_tenth_above_chance_and_at_nine_tenths():
    assert [classify_score(score, 0.25) for score in (0.0, 0.32, 0.33, 0.89, 0.9)] == [
        "floor", "floor", "informative", "informative", "ceiling",
    ]  # fmt: skip
    assert classify_score(math.nan, 0.0) == "floor"
    assert combine_verdicts(["floor", "floor"]) == "floor" and combine_verdicts(["floor", "ceiling"]) == "informative"


def explored(sizes, ordered, truth):
    search, tried = Search(sizes, ordered), []
    while (size := search.suggest()) is not None:
        tried.append(size)
        search.record(size, truth(size))
    return search, tried


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(1, 4), min_size=0, max_size=3), st.floats(-1, 12), st.floats(0, 6), st.data())
def test_every_verdict_of_a_monotone_truth_is_found(lengths, ceiling, width, data):
    sizes = list(itertools.product(*(range(n) for n in lengths)))
    ordered = data.draw(st.lists(st.booleans(), min_size=len(lengths), max_size=len(lengths)))

    def truth(size):
        return "ceiling" if sum(size) <= ceiling else "informative" if sum(size) <= ceiling + width else "floor"

    search, tried = explored(sizes, ordered, truth)
    assert search.verdicts == {size: truth(size) for size in sizes}
    assert len(tried) == len(set(tried)) and tried[0] == tuple(0 for _ in lengths)
    assert {size for size in sizes if truth(size) == "informative"} <= set(tried)


def test_a_chain_is_bisected_and_left_once_the_easiest_is_at_floor():
    sizes = [(k,) for k in range(64)]
    _, tried = explored(sizes, [True], lambda size: "ceiling" if size[0] < 40 else "floor")
    assert len(tried) <= 1 + 6
    assert explored(sizes, [True], lambda size: "floor")[1] == [(0,)]
    assert len(explored(sizes, [False], lambda size: "floor")[1]) == 64  # names in no order


# ---- text and configurations --------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Fields:
    number: int = 1
    share: float | None = None
    flag: bool = False
    word: Literal["on", "off"] = "on"
    pair: tuple[float, float] = (0.0, 1.0)
    many: tuple[int, ...] = ()
    text: str | None = None
    other: dict | None = None


def test_fields_take_the_values_of_their_types():
    texts = parse_assignments(
        ["number=3,share=1e-3", "pair=0.5,2", "many=1,2,3,flag=true", "text=None", "word=off"], "--x"
    )
    read = Fields(**{name: parse_value(Fields, name, text, "--x") for name, text in texts.items()})
    assert read == Fields(3, 0.001, True, "off", (0.5, 2.0), (1, 2, 3), None)
    assert to_code(read) == 'Fields(number=3, share=0.001, flag=True, word="off", pair=(0.5, 2.0), many=(1, 2, 3))'
    assert parse_value(Fields, "text", "a", "--x") == "a"


@pytest.mark.parametrize(
    "name, text",
    [("number", "1.5"), ("share", "x"), ("flag", "1"), ("word", "of"), ("pair", "1"), ("many", "1,b"), ("other", "1")],
)
def test_a_value_of_another_type_is_one_line(name, text):
    with pytest.raises(UserError, match=f"--x {name}={text}: {name} of Fields takes "):
        parse_value(Fields, name, text, "--x")


def test_code_makes_an_equal_run():
    task = get_task(f"{LEAKY}:Leaky", noise=7, kind='a "b"')
    model, train = ModelConfig.llama(1, 2, 8), TrainConfig(30, lr=2e-3, betas=(0.8, 0.9))
    for each in (task, Cfg("cfg3f", "13")):
        run = Run("NN_name", each, model, train, (TaskScore("right"),))
        names: dict = {}
        exec("\n".join(import_lines([run, each, model, train, *run.evaluations])), names)
        assert run_id(eval(run_code(run), names)) == run_id(run)


# ---- how answers are judged ---------------------------------------------------------------------------------------
def test_the_measure_is_what_the_task_has():
    assert metric_for(Leaky(), 0, 50) == metric_for(Leaky(), 0, 50, "score")
    found = metric_for(Cfg("brackets"), 0, 50)
    assert (found.metric, found.chance, found.evaluation.samples) == ("valid_0", 0.0, 50)
    score, chance, parts = metric_for(Leaky(), 0, 50).read_score([{"right": 0.5}])
    assert (score, chance, parts) == (0.5, 0.25, {})
    rows = [{"difficulty": "all", "right": 0.5, "chance": 0.1}, {"difficulty": 1, "right": 0.75, "chance": 0.1}]
    assert metric_for(Leaky(), 0, 50).read_score(rows) == (0.5, 0.1, {1: 0.75})
    assert math.isnan(metric_for(Leaky(), 0, 50).read_score([{"diverged": True}])[0])


def test_labelled_answers_are_read_at_the_hardest(monkeypatch):
    task = get_task("depo", nodes=5, hops=2)
    found = metric_for(task, 0, 50)
    assert (type(found.evaluation).__name__, found.evaluation.documents, found.metric) == (
        "TeacherForcedAccuracy",
        50,
        "correct",
    )
    assert found.evaluation.hardest and found.chance == task.hardest().floors(None)["correct"]
    monkeypatch.setattr(type(task), "floors", lambda *_: {"loss": 0.0})
    with pytest.raises(UserError, match="the floors of depo do not say what guessing scores on 'correct'"):
        metric_for(task, 0, 50)
    with pytest.raises(UserError, match="leaky does not label its answers"):
        metric_for(Leaky(), 0, 50, "answers")


def test_scores_of_a_model_that_knows_nothing_are_chance():
    task = Leaky(noise=100)
    model = build(ModelConfig(1, 2, 8, 8), task.vocab().size, 0)
    found = TaskScore("right", 2000).measure(model, task, 0, 0)["right"]
    assert abs(found - 0.25) < 0.08  # untrained it may also say one of the other two ids


# ---- whole calibrations -------------------------------------------------------------------------------------------
def test_noise_decides_the_verdict(tmp_path, capsys, fast):
    table = tmp_path / "table.csv"
    asked = [f"{LEAKY}:Leaky", "--grid", "noise=0,50,100", "--lr", "3e-2", "--seconds", "1.2", *TINY]
    call(tmp_path, *asked, "--output", str(table))
    printed = capsys.readouterr().out
    with open(table) as file:
        rows = list(csv.DictReader(file))
    assert [(row["noise"], row["lr"]) for row in rows] == [("0", "0.03"), ("50", "0.03"), ("100", "0.03")]
    assert [row["verdict"] for row in rows] == ["ceiling", "informative", "floor"]
    assert abs(float(rows[1]["score"]) - 0.625) < 0.1  # half are told, a quarter of the others is guessed
    assert "\nrecommended: noise=50, score 0.6" in printed
    names: dict = {}
    *lines, line = printed[printed.index("\nfrom ") :].splitlines()
    exec("\n".join(lines), names)
    run = eval(line, names)  # the same training, for an experiment
    assert (run.task.noise, run.train.lr, run.train.steps) == (50, 0.03, 120)
    assert run.model == ModelConfig.llama(1, 2, 8, max_seq_len=8, init_std=0.354)
    assert run.train.packing == "whole"  # questions are not cut from their answers
    assert (tmp_path / "runs" / rows[1]["run"] / "rows.json").is_file()


def test_nothing_is_trained_twice(tmp_path, capsys, monkeypatch):
    asked = [f"{LEAKY}:Leaky", "--grid", "noise=0,100", "--lr", "3e-2", "--seconds", "0.4", *TINY]
    measured = iter([0.01])  # a second time would raise, and other steps would come of it
    monkeypatch.setattr(cost, "time_training_step", lambda *_, **__: next(measured, 0.02) if _[0].task.noise else 0.01)
    work, done = execute._measure, []

    def stopped(run, *rest):
        if len(done) == 1:
            raise KeyboardInterrupt
        done.append(run)
        return work(run, *rest)

    monkeypatch.setattr(execute, "_measure", stopped)
    with pytest.raises(SystemExit) as end:
        call(tmp_path, *asked)
    assert end.value.code == 130 and len(done) == 1
    assert "run the same command to go on" in capsys.readouterr().err
    monkeypatch.setattr(execute, "_measure", lambda run, *rest: done.append(run) or work(run, *rest))
    call(tmp_path, *asked)
    assert [run.task.noise for run in done] == [0, 100] and all(run.train.steps == 40 for run in done)
    first = capsys.readouterr().out
    call(tmp_path, *asked)
    assert len(done) == 2 and capsys.readouterr().out == first
    assert "go from ceiling to floor at once" in first


def test_two_architectures_in_two_processes(tmp_path, capsys, fast):
    arguments = [
        "--grid",
        "kind=a",
        "--lr",
        "3e-2",
        "--seconds",
        "0.2",
        *TINY[:2],
        "--model",
        "d_model=8",
        "--jobs",
        "2",
    ]
    call(tmp_path, f"{LEAKY}:Leaky", *arguments, "--set", "noise=30", "--arch", "bare=mlp:none", "flat=n_heads:1")
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    table = [line[:2] for line in lines if line[:1] == ["kind=a"]]
    assert table == [["kind=a", model] for model in ("reference", "bare", "flat")]
    assert any(line[0] == "recommended:" and line[-1] == "apart" for line in lines if line)
    runs = [line for line in lines if line and line[0].startswith("Run(")]
    assert ['mlp="none",' in line for line in runs] == [False, True, False]


def planted(monkeypatch, score):
    """Trainings that reach score(run) at once."""
    monkeypatch.setattr(calibrate, "run_all", lambda *_: None)
    constant = {"seconds": 1.0, "train_loss": 0.5, "parameters": 10, "chance": 0.0}
    monkeypatch.setattr(calibrate, "read_rows", lambda run, runs_dir: [{**constant, **score(run)}])


def test_the_best_rate_counts_and_a_diverged_one_does_not(tmp_path, capsys, monkeypatch, fast):
    reached = {1e-3: {"right": 0.05}, 2e-3: {"right": 0.4}, 3e-3: {"train_loss": None, "diverged": True}}
    planted(monkeypatch, lambda run: reached[run.train.lr])
    call(tmp_path, f"{LEAKY}:Leaky", "--lr", "3e-3,1e-3,2e-3", *TINY)
    printed = capsys.readouterr().out
    assert [line.split()[-1] for line in printed.splitlines()[1:4]] == ["diverged", "floor", "informative"]
    assert "recommended: the task as it is, score 0.40 at rate 0.002" in printed and "lr=0.002" in printed


def test_where_two_models_differ_most_is_recommended(tmp_path, capsys, monkeypatch, fast):
    reached = {"rms": [1.0, 0.8, 0.4, 0.02, 0.02], "layer": [1.0, 0.95, 0.9, 0.85, 0.03]}
    planted(monkeypatch, lambda run: {"right": reached[run.model.norm][run.task.noise]})
    vary = ["--grid", "noise=0,1,2,3,4", "--lr", "1e-3", "--arch", "other=norm:layer"]
    call(tmp_path, f"{LEAKY}:Leaky", *vary, *TINY)
    printed = capsys.readouterr().out
    assert "recommended: noise=3, reference 0.02 at rate 0.001, other 0.85 at rate 0.001, 0.83 apart" in printed
    assert "noise=0: ceiling" in printed and "noise=4: floor" in printed


@pytest.mark.parametrize("score, advice", [(0.01, "vary easier sizes"), (0.99, "vary harder sizes")])
def test_without_an_informative_size_it_says_where_to_look(tmp_path, capsys, monkeypatch, fast, score, advice):
    planted(monkeypatch, lambda run: {"right": score})
    call(tmp_path, f"{LEAKY}:Leaky", "--grid", "noise=0,1,2,3", "--lr", "1e-3", *TINY)
    printed = capsys.readouterr().out
    assert advice in printed.splitlines()[-1] and printed.count("(not tried)") >= 1


@pytest.mark.parametrize(
    "arguments, line",
    [
        (["leeky"], "no task named 'leeky'"),
        ([f"{LEAKY}:Leaky", "--grid", "nois=1,2"], "--grid nois=1: Leaky has no field 'nois'; did you mean noise?"),
        ([f"{LEAKY}:Leaky", "--grid", "noise=a"], "--grid noise=a: noise of Leaky takes int"),
        ([f"{LEAKY}:Leaky", "--grid", "noise"], "--grid noise: no field is named; write field=value"),
        ([f"{LEAKY}:Leaky", "--grid", "noise=-1,101"], "noise=101 must lie between 0 and 100"),
        ([f"{LEAKY}:Leaky", "--grid", "noise=1", "--set", "noise=2"], "noise is both in --set and in --grid"),
        ([f"{LEAKY}:Leaky", "--model", "d_modle=8"], "ModelConfig has no field 'd_modle'; did you mean d_model?"),
        ([f"{LEAKY}:Leaky", "--model", "d_model=7"], "d_model=7 does not split into n_heads=2"),
        ([f"{LEAKY}:Leaky", "--train", "lr=1"], "--train lr is not yours to set; give --lr"),
        ([f"{LEAKY}:Leaky", "--lr", "1e-3,0"], "--lr: '0' is not a number above 0"),
        ([f"{LEAKY}:Leaky", "--arch", "nope"], "--arch nope: give a new name and what it switches"),
        ([f"{LEAKY}:Leaky", "--arch", "a=positions:nowhere"], "positions of ModelConfig takes"),
        ([f"{LEAKY}:Leaky", "--arch", "a=d_model:9"], "d_model=9 does not split into n_heads=2"),
        ([f"{LEAKY}:Leaky", "--metric", "validity"], "validity needs a task whose truth is a grammar; leaky is none"),
        ([f"{LEAKY}:Leaky", "--seconds", "0.19"], "so that 0.19 s are 19 steps; give --seconds 1 or more"),
        ([f"{LEAKY}:Leaky", "--output", "."], ". is a folder; give --output the name of a file"),
        (
            [f"{LEAKY}:Leaky", "--output", f"{LEAKY}/x.csv"],
            f"{LEAKY}: File exists; mend this or give --output a folder",
        ),
        ([f"{LEAKY}:Mute"], "nothing says how well a model does mute"),
        (
            [f"{LEAKY}:Leaky", "--grid", "length=4,90", "--model", "max_seq_len=40"],
            "length=90: documents of 93 tokens do not fit max_seq_len=40; give --model max_seq_len=104, or easier",
        ),
        (
            [f"{LEAKY}:Leaky", "--grid", "length=4,90", "--train", "seq_len=40"],
            "length=90: documents of 93 tokens do not fit seq_len=40; give --train seq_len=104, or easier sizes",
        ),
    ],
)
def test_bad_input_is_one_line(tmp_path, capsys, fast, arguments, line):
    scale = ["--scale", "smoke", "--runs-dir", str(tmp_path)]
    assert line in fails(capsys, cli.main_all, ["calibrate", *arguments, *scale])
    assert not [path for path in tmp_path.iterdir() if not path.name.startswith(".")]  # before anything was trained


def test_values_that_do_not_go_together_are_left_out(fast):
    grid = calibrate.parse_grid(f"{LEAKY}:Leaky", ["noise=50,150", "kind=a,b"], [])
    assert [grid.fields_at(size) for size in grid.tasks] == [{"noise": 50, "kind": "a"}, {"noise": 50, "kind": "b"}]
    assert grid.ordered == (True, False)
    assert replace(grid.tasks[0, 1], kind="a") == grid.tasks[0, 0]
