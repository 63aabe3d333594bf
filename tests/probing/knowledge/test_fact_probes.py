"""Experiment 07 draws and judges what there is at every scale, and shares models with 06."""

from io import StringIO
from types import ModuleType
from typing import Any

import pandas
import pytest

from experiments.harness.execution.model_cache import cache_key
from experiments.harness.experiment import select
from experiments.harness.run import SCALES, Run, evaluation_settings
from probing.knowledge.prompt_formats import FORMATS
from synth.bio.value_lists import ATTRIBUTES
from synth.identity import identity_name
from synth.mixture import shared_vocab

Rows = list[dict[str, Any]]


def module() -> ModuleType:
    return select(["07"])[0].load_module()


def measures(name: str, i: int) -> Rows:
    """Rows as an evaluation gives them, with numbers out of the air."""
    share = 0.2 + 0.05 * (i % 9)
    if name == "PProbe":
        rows: Rows = [{"position": k, "attribute": a} for k in range(6) for a in ATTRIBUTES]
    elif name == "QProbe":
        rows = [{"position": 0, "attribute": a} for a in ATTRIBUTES[1:]]
    elif name == "PromptFormats":
        return [
            {"format": f.name, "kind": f.kind} | ({"exact": share + n / 99} if n % 4 else {})
            for n, f in enumerate(FORMATS)
        ]
    else:
        without = [{"without": w} for w in ("nothing", "block.0")] if name == "LayerDeletion" else [{}]
        rows = [{"attribute": a, **w} for w in without for a in ("all", *ATTRIBUTES)]
        return [row | {"exact": share, "likeliest": share, "shuffled": 0.02, "chance": 0.02} for row in rows]
    return [row | {"accuracy": share, "majority": 0.02} for row in rows]


def planted(scale: str) -> pandas.DataFrame:
    """A table as the runs of this scale would make it, read from a file."""
    found = []
    for i, run in enumerate(select(["07"])[0].runs(scale)):
        columns = {**dict(run.tags), "scale": scale, "seed_init": run.seeds.init, "parameters": 10_000}
        for evaluation in run.evaluations:
            name = identity_name(type(evaluation))
            taught = name == "Extraction" and evaluation.half == "first"  # as well as an encoder must, to be judged
            planted_rows = [row | {"exact": 0.9} if taught else row for row in measures(name, i)]
            found += [{**columns, "evaluation": name, **evaluation_settings(evaluation), **row} for row in planted_rows]
    return pandas.read_csv(StringIO(pandas.DataFrame(found).to_csv(index=False)))  # what a file makes of the columns


@pytest.mark.parametrize("scale", SCALES)
def test_every_scale_has_its_figure_and_verdicts(scale: str) -> None:
    table = planted(scale)
    module().figure(table)
    primary = [claim for claim in module().claims(table) if claim.primary]
    assert sorted(claim.id for claim in primary) == ["3.4", "3.5", "3.6", "3.7", "3.8"]
    assert "not run" not in {claim.verdict for claim in primary}


def test_a_table_that_is_not_whole_is_drawn_as_far_as_it_goes() -> None:
    table = planted("smoke")
    for part in (table.iloc[:1], *(table[table["case"] == case] for case in set(table["case"]))):
        module().figure(part)  # the harness redraws it after every run
        module().claims(part)


def readings(number: str, scale: str) -> dict[str, Run]:
    """The first trainings of an experiment's runs, by key."""
    return {cache_key(run, 1): run for run in select([number])[0].runs(scale) if run.train}


@pytest.mark.parametrize("scale", SCALES)
def test_models_of_experiment_06_are_not_trained_again(scale: str) -> None:
    """The read models where probes take the same lists and people, and, where 06 has that wording, the crowd without
    celebrities; 06 has mixed trainings of its own."""
    runs, seeds = select(["07"])[0].runs(scale), 1 if scale == "smoke" else 3
    shared = readings("06", scale).keys() & readings("07", scale).keys()
    assert len(shared) == seeds * {"laptop": 0, "overnight": 0, "paper": 3}.get(scale, 2)
    for run in runs:
        shared_vocab([run.task, *(stage.task for stage in run.later_stages)])


def test_the_minority_is_told_of_once_and_never_asked_about() -> None:
    run = next(run for run in select(["07"])[0].runs("laptop") if dict(run.tags)["case"] == "with celebrities")
    famous, others = run.task.parts
    assert (famous.wordings, others.wordings, others.permute) == (5, 1, 1) and run.task.shares == (5 / 6, 1 / 6)
    assert (
        famous.people_range == run.later_stages[0].task.people_range
        and famous.people_range[1] == others.people_range[0]
    )
    assert (famous.world(0).values == others.world(0).values).all()
