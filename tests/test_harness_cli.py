"""The command lines: one line for bad input, a figure for good input, nothing heavy for --help."""

import errno
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from experiments.harness import cli, ledger, study
from experiments.harness.cost import costs, duration
from experiments.harness.runs import SCALES
from experiments.harness.study import Experiment, discover, select
from experiments.harness.table import read_table
from synth import UserError

ROOT = Path(__file__).resolve().parents[1]
FAKE = Path(__file__).with_name("fake_experiment.py")


@pytest.fixture
def script(tmp_path, monkeypatch):
    path = tmp_path / "experiments" / "01_fake.py"
    path.parent.mkdir()
    shutil.copy(FAKE, path)
    monkeypatch.delitem(sys.modules, "experiments.01_fake", raising=False)
    return path


def fails(capsys, call, *arguments):
    """The one line on standard error of a command that ends with status 2."""
    with pytest.raises(SystemExit) as end:
        call(*arguments)
    assert end.value.code == 2
    printed = capsys.readouterr().err
    line = printed.splitlines()[-1]
    assert line.startswith("error: ") and "Traceback" not in printed
    return line


def test_an_experiment_from_start_to_figure(script, capsys):
    cli.main(str(script), ["--scale", "laptop", "--jobs", "2"])
    printed = capsys.readouterr()
    folder = script.parents[1] / "results" / "01_fake" / "laptop"
    expected = [folder / "figure.png", folder / "figure.svg", folder / "table.csv", folder.parents[1] / "README.md"]
    assert [line for line in printed.out.splitlines() if "first figure" not in line] == [str(path) for path in expected]
    assert "first figure, redrawn after every run: " in printed.out and not (folder / "so_far").exists()
    table = read_table(folder / "table.csv")
    assert list(table.seed_init) == [0] * 4 + [1] * 4 + [2] * 4 and set(table.scale) == {"laptop"}
    drawn = [path.read_bytes() for path in expected[:2]]
    cli.main(str(script), ["--scale", "laptop", "--plot-only"])
    assert [path.read_bytes() for path in expected[:2]] == drawn
    before = (folder / "table.csv").read_bytes()
    cli.main(str(script), ["--scale", "laptop"])
    assert (folder / "table.csv").read_bytes() == before
    cli.main(str(script), ["--scale", "laptop", "--seeds", "1"])
    assert set(read_table(folder / "table.csv").seed_init) == {0}


def test_the_ledger_holds_every_claim_and_goes_stale_with_the_table(script, capsys):
    folder, results = script.parent, script.parents[1] / "results"
    for scale in ("smoke", "laptop"):
        cli.main(str(script), ["--scale", scale, "--jobs", "1"])
    capsys.readouterr()
    cli.main_all(["claims", "--check"], folder)
    cli.main_all(["claims", "--json"], folder)
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {record["id"] for record in records} == {entry.id for entry in ledger.index()}
    keys = ["id", "exp", "scale", "value", "low", "high", "n", "paper", "verdict"]
    assert all(list(record) == keys for record in records)
    smoke, laptop, other = records[:3]
    assert (smoke["scale"], smoke["verdict"]) == ("smoke", "not testable here")
    assert (laptop["value"], laptop["n"], laptop["paper"], laptop["verdict"]) == (91.5, 6, 99.8, "reproduced")
    assert (other["verdict"], other["value"], other["scale"]) == ("not built", None, None)
    cli.main_all(["claims"], folder)
    assert "reproduced" in capsys.readouterr().out
    shutil.rmtree(results / "01_fake" / "laptop")
    assert "claims --write" in fails(capsys, cli.main_all, ["claims", "--check"], folder)
    cli.main_all(["claims", "--write"], folder)
    assert "| 99.8 |" in (results / "README.md").read_text()


def test_a_claim_that_is_not_in_the_index_raises(script, capsys):
    script.write_text(FAKE.read_text().replace('"1.1"', '"9.9"'))
    assert "'9.9', which claims_index.csv lacks" in fails(
        capsys, cli.main, str(script), ["--scale", "smoke", "--jobs", "1"]
    )


def test_the_index_is_whole():
    entries = ledger.index()
    assert len(entries) == len({entry.id for entry in entries}) == 50
    assert all(entry.claim and entry.paper and entry.measured_by and len(entry.exp) == 2 for entry in entries)


def test_plot_can_draw_elsewhere(script, tmp_path):
    cli.main(str(script), ["--scale", "smoke", "--jobs", "1"])
    before = (tmp_path / "results/01_fake/smoke/figure.svg").stat().st_mtime_ns
    cli.main_all(["plot", "--into", str(tmp_path / "drawn")], script.parent)
    assert (tmp_path / "drawn/01_fake/smoke/figure.png").is_file()
    assert (tmp_path / "results/01_fake/smoke/figure.svg").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--seed", "3"], "unknown argument --seed; did you mean --seeds?"),
        (["--scale", "huge"], "invalid choice: 'huge'"),
        (["--seeds", "0"], "'0' is not a whole number of at least 1"),
        (["--executor", "slurm"], "choose from inline"),
        (["--scale", "overnight"], "01_fake has no runs at scale overnight"),
        (["--scale", "gpu", "--plot-only"], "run the experiment at this scale first"),
        (["extra"], "unknown argument extra"),
    ],
)
def test_bad_input_is_one_line(script, capsys, arguments, message):
    line = fails(capsys, cli.main, str(script), arguments)
    assert message in line.replace("(choose from 'inline')", "choose from inline")


