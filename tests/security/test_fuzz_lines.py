"""Command lines of words that nobody would write: each ends with status 0, or with 2 and one line, within seconds."""

import io
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from fuzzing import timed, tries
from hypothesis import given
from hypothesis import strategies as st

from synth.errors import UserError


def synth(words: list[str]) -> int:
    from synth.__main__ import main
    from synth.commands.command_line import guarded

    return guarded(lambda: main(words), "")


def experiments(words: list[str]) -> None:
    from experiments.harness.cli import main_all

    main_all(words)


def benchmarks(words: list[str]) -> None:
    from benchmarks.__main__ import main

    main(words)


def of_argv(module: str) -> Callable[[list[str]], int]:
    """The command line of a package that reads sys.argv."""

    def call(words: list[str]) -> int:
        before, sys.argv = sys.argv, [module, *words]
        try:
            return import_module(module).main()
        finally:
            sys.argv = before

    return call


COMMANDS: dict[str, Callable[[list[str]], int | None]] = {
    "experiments": experiments, "synth": synth, "benchmarks": benchmarks,
    "lm": of_argv("lm.__main__"), "probing": of_argv("probing.__main__"),
}  # fmt: skip
VALUES = st.one_of(
    st.sampled_from(
        "0 -1 1 2 nan inf 1e999 1.5 None True ² ٣ .. x.py:Y .py : = , =,= a=1 -- - cfg3b brackets depo smoke paper 01 "
        "99 {} %s %(prog)s * ~".split()
    ),
    st.sampled_from(["", "9" * 30, "9" * 5000, "x" * 5000, "a\nb", "\0", "\x1b[31m", "\udc80"]),
    st.text(max_size=6),
    st.integers().map(str),
)
FLAGS = {
    "experiments": """list run plot claims cost calibrate playground --scale --dry-run --time-steps --plot-only --seeds
        --jobs --executor --results-dir --runs-dir --output-dir --output --json --write --check --arch
        --tasks --grid --set --model --train --lr --seconds --metric --num-examples --help""",
    "synth": """list show export score --task --num-samples --num-printed --seed --split --json --format --output
        --labels --overwrite --input --detail --grammar --root --people --help""",
    "lm": """train sample --output-dir --config --tracker --ops --model.n-layers --model.n-heads --model.d-model
        --model.mixer --model.positions --model.canon --model.d-ff --model.n-experts --train.steps
        --train.lr --train.betas --train.batch-size --data-seed --num-samples --trust-code --temperature
        --help --model.bias --no-model.bias""",
    "probing": """plan show ask world-facts --people --facts --names --values --tokens-per-subject --vocab-size --json
        --run --runs-dir --sentence --seed --grammar --probe-steps --output --model --endpoint --name
        --num-examples --batch-size --timeout --trust-code --help""",
    "benchmarks": "--json --quick --write --help sampler chart",
}
LIKELY = {
    "experiments": """run 01 --scale smoke
        cost 01 --scale smoke --seeds 2
        plot 01 --output-dir x
        claims --json
        list
        calibrate depo --grid nodes=5,9 --scale smoke --lr 1e-3,2e-3 --arch nope=positions:none --model n_layers=1
        playground --arch x.py:Y --tasks depo,cfg --scale smoke
        calibrate cfg --set grammar=cfg3f --train batch_size=4""",
    "synth": """list
        show cfg3b --num-samples 5
        export brackets --num-samples 3 --format txt --output x
        score brackets --input x --detail
        show depo --num-samples 3 --seed 2
        show --task cfg --grammar cfg3f --root 13
        show bioS --people 5""",
    "lm": """train mano --ops 2 --output-dir x --train.steps 5 --model.positions rotary
        sample --output-dir x --num-samples 4
        train brackets --output-dir x --model.n-layers 1 --model.d-model 8 --train.betas 0.9 0.98""",
    "probing": """plan --people 100 --values 12 28
        plan --facts x.csv --names 1e6
        show --run abc --sentence (A+B)
        ask --run abc who --json
        world-facts --model x
        world-facts --endpoint http://localhost:9 --name m --num-examples 1""",
    "benchmarks": """sampler --quick
        --json chart""",
}


@st.composite
def lines(draw: Any, name: str) -> list[str]:
    """Words in any order, or a sensible line of which some words are others."""
    word = st.sampled_from(FLAGS[name].split()) | VALUES
    if draw(st.booleans()):
        return draw(st.lists(word, max_size=7))
    found = draw(st.sampled_from(LIKELY[name].splitlines())).split()
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(found)))
        found[at : at + draw(st.integers(0, 1))] = [draw(word)]
    return found


