"""What a training step of an architecture costs, measured in the same way for all, however they were trained."""

import time
from dataclasses import dataclass
from statistics import median
from typing import Any


@dataclass(frozen=True)
class Pace:
    """The median time of `passes` forward and backward over random tokens of a batch (rows, window), as in
    training but eager and without the optimizer, whose work is alike for models of one size. Fresh processes and other
    work on the machine move it; the ratio between architectures moves less."""

    rows: int
    window: int
    passes: int = 5

    def measure(self, model: Any, task: Any, data_seed: int, seed: int) -> dict[str, Any]:
        """seconds_a_step."""
        import torch

        device = model.embed.weight.device
        tokens = torch.randint(model.vocab_size, (self.rows, self.window), device=device)
        moments = []
        for _ in range(self.passes + 2):  # the first two compile and warm up
            begin = time.perf_counter()
            with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
                logits = model.train()(tokens)
                loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens.flatten())
            loss.backward()
            float(next(model.parameters()).grad.flatten()[0])  # waits for the device
            moments.append(time.perf_counter() - begin)
            model.zero_grad()
        model.eval()
        return {"seconds_a_step": median(moments[2:])}
