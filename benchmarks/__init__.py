"""Speed against the public alternatives.

Every file bench_NAME.py here is a benchmark that `python -m benchmarks` finds. It has one function,
`run(quick)`, which yields a Row for each of its cases.
"""

import os

# numpy's threads are fixed when it is first imported; torch is told its number by each benchmark
os.environ["OPENBLAS_NUM_THREADS"] = "1"
