# ruff: noqa: F401
"""What the server of worker processes imports, once for all of them (inline.py).

Workers are forks of that server, so that nothing may be computed here: threads and a GPU do not survive a fork.
"""

import accelerate
import scipy.linalg

import experiments.harness.execution.execute
import lm.inference.sampling
import lm.pretrained
import lm.training.loop
