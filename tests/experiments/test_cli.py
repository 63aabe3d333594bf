"""The command lines: one line for bad input, a figure for good input, nothing heavy for --help."""

import errno
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import fake_experiment
import pytest

from experiments.harness import cli, until_decided
from experiments.harness.experiment import Experiment, discover, select
from experiments.harness.planning.cost import estimate_costs
from experiments.harness.planning.report import cost_table
from experiments.harness.reporting import ledger
from experiments.harness.reporting.outputs import committed_claims
from experiments.harness.reporting.table import read_table
from experiments.harness.run import SCALES
from probing.text import format_duration
from synth import UserError

ROOT = Path(__file__).resolve().parents[2]
FAKE = Path(fake_experiment.__file__)


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
    printed = capsys.readouterr()  # a first figure, unless all runs ended before the first was looked at
    folder = script.parents[1] / "results" / "01_fake" / "laptop"
    expected = [folder / name for name in ("figure.png", "figure.svg", "table.csv", "table.sha256")]
    expected.append(folder.parents[1] / "README.md")
    *paths, head, claim = [line for line in printed.out.splitlines() if "first figure" not in line]
    assert paths == [str(path) for path in expected]
    assert head.split()[:3] == ["id", "exp", "scale"] and claim.startswith("1.1*  01   laptop") and "91.5" in claim
    assert not (folder / "so_far").exists()
    table = read_table(folder / "table.csv")
    assert list(table.seed_init) == [0] * 4 + [1] * 4 + [2] * 4 and set(table.scale) == {"laptop"}
    drawn = [path.read_bytes() for path in expected[:2]]
    cli.main(str(script), ["--scale", "laptop", "--plot-only"])
    assert [path.read_bytes() for path in expected[:2]] == drawn
    before = [path.read_bytes() for path in expected]
    cli.main(str(script), ["--scale", "laptop"])
    assert [path.read_bytes() for path in expected] == before
    capsys.readouterr()
    cli.main(str(script), ["--scale", "laptop", "--seeds", "1"])
    assert [path.read_bytes() for path in expected] == before
    assert set(read_table(folder / "so_far" / "table.csv").seed_init) == {0}
    *paths, _, claim, changed, difference, last = capsys.readouterr().out.splitlines()
    assert "other than the committed result" in changed and "undecided, committed as reproduced" in difference
    assert claim.startswith("1.1*") and "undecided" in claim  # a single seed
    assert paths == [str(folder / "so_far" / path.name) for path in expected[:4]]
    assert f"{folder / 'table.csv'} and the ledger were left as they are" in last
    cli.main(str(script), ["--scale", "laptop", "--seeds", "4", "--jobs", "1"])
    first = f"first figure, redrawn while runs end: {folder / 'so_far' / 'figure.png'}"
    assert capsys.readouterr().out.count(first) == 1
    assert set(read_table(folder / "table.csv").seed_init) == {0, 1, 2, 3} and not (folder / "so_far").exists()


def test_seeds_go_on_until_claims_are_decided(script, capsys):
    """The first claim is decided by three seeds, the second by twelve; each rests on one configuration."""
    second = """    fair = mean_by_seed(table, "score", coin="ones 0.5")
    made.add("1.2", "score of the fair coin", fair, None, "> 52.5", above=52.5, primary=True)
    return made
"""
    script.write_text(FAKE.read_text().replace("    return made\n", second))
    arguments = ["--scale", "laptop", "--seeds", "auto", "--jobs", "1"]
    cli.main(str(script), arguments)
    printed = capsys.readouterr().out
    results = script.parents[1] / "results"
    table = read_table(results / "01_fake/laptop/table.csv")
    assert {coin: set(part.seed_init) for coin, part in table.groupby("coin")} == {
        "ones 0.5": set(range(12)), "ones 0.9": set(range(3)),
    }  # fmt: skip
    assert set(table.looks) == {"3,5,8,12"}
    found = {claim.id: (claim.verdict, claim.n, claim.looks) for claim in committed_claims(Experiment(script), results)}
    assert found == {"1.1": ("reproduced", 3, 1), "1.2": ("reproduced", 12, 4)}
    assert "5 seeds: 1.2 undecided; 1 configurations go on to 8 seeds" in printed
    before = (results / "01_fake/laptop/table.csv").read_bytes()
    cli.main(str(script), arguments)
    assert (results / "01_fake/laptop/table.csv").read_bytes() == before
    assert "other than the committed result" not in capsys.readouterr().out


def test_seeds_stop_at_the_time_of_the_scale(script, capsys, monkeypatch):
    monkeypatch.setitem(until_decided.TIME_LIMITS, "laptop", 1e-9)
    script.write_text(FAKE.read_text().replace("above=80", "above=91.4"))
    cli.main(str(script), ["--scale", "laptop", "--seeds", "auto", "--jobs", "1"])
    assert "3 seeds: 1.1 undecided; 5 seeds would take the runs to" in capsys.readouterr().out
    assert set(read_table(script.parents[1] / "results/01_fake/laptop/table.csv").seed_init) == {0, 1, 2}


