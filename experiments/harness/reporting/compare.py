"""A new result beside the committed one: another processor rounds differently, and small models can be chaotic."""

from collections.abc import Sequence

from experiments.harness.reporting.claims import Claim


def differences(new: Sequence[Claim], committed: Sequence[Claim]) -> list[str]:
    """A line for every claim whose new value lies outside the committed interval, or whose verdict has changed."""
    before = {(claim.id, claim.statement): claim for claim in committed}
    found = []
    for claim in new:
        old = before.get((claim.id, claim.statement))
        if old is None:
            continue
        changes = []
        if None not in (claim.value, old.low, old.high) and not old.low <= claim.value <= old.high:  # type: ignore[operator]
            changes.append(f"{claim.value:.4g}, outside the committed interval {old.low:.4g} to {old.high:.4g}")
        if claim.verdict != old.verdict:
            changes.append(f"{claim.verdict}, committed as {old.verdict}")
        if changes:
            found.append(f"{claim.id} {claim.statement}: {'; '.join(changes)}")
    return found
