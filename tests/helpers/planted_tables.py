"""What tests of experiments do with tables that no run has made."""

from functools import cache
from types import ModuleType

from pandas import DataFrame

from experiments.harness.experiment import select


@cache
def module(number: str) -> ModuleType:
    """An experiment by its number."""
    return select([number])[0].load_module()


def verdicts(claims) -> dict[str, str]:
    """The verdict of every claim by its statement."""
    return {claim.statement: claim.verdict for claim in claims}


def parts(table: DataFrame) -> list[DataFrame]:
    """A table as it grows, as the harness redraws the figure after every run; the whole comes last."""
    return [table.iloc[:1], table.iloc[: len(table) // 3 + 1], table[table["seed_init"] == 0], table]