def test_a_curve_and_a_grid_from_start_to_figure(script, capsys):
    text = (
        FAKE.read_text()
        .replace(
            'tags={"coin"',
            """curve=Curve((5, 20)), grid=Grid(
            train_grid(train, lr=(1e-3, 2e-3, 4e-3)), criterion="score", goal="max", evaluations=(Score(1),)
        ), tags={"coin\"""",
        )
        .replace("import ClaimList,", "import ClaimList, Curve, Grid, train_grid,")
    )
    script.write_text(text.replace("(\n    made", "(\n    made"))
    cli.main(str(script), ["--scale", "laptop", "--jobs", "1"])
    printed, folder = capsys.readouterr().out, script.parents[1] / "results/01_fake/laptop"
    table = read_table(folder / "table.csv")
    assert set(table.step) == {5, 20, 60} and set(table.lr) == {1e-3}  # all alike: the first candidate
    assert set(table.grid_size) == {3} and set(table.grid_edge) == {"lr"}
    assert (folder / "grid.png").is_file() and str(folder / "grid.csv") in printed
    assert "lies on the edge of its grid" in (folder.parents[1] / "README.md").read_text()
    before = (folder / "grid.svg").read_bytes()
    (folder / "grid.svg").unlink()
    cli.main(str(script), ["--scale", "laptop", "--plot-only"])
    assert (folder / "grid.svg").read_bytes() == before


def test_a_result_that_leaves_the_committed_interval_is_told(script, capsys):
    cli.main(str(script), ["--scale", "laptop", "--jobs", "1"])
    assert "committed result" not in capsys.readouterr().out
    script.write_text(FAKE.read_text().replace("* 100", "* 200"))
    shutil.rmtree(script.parents[1] / "runs")
    sys.modules.pop("experiments.01_fake")
    cli.main(str(script), ["--scale", "laptop", "--jobs", "1"])
    assert "1.1 score of the coin: 181.5, outside the committed interval" in capsys.readouterr().out


def test_fewer_seeds_write_no_table_where_there_was_none(script, capsys):
    cli.main(str(script), ["--scale", "laptop", "--seeds", "1", "--jobs", "1"])
    results = script.parents[1] / "results"
    assert (results / "01_fake/laptop/so_far/figure.png").is_file()
    assert not (results / "01_fake/laptop/table.csv").exists() and not (results / "README.md").exists()


def test_the_ledger_holds_every_claim_and_goes_stale_with_the_table(script, capsys):
    folder, results = script.parent, script.parents[1] / "results"
    cli.main(str(script), ["--scale", "smoke", "--jobs", "1"])
    assert (results / "01_fake/smoke/table.csv").is_file() and not (results / "README.md").exists()
    cli.main(str(script), ["--scale", "laptop", "--jobs", "1"])
    capsys.readouterr()
    cli.main_all(["claims", "--check"], folder)
    cli.main_all(["claims", "--json"], folder)
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {record["id"] for record in records} == {entry.id for entry in ledger.claims_index()}
    keys = ["id", "exp", "scale", "value", "low", "high", "n", "paper", "verdict", "primary", "gate", "looks"]
    assert all(list(record)[:12] == keys for record in records)
    laptop, other = records[:2]
    assert "smoke" not in {record["scale"] for record in records}
    assert (laptop["value"], laptop["n"], laptop["paper"], laptop["verdict"]) == (91.5, 3, 99.8, "reproduced")
    assert laptop["primary"] is True and laptop["looks"] is None
    found = {record["id"]: record["verdict"] for record in records[1:]}
    assert (other["value"], other["scale"]) == (None, None)
    assert found["1.2"] == found["2.1"] == "not built"
    script.write_text(FAKE.read_text() + 'LATER = "1.2"\n')
    cli.main_all(["claims", "--json"], folder)
    found = {record["id"]: record["verdict"] for record in map(json.loads, capsys.readouterr().out.splitlines())}
    assert found["1.2"] == "not run" and found["2.1"] == "not built"
    assert "| 99.8 |" in (results / "README.md").read_text()
    cli.main_all(["claims"], folder)
    assert "reproduced" in capsys.readouterr().out
    shutil.rmtree(results / "01_fake" / "laptop")
    assert "claims --write" in fails(capsys, cli.main_all, ["claims", "--check"], folder)
    cli.main_all(["claims", "--write"], folder)
    assert "| 99.8 |" not in (results / "README.md").read_text()


