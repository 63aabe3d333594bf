"""The playground: compare an architecture of your own with the papers' on every task, in one table and score card.

    python -m experiments playground --arch path/to/file.py:MyMixer --scale laptop

Protocol: Part 4.1 (arXiv 2512.17351): each skill is measured on a synthetic task, with matched parameters and the same
learning rates, tokens, documents and seeds for all architectures. Sizes: playground/task_suite.py.
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
    COST_COLUMN,
    PLAYGROUND_TASKS,
    SCORE_COLUMNS,
    build_task,
    configurations,
    describe_training,
    recurrent_changes,
    suite_runs,
)
from experiments.harness.run import Run, seed_major_order, with_seeds
from synth.errors import UserError


def reference_architectures(scale: str) -> dict[str, dict[str, Any]]:
    """Changes to the base for each of the papers' architectures; recurrent mixers keep their own convolution."""
    return {
        "rotary": {},
        "rotary + Canon-ABCD": {"canon": "ABCD"},
        "NoPE + Canon-ABCD": {"positions": "none", "canon": "ABCD"},
        "GLA": recurrent_changes(scale, "gla"),
        "GDN": recurrent_changes(scale, "gdn"),
    }


BASE = "rotary"
PROTOCOL = (
    f"Models of one size, {{}}. Right of a row: the difference from {BASE}, paired by seed, with its 90% interval."
)


def architecture_name(spec: str) -> str:
    """Name of an architecture FILE.py[:CLASS]: its class, or the file without its ending."""
    return spec.rpartition(":")[2] if ":" in spec else Path(spec).stem


def user_architectures(spec: str, taken: Container[str]) -> dict[str, dict[str, Any]]:
    """Changes to the base for the user's mixer, without and with Canon-ACD (B is inside a mixer). A name in `taken`
    gets " (mine)" appended."""
    name = architecture_name(spec) + (" (mine)" if architecture_name(spec) in taken else "")
    changes = {"mixer": spec, "positions": "none"}
    return {name: changes, f"{name} + Canon-ACD": {**changes, "canon": "ACD"}}


@dataclass(frozen=True)
class PlaygroundExperiment(Experiment):
    """The comparison as an experiment: an architecture (FILE.py:CLASS), the tasks, and seeds (None: the suite's)."""

    arch: str = ""
    tasks: tuple[str, ...] = PLAYGROUND_TASKS
    seeds: int | None = None

    @property
    def name(self) -> str:
        """playground_ and the architecture's name; also the folder of its results."""
        return f"playground_{architecture_name(self.arch)}"

    def architectures(self, scale: str) -> dict[str, dict[str, Any]]:
        """Changes to the base by name: the user's architectures, then the references."""
        references = reference_architectures(scale)
        return user_architectures(self.arch, references) | references

    def load_module(self) -> Any:
        return SimpleNamespace(figure=self.figure, claims=lambda table: [])

    def runs(self, scale: str, seeds: int | None = None) -> list[Run]:
        """Every architecture on every task, seed 0 of all first."""
        runs, num_seeds = suite_runs(self.name, scale, self.tasks, self.architectures(scale)), seeds or self.seeds
        return seed_major_order(with_seeds(runs, num_seeds) if num_seeds else runs)

    def figure(self, table: Any) -> Any:
        """Draw the score card."""
        scores = {task: SCORE_COLUMNS[task] for task in self.tasks}
        scale = table["scale"].iloc[0]
        names = list(self.architectures(scale))
        drawing, _ = scorecard.plot_scorecard(table, scores, names, reference=BASE, cost=COST_COLUMN)
        headline = f"{architecture_name(self.arch)} beside the papers' architectures"
        scorecard.set_texts(drawing, table, headline, PROTOCOL.format(describe_training(table)))
        return drawing


def build_playground(arch: str, tasks: Sequence[str], seeds: int | None) -> PlaygroundExperiment:
    """The comparison of an architecture on tasks (none: all). Raises UserError for an unknown task."""
    if unknown := [task for task in tasks if task not in PLAYGROUND_TASKS]:
        raise UserError(f"no task {unknown[0]!r} in the playground; choose among {', '.join(PLAYGROUND_TASKS)}")
    return PlaygroundExperiment(Path(__file__).resolve(), arch, tuple(dict.fromkeys(tasks)) or PLAYGROUND_TASKS, seeds)


# ---- before anything is trained --------------------------------------------------------------------------------
def check_architecture(comparison: PlaygroundExperiment, scale: str) -> None:
    """Raise UserError, in one line, unless the architecture builds, is causal, has a gradient for every parameter, and
    can be matched to the base's parameters, at each width that the tasks use."""
    from lm.causality import require_causality

    try:
        for model in _models_to_check(comparison, scale):
            require_causality(model)
            require_gradients(model)
    except UserError:
        raise
    except Exception as error:  # from the user's code
        frame = extract_tb(error.__traceback__)[-1]
        message = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise UserError(f"{comparison.arch} does not run: {message} ({frame.filename}, line {frame.lineno})") from error


def _models_to_check(comparison: PlaygroundExperiment, scale: str) -> Iterator[Any]:
    """Yield the user's models, with at most two layers, each shape once."""
    from lm.model import build

    seen = set()
    for name in comparison.tasks:
        task = build_task(scale, name)
        for run in configurations(comparison.name, scale, name, user_architectures(comparison.arch, ())):
            assert run.model is not None
            shape = run.model.n_heads, run.model.d_model, run.model.canon
            if shape not in seen:
                seen.add(shape)
                model = replace(run.model, n_layers=min(run.model.n_layers, 2))
                yield build(model, model.model_vocab_size(task.vocab()), 0)


def require_gradients(model: Any) -> None:
    """Raise UserError if a parameter gets no gradient from the loss. Checks a perturbed copy, as a factor initialized
    to zero hides the gradient of what it multiplies."""
    import torch

    from lm.causality import perturbed_copy

    model = perturbed_copy(model)
    inputs = torch.randint(model.vocab_size, (2, 16), generator=torch.Generator().manual_seed(0))
    logits = model(inputs)
    torch.nn.functional.cross_entropy(logits.flatten(0, 1), inputs.flatten().roll(-1)).backward()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and (parameter.grad is None or not bool(parameter.grad.any())):
            raise UserError(f"no gradient reaches {name}; use it in forward, or do not make it a parameter")