def test_commands_over_all_report_bad_input_in_one_line(script, capsys):
    folder = script.parent
    assert "did you mean 01_fake?" in fails(capsys, cli.main_all, ["run", "01_fke"], folder)
    assert "did you mean --results?" in fails(capsys, cli.main_all, ["list", "--result", "x"], folder)
    assert "invalid choice" in fails(capsys, cli.main_all, ["lst"], folder)


def test_a_file_that_lacks_a_function_says_so(script, capsys):
    script.write_text('"""Title."""\n\ndef runs(scale):\n    return []\n')
    assert "no function figure(table)" in fails(capsys, cli.main, str(script), [])
    with pytest.raises(UserError, match="add_an_experiment"):
        Experiment(script).runs("smoke")


def test_a_run_must_carry_the_name_of_its_file(script):
    script.write_text(FAKE.read_text().replace("Path(__file__).stem", '"02_other"'))
    with pytest.raises(UserError, match="it must be '01_fake'"):
        Experiment(script).runs("smoke")


def test_experiments_are_found_by_their_names(script):
    folder = script.parent
    for name in ("10_later.py", "helper.py", "1_bad.py"):
        (folder / name).write_text('"""Later: a title.\n\nMore."""\n')
    assert [each.name for each in discover(folder)] == ["01_fake", "10_later"]
    assert [each.title for each in select(["10", "1"], folder)][0] == "Later: a title."
    assert discover() == [Experiment(path) for path in sorted((ROOT / "experiments").glob("[0-9][0-9]_*.py"))]


def test_a_full_disk_is_one_line(script, capsys, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device", "/a/file")

    monkeypatch.setattr(cli, "run_all", full)
    assert "the disk of /a/file is full" in fails(capsys, cli.main, str(script), ["--scale", "smoke"])


def test_a_figure_that_needs_all_runs_does_not_end_the_first(script, capsys):
    broken = "def figure(table):\n    assert len(table) == 12, 'needs all'\n"
    script.write_text(FAKE.read_text().replace("def figure(table):\n", broken))
    cli.main(str(script), ["--scale", "laptop", "--jobs", "1"])
    assert "no figure of 1 runs: AssertionError: needs all" in capsys.readouterr().out


def test_dry_runs_of_every_scale_are_quick_and_allocate_nothing(script, capsys):
    runs = Experiment(script).runs("paper")
    begin = time.perf_counter()
    found = costs(runs, script.parents[1] / "runs")
    assert time.perf_counter() - begin < 3
    assert [(cost.runs, cost.finished, cost.steps) for cost in found] == [(3, 0, 100_000)] * 2
    assert found[0].parameters == 5 * 768 + 12 * 768**2 + 9 * 768 + 6 * 768  # tables, matrices, biases, three norms
    assert found[0].r_max == pytest.approx(1000 / found[0].parameters)
    assert found[0].memory > 16 * found[0].parameters and found[0].seconds > 0
    cli.main_all(["cost"], script.parent)
    printed = capsys.readouterr().out
    assert all((f"01_fake at scale {scale}" in printed) == (scale != "overnight") for scale in SCALES)
    cli.main(str(script), ["--scale", "smoke", "--dry-run", "--measure"])
    assert "left on this machine" in capsys.readouterr().out
    assert duration(90) == "1.5 min"


def test_help_and_list_are_quick_and_do_without_torch():
    for command in ("--help", "list", "run --help"):
        code = (
            "import runpy, sys; sys.argv[1:] = sys.argv[1:]\n"
            "try: runpy.run_module('experiments', run_name='__main__')\n"
            "except SystemExit: pass\n"
            "assert not {'torch', 'pandas', 'matplotlib', 'numba'} & sys.modules.keys()"
        )
        begin = time.perf_counter()
        subprocess.run([sys.executable, "-c", code, *command.split()], check=True, cwd=ROOT, capture_output=True)
        assert time.perf_counter() - begin < 3  # 0.3 s on a machine that does nothing else


def test_the_example_of_the_docs_runs(tmp_path, capsys):
    page = (ROOT / "docs" / "add_an_experiment.md").read_text()
    path = tmp_path / "experiments" / "25_width.py"
    path.parent.mkdir()
    path.write_text(page.split("```python\n")[1].split("```")[0])
    cli.main(str(path), ["--scale", "smoke", "--jobs", "1"])
    assert (tmp_path / "results/25_width/smoke/figure.png").is_file()


def test_every_experiment_has_a_title_and_claims_in_the_index():
    numbers = {entry.exp for entry in ledger.index()}
    for experiment in study.discover():
        assert experiment.title != "(no docstring)" and experiment.number in numbers
