"""How fast training runs on this machine, as a share of large matrix products. No torch: also for planners."""

import time
from functools import cache

import numpy as np

# Share of the rate of large matrix products that training reached, by width of the model: medians of timed steps on
# one CPU thread (batches of 256 to 4096 tokens). Small matrices are slower;
# the dry run's --measure times the steps themselves.
EFFICIENCY = {16: 0.03, 32: 0.12, 64: 0.27, 128: 0.41, 256: 0.63, 768: 0.7}


def efficiency(width: int) -> float:
    """Share of the matmul rate that training of a model of this width reaches, between the measured widths."""
    return float(np.interp(np.log(width), np.log(list(EFFICIENCY)), list(EFFICIENCY.values())))


@cache
def processor_rate() -> float:
    """FLOPs a second of large matrix products on the CPU, with the threads that numpy was given: the best of 0.2 s of
    them, as other processes may be at work."""
    n = 512
    a = np.random.default_rng(0).standard_normal((n, n), np.float32)
    best, begin = 0.0, time.perf_counter()
    while (now := time.perf_counter()) < begin + 0.2:
        for _ in range(4):
            a @ a
        best = max(best, 4 * 2 * n**3 / (time.perf_counter() - now))
    return best
