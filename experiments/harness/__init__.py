"""What the experiments share: runs, tables, figures, statistics, claims.

    from experiments.harness import Claim, Run, figures, interval, judge, main, replicate

docs/add_an_experiment.md shows a whole experiment. Nothing here imports torch or matplotlib before it is needed.
"""

from experiments.harness.cli import main
from experiments.harness.reporting import figures
from experiments.harness.reporting.claims import Claim, judge
from experiments.harness.reporting.stats import Interval, interval, paired_interval, sign_flip_test
from experiments.harness.run import SCALES, Evaluation, Run, Seeds, Stage, replicate, run_id

__all__ = [
    "SCALES",
    "Claim",
    "Evaluation",
    "Interval",
    "Run",
    "Seeds",
    "Stage",
    "figures",
    "interval",
    "judge",
    "main",
    "paired_interval",
    "replicate",
    "run_id",
    "sign_flip_test",
]
