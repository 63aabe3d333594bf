"""The playground: an architecture of your own beside the papers' on every task, as one table and one score card.

    python -m experiments playground --arch path/to/file.py:MyMixer --scale laptop

Protocol: Part 4.1 (arXiv 2512.17351): skills measured one by one on synthetic tasks, with matched parameters and the
same learning rates, tokens, documents and seeds for all (experiments/harness/playground/task_suite.py has the sizes).
"""

from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from traceback import extract_tb
from types import SimpleNamespace
from typing import Any

from experiments.harness.experiment import Experiment
from experiments.harness.playground import scorecard
from experiments.harness.playground.task_suite import (
    COST,
    PLAYGROUND,
    SCORES,
    configurations,
    recurrent,
    runs_of,
    task_of,
)
from experiments.harness.run import Run, in_order, replicate
from synth.errors import UserError


# What a newcomer is held against. "b" in the papers' names: a recurrent mixer's own convolution, which it keeps here.
def references(scale: str) -> dict[str, dict[str, Any]]:
    return {
        "rotary": {},
        "rotary + Canon-ABCD": {"canon": "ABCD"},
        "NoPE + Canon-ABCD": {"positions": "none", "canon": "ABCD"},
        "GLA": recurrent(scale, "gla"),
        "GDN": recurrent(scale, "gdn"),
    }


BASE = "rotary"


def name_of(spec: str) -> str:
    """What an architecture is called: its class, or its file where no class is named."""
    return spec.rpartition(":")[2] if ":" in spec else Path(spec).stem


def mine(spec: str, taken: Container[str]) -> dict[str, dict[str, Any]]:
    """The reader's architecture, bare and with Canon in the places that need nothing of the mixer; a name that is
    taken, as of a GLA of one's own, is told apart."""
    name = name_of(spec) + (" (mine)" if name_of(spec) in taken else "")
    changes = {"mixer": spec, "positions": "none"}
    return {name: changes, f"{name} + Canon-ACD": {**changes, "canon": "ACD"}}


@dataclass(frozen=True)
class Playground(Experiment):
    """The comparison as an experiment that is made on the spot: an architecture and the tasks it is tried on."""

    arch: str = ""
    tasks: tuple[str, ...] = PLAYGROUND
    seeds: int | None = None

    @property
    def name(self) -> str:
        """Also the folder of its results, one for each architecture."""
        return f"playground_{name_of(self.arch)}"

    def architectures(self, scale: str) -> dict[str, dict[str, Any]]:
        """The reader's first, then the references."""
        others = references(scale)
        return mine(self.arch, others) | others

    def module(self) -> Any:
        return SimpleNamespace(figure=self.figure, claims=lambda table: [])

    def runs(self, scale: str, seeds: int | None = None) -> list[Run]:
        """Every architecture on every task, the first seed of all before any second one."""
        made, given = runs_of(self.name, scale, self.tasks, self.architectures(scale)), seeds or self.seeds
        return in_order(replicate(made, given) if given else made)

    def figure(self, table: Any) -> Any:
        """The score card."""
        scores = {task: SCORES[task] for task in self.tasks}
        scale = table["scale"].iloc[0]
        drawing, _ = scorecard.card(table, scores, list(self.architectures(scale)), reference=BASE, cost=COST)
        what = f"Score card at scale {scale}; p: paired sign-flip test against {BASE}, Holm"
        scorecard.title(drawing, table, what)
        return drawing


def playground(arch: str, tasks: Sequence[str], seeds: int | None) -> Playground:
    """The comparison of an architecture. Raises UserError for an unknown task."""
    if unknown := [task for task in tasks if task not in PLAYGROUND]:
        raise UserError(f"no task {unknown[0]!r} in the playground; choose among {', '.join(PLAYGROUND)}")
    return Playground(Path(__file__).resolve(), arch, tuple(dict.fromkeys(tasks)) or PLAYGROUND, seeds)


# ---- before anything is trained --------------------------------------------------------------------------------
def check(comparison: Playground, scale: str) -> None:
    """Raise UserError, in one line, unless the architecture builds, looks back only, learns with all of its parameters,
    and can be made as large as the base: at the width of every task, of each width once."""
    from lm.causality import require_causality

    try:
        for model in _tried(comparison, scale):
            require_causality(model)
            require_gradients(model)
    except UserError:
        raise
    except Exception as error:  # whatever the reader's code does wrong, one line says it
        place = extract_tb(error.__traceback__)[-1]
        said = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise UserError(f"{comparison.arch} does not run: {said} ({place.filename}, line {place.lineno})") from error


def _tried(comparison: Playground, scale: str) -> Iterator[Any]:
    """The reader's models, of two layers at most, but for those that another task has in the same shape."""
    from lm.model import build

    seen = set()
    for name in comparison.tasks:
        task = task_of(scale, name)
        for run in configurations(comparison.name, scale, name, mine(comparison.arch, ())):
            assert run.model is not None
            shape = run.model.heads, run.model.width, run.model.canon
            if shape not in seen:
                seen.add(shape)
                yield build(replace(run.model, layers=min(run.model.layers, 2)), run.model.ids(task.vocab()), 0)


def require_gradients(model: Any) -> None:
    """Raise UserError that names a parameter which no loss can teach. Asked is a shaken copy, as what begins at zero
    may hold back what it multiplies."""
    import torch

    from lm.causality import shaken

    model = shaken(model)
    inputs = torch.randint(model.vocab_size, (2, 16), generator=torch.Generator().manual_seed(0))
    logits = model(inputs)
    torch.nn.functional.cross_entropy(logits.flatten(0, 1), inputs.flatten().roll(-1)).backward()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and (parameter.grad is None or not bool(parameter.grad.any())):
            raise UserError(f"no gradient reaches {name}; use it in forward, or do not make it a parameter")
