"""What the experiments share: runs, tables, figures, estimates, claims.

    from experiments.harness import ClaimList, Run, figures, main, mean_of, with_seeds

docs/add_an_experiment.md shows a whole experiment. Nothing here imports torch or matplotlib before it is needed.
"""

from experiments.harness.cli import main
from experiments.harness.curve import Curve, Plateau, log_spaced_steps
from experiments.harness.grid import Grid, train_grid
from experiments.harness.reporting import figures
from experiments.harness.reporting.claims import Claim, ClaimList, Gate
from experiments.harness.reporting.table import last_rows
from experiments.harness.run import SCALES, Evaluation, Run, Seeds, Stage, default_seeds, run_id, with_seeds
from experiments.harness.statistics.curves import plateau_of, steps_to
from experiments.harness.statistics.estimates import difference_of, mean_of, ratio_of, share_of, solved_of

__all__ = [
    "SCALES",
    "Claim",
    "ClaimList",
    "Curve",
    "Evaluation",
    "Gate",
    "Grid",
    "Plateau",
    "Run",
    "Seeds",
    "Stage",
    "default_seeds",
    "difference_of",
    "figures",
    "last_rows",
    "log_spaced_steps",
    "main",
    "mean_of",
    "plateau_of",
    "ratio_of",
    "run_id",
    "share_of",
    "solved_of",
    "steps_to",
    "train_grid",
    "with_seeds",
]