@pytest.fixture
def harmless(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What begins trainings, draws, or asks over a network says that it was reached, and stops."""
    from experiments.harness import cli
    from experiments.harness.calibration import calibrate, trials

    deep = tmp_path / "/".join("abcdefgh")  # what is written to ../.. stays in this test's folder
    deep.mkdir(parents=True)
    monkeypatch.chdir(deep)

    def stop(*_: Any, **__: Any) -> Any:
        raise UserError("it would begin now")

    for module, names in {
        cli: ("run_all", "draw_figure", "_print_cost"), calibrate: ("run_all",), trials.TrialFactory: ("step_seconds",),
        "benchmarks.__main__": ("_run",), "lm.training.loop": ("train",),
        "probing.world_facts.runner": ("_collect_responses",),
        "synth.commands.summary": ("summarize", "format_summary"), "synth.commands.export": ("export",),
        "experiments.harness.playground.experiment": ("check_architecture",),
    }.items():  # fmt: skip
        for name in names:
            monkeypatch.setattr(*((f"{module}.{name}",) if isinstance(module, str) else (module, name)), stop)


def check_line(name: str, words: list[str]) -> None:
    """The line ends with status 0, or with 2 and one line."""
    if name == "experiments" and "--results-dir" not in words and words and words[0] not in ("calibrate", "list"):
        words = [*words, "--results-dir", "results"]
    # these are tried on a machine that is needed afterwards: nothing outside of the test's own folder
    if any(part.startswith(("/", "~")) for word in words for part in word.split("=")):
        return
    said = io.StringIO()
    with timed(f"python -m {name}", words), redirect_stdout(io.StringIO()), redirect_stderr(said):
        try:
            code = COMMANDS[name](words)
        except SystemExit as leaving:
            code = leaving.code  # type: ignore[assignment]
    assert code in (0, 2, None), (words, code)
    if code == 2:
        told = [line for line in said.getvalue().split("\n") if not line.startswith("running the code of")]
        assert len(told) == 2 and told[0].startswith("error: ") and not told[1], (words, said.getvalue())


@tries(200)
@given(words=lines("experiments"))
def test_experiments(harmless: None, words: list[str]) -> None:
    check_line("experiments", words)


@tries(60)
@given(words=lines("synth"))
def test_synth(harmless: None, words: list[str]) -> None:
    check_line("synth", words)


@tries(15)
@given(words=lines("lm"))
def test_lm(harmless: None, words: list[str]) -> None:
    check_line("lm", words)


@tries(200)
@given(words=lines("probing"))
def test_probing(harmless: None, words: list[str]) -> None:
    check_line("probing", words)


@tries(100)
@given(words=lines("benchmarks"))
def test_benchmarks(harmless: None, words: list[str]) -> None:
    check_line("benchmarks", words)


NASTY = {
    "experiments": """run 01 --scale smoke --seeds MANY
        run --scale smoke --seeds 999999999
        run 01 --jobs MANY
        cost 01 --seeds 100000
        run LONG
        run 01 --runs-dir LONG --scale smoke
        claims --results-dir LONG
        plot --results-dir LONG
        plot --output-dir LONG
        claims --write --results-dir LONG
        calibrate depo --lr 1e999
        calibrate depo --lr RATES
        calibrate depo --grid nodes=NUMBERS
        calibrate cfg --set grammar=LONG
        calibrate LONG
        calibrate LONG.py:A
        calibrate depo --output .
        calibrate depo --output LONG
        calibrate depo --runs-dir LONG
        calibrate depo --num-examples MANY
        calibrate depo --model d_model=MANY
        calibrate depo --model n_layers=MANY
        calibrate depo --train batch_size=MANY
        calibrate depo --train seq_len=MANY
        calibrate depo --set nodes=MANY
        calibrate bioS --set people=MANY
        calibrate depo --arch LONG=LONG
        playground --arch LONG.py:Y
        playground --arch x.py:Y --tasks ,,,
        playground --arch . --scale smoke
        playground --arch gla --scale smoke
        list --runs-dir""",
    "synth": """show LONG
        show LONG.py:A
        show depo --num-samples MANY
        show bioS --people MANY
        show depo --num-samples -MANY
        score brackets --input LONG
        export brackets --output LONG
        show cfg --grammar LONG
        show cfg --root LONG
        show bioS --pools LONG
        show bioS --codec LONG
        show cfg --grammar .
        score brackets --input .
        show .py
        show x.py:
        show brackets --seed MANY
        show __init__.py:A""",
    "lm": """train cfg3b --output-dir x --model.d-model MANY
        train cfg3b --output-dir x --model.n-layers 1000000000
        train cfg3b --output-dir x --model.d-model 400000
        train cfg3b --output-dir x --model.n-experts 100000000
        train cfg3b --output-dir x --model.max-seq-len 1000000000000 --model.positions learned
        sample --output-dir LONG
        train cfg3b --output-dir LONG
        sample --output-dir . --num-samples MANY
        sample --output-dir . --trust-code LONG
        train LONG.py:X --output-dir x
        train cfg3b --output-dir x --model.mixer LONG.py
        train cfg3b --output-dir x --init-seed MANY
        train cfg3b --output-dir x --model.canon-kernel MANY --model.canon A
        sample --output-dir x --trust-code .
        train --config .
        train --config LONG
        train mano --ops MANY --output-dir x""",
    "probing": """plan --people MANY
        plan --people 5 --names MANY
        plan --people 5 --names inf
        plan --people 5 --tokens-per-subject nan
        plan --people 5 --names nan
        plan --people 5 --values MANY
        plan --people 5 --vocab-size MANY
        plan --people 5 --tokens-per-subject inf
        plan --people 1000 --tokens-per-subject 1e300
        plan --people 5 --values 0
        plan --facts LONG.csv
        show --run LONG
        show --run x --runs-dir LONG
        ask --run LONG who
        world-facts --model LONG
        world-facts --endpoint http://localhost:9 --name LONG
        world-facts --endpoint LONG --name x
        plan --facts .
        world-facts --endpoint http://localhost:9 --name x --output LONG
        world-facts --endpoint http://LONG:9/ --name x
        world-facts --endpoint http://localhost:9 --name x --num-examples MANY
        show --run x --trust-code LONG.py
        ask --run x""",
    "benchmarks": """LONG
        --LONG
        sampler chart sampler --quick --json""",
}
STAND_FOR = {
    "LONG": "x" * 5000, "MANY": "9" * 30, "RATES": "1e-3," * 10_000 + "1",
    "NUMBERS": ",".join(map(str, range(3, 100_000))),
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "line"), [(name, line.strip()) for name, some in NASTY.items() for line in some.splitlines()]
)
def test_long_and_huge_words(harmless: None, name: str, line: str) -> None:
    for word, means in STAND_FOR.items():
        line = line.replace(word, means)
    check_line(name, line.split(" "))
