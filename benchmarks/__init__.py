"""Speed against public alternatives.

Every file bench_NAME.py is a benchmark for `python -m benchmarks`; its function `run(quick)` yields a Row per case.
"""

import os

# numpy reads this when it is first imported; each benchmark sets the threads of torch
os.environ["OPENBLAS_NUM_THREADS"] = "1"