def test_claims_of_ones_own_experiment_neither_vanish_nor_mix_with_the_papers(script, monkeypatch, capsys):
    """A primary line of another experiment than the index names, and a claim under a name of its own."""
    text = FAKE.read_text().replace(
        "    return made\n", "    made.add('mine', 'the same', None, None, '')\n    return made\n"
    )
    path = script.with_name("25_other.py")
    script.unlink()
    path.write_text(text)
    monkeypatch.delitem(sys.modules, "experiments.25_other", raising=False)
    cli.main(str(path), ["--scale", "laptop", "--jobs", "1"])
    papers, own = (path.parents[1] / "results/README.md").read_text().split("# All lines, by experiment")
    assert "91.5" not in papers and "mine" not in papers
    assert "## 25 at scale laptop" in own and "| **1.1** |" in own and "| mine |" in own
    capsys.readouterr()
    cli.main_all(["claims", "25"], path.parent)
    head, *lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:3] for line in lines] == [["1.1*", "25", "laptop"], ["mine", "25", "laptop"]]


def test_a_claim_needs_one_primary_line_and_a_place_in_the_index(script, capsys):
    script.write_text(FAKE.read_text().replace('"1.1"', '"1.99"'))
    arguments = [str(script), ["--scale", "smoke", "--jobs", "1"]]
    assert "'1.99', which claims_index.csv lacks" in fails(capsys, cli.main, *arguments)
    script.write_text(FAKE.read_text().replace(", primary=True", ""))
    sys.modules.pop("experiments.01_fake")
    arguments[1][1] = "laptop"
    assert "0 primary lines of claim 1.1" in fails(capsys, cli.main, *arguments)


def test_the_index_is_whole():
    entries = ledger.claims_index()
    assert len(entries) == len({entry.id for entry in entries}) == 57
    assert all(entry.claim and entry.paper and entry.measured_by and len(entry.exp) == 2 for entry in entries)


def test_plot_can_draw_elsewhere(script, tmp_path):
    cli.main(str(script), ["--scale", "smoke", "--jobs", "1"])
    before = (tmp_path / "results/01_fake/smoke/figure.svg").stat().st_mtime_ns
    cli.main_all(["plot", "--output-dir", str(tmp_path / "drawn")], script.parent)
    assert (tmp_path / "drawn/01_fake/smoke/figure.png").is_file()
    assert (tmp_path / "results/01_fake/smoke/figure.svg").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--seed", "3"], "unknown argument --seed; did you mean --seeds?"),
        (["--scale", "huge"], "invalid choice 'huge' for argument '--scale'"),
        (["--seeds", "0"], "--seeds 0 is not a whole number of at least 1"),
        (["--executor", "slurn"], "invalid choice 'slurn' for argument '--executor'"),
        (["--scale", "overnight"], "01_fake has no runs at scale overnight"),
        (["--scale", "gpu", "--plot-only"], "run the experiment at this scale first"),
        (["extra"], "unknown argument extra"),
    ],
)
def test_bad_input_is_one_line(script, capsys, arguments, message):
    line = fails(capsys, cli.main, str(script), arguments)
    assert message in line


def test_commands_over_all_report_bad_input_in_one_line(script, capsys):
    folder = script.parent
    assert "did you mean 01_fake?" in fails(capsys, cli.main_all, ["run", "01_fke"], folder)
    assert "did you mean --results-dir?" in fails(capsys, cli.main_all, ["list", "--result", "x"], folder)
    assert "unknown command 'lst'; did you mean list?" in fails(capsys, cli.main_all, ["lst"], folder)


def test_a_file_that_lacks_a_function_says_so(script, capsys):
    script.write_text('"""Title."""\n\ndef runs(scale):\n    return []\n')
    assert "no function figure(table)" in fails(capsys, cli.main, str(script), [])
    with pytest.raises(UserError, match="add_an_experiment"):
        Experiment(script).runs("smoke")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("def figure(", "def figure((", "01_fake.py does not import: SyntaxError"),
        ("STEPS = {", "STEPS = missing | {", "01_fake.py does not import: NameError: name 'missing'"),
        ("layers=1, ", "layer=1, ", "01_fake.py: runs('smoke') fails: TypeError"),
        ('x="coin"', 'x="con"', "01_fake.py cannot draw "),
        ('coin="ones', 'con="ones', "01_fake.py cannot make claims of "),
    ],
)
def test_a_faulty_experiment_is_one_line(script, capsys, old, new, message):
    assert FAKE.read_text().count(old) == 1
    script.write_text(FAKE.read_text().replace(old, new))
    line = fails(capsys, cli.main_all, ["run", "--scale", "smoke", "--jobs", "1"], script.parent)
    assert message in line and ("smoke/table.csv" in line) == ("cannot" in message)
    script.with_name("10_later.py").write_text('"""Later."""\n')
    cli.main_all(["list"], script.parent)
    assert "Later." in capsys.readouterr().out


