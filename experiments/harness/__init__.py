"""What the experiments share: runs, tables, figures, statistics, claims.

    from experiments.harness import Claim, Run, decide_verdict, figures, interval, main, with_seeds

docs/add_an_experiment.md shows a whole experiment. Nothing here imports torch or matplotlib before it is needed.
"""

from experiments.harness.cli import main
from experiments.harness.reporting import figures
from experiments.harness.reporting.claims import Claim, decide_verdict
from experiments.harness.reporting.stats import Interval, interval, paired_interval, sign_flip_test
from experiments.harness.run import SCALES, Evaluation, Run, Seeds, Stage, default_seeds, run_id, with_seeds

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
    "decide_verdict",
    "default_seeds",
    "main",
    "paired_interval",
    "with_seeds",
    "run_id",
    "sign_flip_test",
]
