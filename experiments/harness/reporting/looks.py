"""Seeds until decided: claims are looked at after 3, 5, 8 and 12 seeds, and only runs of undecided claims go on.

A verdict is that of the first look that decides; the level of each look's interval is such that all looks together are
wrong in at most 5% of cases on either side (statistics/sequential.py).
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from experiments.harness.reporting.claims import DECIDED, Claim
from experiments.harness.statistics.sequential import design_of

if TYPE_CHECKING:
    from pandas import DataFrame

MakeClaims = Callable[["DataFrame"], Sequence[Claim]]


def claims_over_looks(table: "DataFrame", make_claims: MakeClaims) -> list[Claim]:
    """The claims of a table; where its seeds were looked at several times, each with the verdict of the first look that
    decided it (value and interval are those of all seeds) and the number of looks until then. What was decided stays,
    also where a gate fails with more seeds."""
    last = list(make_claims(table))
    if "looks" not in table:
        return last
    looks = design_of(table).looks_taken(int(table["seed_init"].max()) + 1)
    by_look = [_by_line(make_claims(table[table["seed_init"] < n])) for n in looks[:-1]] + [_by_line(last)]
    return [_at_first_decision(claim, [found.get(_line(claim)) for found in by_look], looks) for claim in last]


def _at_first_decision(claim: Claim, at_looks: Sequence[Claim | None], looks: Sequence[int]) -> Claim:
    for number, found in enumerate(at_looks, 1):
        if found is not None and found.verdict in DECIDED:
            return replace(claim, verdict=found.verdict, gate="", without_gate=None, looks=number)
    # runs of a claim that was decided, or not testable, stopped at an earlier look; a seed may lack the value
    taken = next((number for number, n in enumerate(looks, 1) if n >= (claim.n or 0)), len(looks))
    return replace(claim, looks=taken if claim.n else None)


def _line(claim: Claim) -> tuple[str, str]:
    return claim.id, claim.statement


def _by_line(claims: Sequence[Claim]) -> dict[tuple[str, str], Claim]:
    return {_line(claim): claim for claim in claims}


def undecided_lines(claims: Sequence[Claim]) -> set[tuple[str, str]]:
    """The lines whose verdicts more seeds could decide: the primary ones, or all where none is primary."""
    deciding = [claim for claim in claims if claim.primary] or list(claims)
    return {_line(claim) for claim in deciding if claim.verdict == "undecided"}


def configurations_of(
    lines: set[tuple[str, str]], table: "DataFrame", make_claims: MakeClaims, configurations: dict[str, set[str]]
) -> set[str]:
    """The configurations whose rows these lines of the ledger rest on: without them the line is not what it was.

    configurations: run ids by configuration. A configuration without which no claim can be made is one that every line
    rests on. A claim about the best of several arms rests on the best one alone: such claims need all seeds of all.
    """
    whole, found = _by_line(make_claims(table)), set[str]()
    for name, runs in configurations.items():
        rest = table[~table["run"].isin(runs)]
        try:
            without = _by_line(make_claims(rest)) if len(rest) else {}
        except Exception:  # whatever a script raises where a column or row is missing
            without = {}
        if any(_numbers(without.get(line)) != _numbers(whole.get(line)) for line in lines):
            found.add(name)
    return found


def _numbers(claim: Claim | None) -> tuple[object, ...]:
    return () if claim is None else (claim.value, claim.low, claim.high, claim.n, claim.gate, claim.verdict)
