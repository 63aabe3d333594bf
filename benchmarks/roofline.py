"""The least time that a training step can take on this machine: its matrix products at the rates of their own shapes,
and its element-wise passes at the rate of memory.

Products of the forward pass, and for each the two of the backward pass, are timed one by one with torch.mm on the
shapes that the model has; attention's are small and many, and count at the best rate of any product (of half of the
scores, those that a causal model needs). Element-wise passes count the bytes that norms, residual sums, activation and
optimizer read and write when each is one pass, at the rate at which torch adds two arrays that the cache does not
hold. Exponentials and the order of things cost nothing here, so that no program reaches 1.
"""

import time
from collections import Counter
from collections.abc import Callable

import torch

from lm.config import ModelConfig
from lm.model import meta_model
from lm.model_size import count_parameters
from lm.options import GATED

Product = tuple[int, int, int]  # (n, k) times (k, m): n, m, k
REPEATS = 5
BYTES = 4  # of an fp32 number


def least_step_seconds(config: ModelConfig, vocab: int, batch: int, window: int) -> float:
    """Seconds of one step on `batch` x `window` tokens, with torch's present number of threads."""
    products = count_products(config, vocab, batch * window)
    times = {shape: _time_product(shape) for shape in products}
    rate = max(2 * n * m * k / times[n, m, k] for n, m, k in products)
    attention = 6 * 2 * batch * config.n_layers * config.d_model * window * (window + 1) / 2 / rate
    memory = count_bytes(config, vocab, batch * window) / _memory_rate()
    return sum(times[shape] * count for shape, count in products.items()) + attention + memory


def count_products(config: ModelConfig, vocab: int, tokens: int) -> Counter[Product]:
    """How many matrix products of each shape a step has, forward and backward, without attention's."""
    d, hidden = config.d_model, config.mlp_hidden_dim
    up = hidden * (2 if config.mlp in GATED else 1)
    layers = {(d, 3 * d): config.n_layers, (d, d): config.n_layers, (d, up): config.n_layers}
    weights = Counter(layers) + Counter({(hidden, d): config.n_layers}) + Counter({(d, vocab): 1})
    found: Counter[Product] = Counter()
    for (k, m), count in weights.items():
        for shape in ((tokens, m, k), (tokens, k, m), (k, m, tokens)):  # forward, gradients of inputs and of weights
            found[shape] += count
    return found


def count_bytes(config: ModelConfig, vocab: int, tokens: int) -> float:
    """Bytes that the element-wise passes of a step read and write.

    A block, in numbers a token: two norms forward (2 D each) and backward (3 D each), two sums with the residual stream
    (3 D each, forward and backward), the activation forward (its input and output) and backward (the same and one
    gradient). The loss reads and writes the logits. AdamW reads gradients, weights and two moments, and writes the
    last three.
    """
    d, hidden = config.d_model, config.mlp_hidden_dim
    up = hidden * (2 if config.mlp in GATED else 1)
    block = 2 * (2 + 3) * d + 2 * 2 * 3 * d + (up + hidden) + (2 * up + hidden)
    parameters = count_parameters(meta_model(config, vocab))["total"]
    return BYTES * (tokens * (config.n_layers * block + 2 * vocab) + 7 * parameters)


def _time_product(shape: Product) -> float:
    n, m, k = shape
    a, b = torch.randn(n, k), torch.randn(k, m)
    return _best(lambda: torch.mm(a, b))


def _memory_rate() -> float:
    """Bytes a second of adding two arrays of 64 MiB to a third."""
    a, b, c = (torch.ones(1 << 24) for _ in range(3))
    return 3 * BYTES * a.numel() / _best(lambda: torch.add(a, b, out=c))


def _best(work: Callable[[], object]) -> float:
    """The least seconds of some calls, repeated until they take a millisecond."""
    times = []
    for _ in range(REPEATS):
        calls, begin = 0, time.perf_counter()
        while (spent := time.perf_counter() - begin) < 1e-3 or not calls:
            work()
            calls += 1
        times.append(spent / calls)
    return min(times)
