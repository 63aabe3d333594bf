"""An architecture in a file outside the suite is checked, trained beside others and drawn, by one command."""

from pathlib import Path

import pytest

from experiments.harness.cli import main_all
from experiments.harness.playground import experiment
from experiments.harness.reporting.table import read_table
from synth import UserError

SOURCE = '''
import torch
from torch import nn
from lm.layers.residual import residual_writer
from lm.mixers.base import Mixer

class Mean(Mixer):
    """The mean of all tokens so far, between two projections."""
    def __init__(self, config):
        super().__init__()
        self.inner = nn.Linear(config.d_model, config.d_model, bias=False)
        self.gate = nn.Parameter(torch.zeros(config.d_model))  # begins at zero and hides the rest
        self.out = residual_writer(nn.Linear(config.d_model, config.d_model, bias=False))

    def forward(self, x, places):
        sums = self.inner(x).cumsum(1) / torch.arange(1, x.shape[1] + 1)[:, None]
        return self.out(sums * self.gate)

class Leaky(Mean):
    def forward(self, x, places):
        return super().forward(x, places) + x.roll(-1, 1)

class Idle(Mean):
    def __init__(self, config):
        super().__init__(config)
        self.unused = nn.Linear(config.d_model, 2)

class Broken(Mean):
    def forward(self, x, places):
        return self.out(x[:, 1:])

class Undefined(Mean):
    def forward(self, x, places):
        return super().forward(x, places) / 0

class GLA(Mean):
    """Named as one of the papers'."""

class Wide(Mean):
    def __init__(self, config):
        super().__init__(config)
        self.inner = nn.Linear(64, config.d_model, bias=False)

class Huge(Mean):
    def __init__(self, config):
        super().__init__(config)
        self.inner = nn.Sequential(*(nn.Linear(config.d_model, config.d_model, bias=False) for _ in range(60)))
'''


@pytest.fixture
def arch(tmp_path: Path) -> str:
    """The file, as the command line takes it up to the class."""
    path = tmp_path / "mine.py"
    path.write_text(SOURCE)
    return f"{path}:"


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    references = {"rotary": {}, "rotary + Canon": {"canon": "ABCD"}}
    monkeypatch.setattr(experiment, "reference_architectures", lambda scale: references)


def play(arch: str, folder: Path, *more: str) -> None:
    main_all(["playground", "--arch", arch, "--scale", "smoke", "--tasks", "depo,cfg", "--jobs", "1",
              "--results-dir", str(folder / "results"), "--runs-dir", str(folder / "runs"), *more])  # fmt: skip


def test_one_command_makes_the_table_and_the_card(arch: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    play(f"{arch}Mean", tmp_path)
    folder = tmp_path / "results" / "playground_Mean" / "smoke"
    said = capsys.readouterr().out
    assert str(folder / "figure.png") in said and "README" not in said  # no claims, no ledger
    table = read_table(folder / "table.csv")
    assert set(table["architecture"]) == {"Mean", "Mean + Canon-ACD", "rotary", "rotary + Canon"}
    assert set(table["task"]) == {"depo", "cfg"} and (table["parameters"] / table["matched"] - 1).abs().max() <= 0.01
    assert not list(tmp_path.glob("results/playground_Mean/smoke/so_far*"))


def test_the_dry_run_shows_sizes_beside_the_bases(arch: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    play(f"{arch}Mean", tmp_path, "--dry-run")
    said = capsys.readouterr().out
    assert "of base" in said and "100.00%" in said and not (tmp_path / "runs").exists()
    assert "matched" not in said  # the label leaves it to the column


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("Leaky", "position"),
        ("Idle", r"no gradient reaches blocks\.0\.mixer\.unused\.weight; use it in forward"),
        ("Broken", r"Broken does not run: RuntimeError: .*line \d+"),
        ("Huge", "has the base's .* parameters within 1%; the nearest"),
        ("Maen", "Mean"),
        ("Undefined", "Undefined computes numbers that are not finite"),
    ],
)
def test_what_cannot_be_compared_is_refused_before_anything_is_trained(arch: str, name: str, line: str) -> None:
    pytest.importorskip("lm.causality")
    with pytest.raises(UserError, match=line) as error:
        experiment.check_architecture(experiment.build_playground(f"{arch}{name}", ["depo"], None), "smoke")
    assert "\n" not in str(error.value)


def test_widths_of_all_tasks_are_tried(arch: str) -> None:
    experiment.check_architecture(experiment.build_playground(f"{arch}Wide", ["depo"], None), "laptop")  # width 64
    with pytest.raises(UserError, match="Wide does not run: RuntimeError: .*shapes"):
        experiment.check_architecture(experiment.build_playground(f"{arch}Wide", ["depo", "mano"], None), "laptop")


def test_an_architecture_named_as_a_reference_stands_beside_it(arch: str, monkeypatch: pytest.MonkeyPatch) -> None:
    references = {"rotary": {}, "GLA": {"positions": "none"}}
    monkeypatch.setattr(experiment, "reference_architectures", lambda scale: references)
    found = experiment.build_playground(f"{arch}GLA", [], None).architectures("smoke")
    assert list(found) == ["GLA (mine)", "GLA (mine) + Canon-ACD", "rotary", "GLA"]
    assert found["GLA (mine)"]["mixer"].endswith("GLA") and "mixer" not in found["GLA"]


def test_a_task_that_is_not_there_is_named(arch: str) -> None:
    with pytest.raises(UserError, match="no task 'depot' in the playground; choose among depo, brevo"):
        experiment.build_playground(f"{arch}Mean", ["depot"], None)
