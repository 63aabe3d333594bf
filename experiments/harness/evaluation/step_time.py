"""Time of a training step of an architecture, measured alike for all, however they were trained."""

import time
from dataclasses import dataclass, field
from statistics import median
from typing import Any


@dataclass(frozen=True)
class StepTime:
    """Median time of a forward and backward pass over random tokens (batch_size, seq_len).

    Eager and without data and optimizer, which cost the same for models of one size; planning.cost.time_training_step
    times whole steps instead. Other work on the machine changes it; ratios between architectures change less.
    """

    identity_name = "Pace"
    batch_size: int = field(metadata={"identity": "rows"})
    seq_len: int = field(metadata={"identity": "window"})
    num_passes: int = field(default=5, metadata={"identity": "passes"})

    def measure(self, model: Any, task: Any, data_seed: int, seed: int) -> dict[str, Any]:
        """{"seconds_a_step": seconds}."""
        import torch

        device = model.embed.weight.device
        tokens = torch.randint(model.vocab_size, (self.batch_size, self.seq_len), device=device)
        times = []
        for _ in range(self.num_passes + 2):  # the first two compile and warm up
            start = time.perf_counter()
            with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
                logits = model.train()(tokens)
                loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens.flatten())
            loss.backward()
            float(next(model.parameters()).grad.flatten()[0])  # waits for the device
            times.append(time.perf_counter() - start)
            model.zero_grad()
        model.eval()
        return {"seconds_a_step": median(times[2:])}
