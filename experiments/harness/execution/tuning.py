"""Trials of grids: which runs they are, which are still to be done, and the settings that they choose."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from statistics import fmean
from typing import TYPE_CHECKING, Any

from experiments.harness.grid import FIRST_TUNING_SEED, Grid, best_candidate, close_candidates, tuning_seeds
from experiments.harness.run import Rows, Run, Seeds
from synth.errors import UserError

if TYPE_CHECKING:
    from pandas import DataFrame

ReadRows = Callable[[Run], Rows | None]  # the rows of a trial; None if it has none yet


def make_trial(run: Run, candidate: int, seed: int) -> Run:
    """The run that trains a candidate of the run's grid with a tuning seed; the same for all seeds of the run."""
    grid = _grid(run)
    settings = grid.settings(grid.candidates[candidate])
    tuned = run.with_stage_settings(grid.stage, grid.candidates[candidate])
    only = replace(tuned, later_stages=tuned.later_stages[: grid.stage], curve=None, evaluations=grid.evaluations)
    return replace(only, seeds=Seeds.all_equal(seed), tags={**dict(run.tags), **settings})


def runs_and_variants(runs: Iterable[Run]) -> Iterator[Run]:
    """Every run, and for one with a grid all trials that may be made and all trainings that may be chosen: what a
    worker or a rank may be asked for by id."""
    for run in runs:
        yield run
        if run.grid is not None:
            for number, candidate in enumerate(run.grid.candidates):
                yield run.with_stage_settings(run.grid.stage, candidate)
                yield from (make_trial(run, number, seed) for seed in tuning_seeds(run.grid))


def first_trials(runs: Iterable[Run]) -> list[Run]:
    """The trials of the first tuning seed of all grids."""
    return [
        make_trial(run, number, FIRST_TUNING_SEED)
        for run in runs
        if run.grid is not None
        for number in range(len(run.grid.candidates))
    ]


def close_trials(runs: Iterable[Run], read: ReadRows) -> list[Run]:
    """The further trials of candidates that came close to the best; the first trials must be done."""
    return [
        make_trial(run, number, seed)
        for run in runs
        if run.grid is not None
        for number in close_candidates(run.grid, [_criterion(run.grid, read(t)) for t in first_trials([run])])
        for seed in list(tuning_seeds(run.grid))[1:]
    ]


def chosen_candidate(run: Run, read: ReadRows) -> int:
    """Number of the candidate that the trials choose. Raises UserError if one of them has not been run."""
    grid = _grid(run)
    numbers = range(len(grid.candidates))
    results = {number: [_criterion_of_trial(run, number, FIRST_TUNING_SEED, read)] for number in numbers}
    for number in close_candidates(grid, [values[0] for values in results.values()]):
        results[number] += [_criterion_of_trial(run, number, seed, read) for seed in list(tuning_seeds(grid))[1:]]
    return best_candidate(grid, results)


def with_chosen_settings(run: Run, read: ReadRows) -> tuple[Run, dict[str, Any]]:
    """The run with the settings that its trials choose, and the columns that say so: the settings, `grid_size` (from
    how many they were chosen) and `grid_edge` (the axes on whose end they lie). A run without a grid is returned as it
    is."""
    if run.grid is None:
        return run, {}
    candidate = run.grid.candidates[chosen_candidate(run, read)]
    columns = {**run.grid.settings(candidate), "grid_size": len(run.grid.candidates)}
    columns["grid_edge"] = " ".join(run.grid.edges(candidate))
    return run.with_stage_settings(run.grid.stage, candidate), columns


def grid_table(runs: Sequence[Run], read: ReadRows) -> "DataFrame | None":
    """A row for every trial of the runs' grids; None if no run has a grid.

    Columns: arm (the run's label), its tags, the settings on the grid's axes, seed, criterion (its value),
    criterion_name, chosen, edge.
    """
    import pandas

    rows = []
    for run in {replace(run, seeds=Seeds()): run for run in runs if run.grid is not None}.values():
        grid, best = _grid(run), chosen_candidate(run, read)
        for number, candidate in enumerate(grid.candidates):
            for seed in tuning_seeds(grid):
                found = read(make_trial(run, number, seed))
                if found is None:
                    continue
                about = {"arm": run.label, **dict(run.tags), **grid.settings(candidate), "seed": seed}
                chosen = {"chosen": number == best, "edge": number == best and bool(grid.edges(candidate))}
                rows.append({**about, "criterion": _criterion(grid, found), "criterion_name": grid.criterion, **chosen})
    return pandas.DataFrame(rows) if rows else None


def _criterion_of_trial(run: Run, number: int, seed: int, read: ReadRows) -> float | None:
    rows = read(make_trial(run, number, seed))
    if rows is None:
        raise UserError(f"the grid of {run.label} lacks a trial; run the experiment again")
    return _criterion(_grid(run), rows)


def _criterion(grid: Grid, rows: Rows | None) -> float | None:
    """The criterion of a trial: the mean over its rows that have it; None if it diverged. Raises UserError if a trial
    that did not diverge has no such column."""
    values = [row[grid.criterion] for row in rows or () if row.get(grid.criterion) is not None]
    if not values and rows and not rows[0].get("diverged"):
        columns = ", ".join(sorted({name for row in rows for name in row}))
        raise UserError(f"no trial has the criterion {grid.criterion!r} of its grid; its columns: {columns}")
    return fmean(values) if values else None


def _grid(run: Run) -> Grid:
    assert run.grid is not None
    return run.grid