def test_an_error_names_the_line_of_the_experiment(script, capsys):
    script.write_text(FAKE.read_text().replace("layers=1, ", "layer=1, "))
    number = FAKE.read_text()[: FAKE.read_text().index("layers=1, ")].count("\n") + 1
    assert fails(capsys, cli.main, str(script), ["--dry-run"]).endswith(f"(line {number})")


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


def test_a_full_disk_of_results_names_the_results(script, capsys, monkeypatch):
    real = os.fsync

    def full(handle):
        if "/results/" in os.readlink(f"/proc/self/fd/{handle}"):
            raise OSError(errno.ENOSPC, "No space left on device")
        real(handle)

    monkeypatch.setattr(os, "fsync", full)
    line = fails(capsys, cli.main, str(script), ["--scale", "smoke", "--jobs", "1"])
    assert "the disk of " in line and "/results/01_fake/smoke/so_far/table.csv is full" in line


@pytest.mark.parametrize("flag", ["--results-dir", "--runs-dir"])
@pytest.mark.parametrize("below", ["", "deeper"])
def test_a_folder_that_is_a_file_is_one_line(script, capsys, tmp_path, flag, below):
    (tmp_path / "file").write_text("kept")
    line = fails(
        capsys, cli.main, str(script), ["--scale", "smoke", "--jobs", "1", flag, str(tmp_path / "file" / below)]
    )
    assert str(tmp_path / "file") in line and f"give {flag} a folder" in line
    assert (tmp_path / "file").read_text() == "kept"
    assert not list((script.parents[1] / "runs").glob("*"))  # said before anything is trained


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES, errno.EPERM])
def test_a_folder_that_may_not_be_written_is_one_line(script, capsys, monkeypatch, code):
    def refuse(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "replace", refuse)
    results = script.parents[1] / "out"
    arguments = ["claims", "--write", "--results-dir", str(results)]
    assert f"{results / 'README.md'}: {os.strerror(code)}" in fails(capsys, cli.main_all, arguments, script.parent)


def test_an_error_about_another_file_is_not_blamed_on_the_folders(script, monkeypatch):
    def missing(*_):
        raise FileNotFoundError(errno.ENOENT, "No such file", "/elsewhere/data.txt")

    monkeypatch.setattr(cli, "run_all", missing)
    with pytest.raises(FileNotFoundError):
        cli.main(str(script), ["--scale", "smoke"])


def test_a_figure_that_needs_all_runs_does_not_end_the_first(script, capsys):
    broken = "def figure(table):\n    assert len(table) == 12, 'needs all'\n"
    script.write_text(FAKE.read_text().replace("def figure(table):\n", broken))
    cli.main(str(script), ["--scale", "laptop", "--jobs", "1"])
    printed = capsys.readouterr().out
    assert "no figure of 1 runs: " in printed and "so_far/table.csv: AssertionError: needs all (line " in printed


def test_dry_runs_of_every_scale_are_quick_and_allocate_nothing(script, capsys):
    runs = Experiment(script).runs("paper")
    begin = time.perf_counter()
    found = estimate_costs(runs, script.parents[1] / "runs")
    assert time.perf_counter() - begin < 3
    assert [(cost.runs, cost.finished, cost.steps) for cost in found] == [(3, 0, 100_000)] * 2
    assert found[0].parameters == 5 * 768 + 12 * 768**2 + 9 * 768 + 6 * 768  # tables, matrices, biases, three norms
    assert found[0].r_max == pytest.approx(1000 / found[0].parameters)
    assert found[0].memory_bytes > 16 * found[0].parameters and found[0].seconds > 0
    each = found[0].seconds
    assert f"about {format_duration(each * 3)} left on this machine with 2 processes at a time" in cost_table(
        "x", "y", found, 2
    )
    assert f"about {format_duration(each)} left on this machine with 6 processes" in cost_table("x", "y", found, 64)
    assert "R_max" in cost_table("x", "y", found, 2)
    bare = [replace(cost, r_max=None) for cost in found]
    assert "R_max" not in cost_table("x", "y", bare, 2)
    cli.main_all(["cost"], script.parent)
    printed = capsys.readouterr().out
    assert all((f"01_fake at scale {scale}" in printed) == (scale != "overnight") for scale in SCALES)
    cli.main(str(script), ["--scale", "smoke", "--dry-run", "--time-steps"])
    assert "left on this machine" in capsys.readouterr().out
    assert format_duration(90) == "1.5 min"


def test_help_and_list_are_quick_and_do_without_torch():
    for command in ("--help", "list", "run --help", "calibrate --help"):
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
    for experiment in discover():
        assert not experiment.title.startswith("(")
        ledger.check_claims(committed_claims(experiment, ROOT / "results"), experiment)
