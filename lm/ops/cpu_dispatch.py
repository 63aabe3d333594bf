"""When the fp32 CPU kernels of this folder can replace torch's operations."""

import torch
from torch import Tensor


def can_use_cpu_kernels(x: Tensor) -> bool:
    """Whether x is fp32 on a CPU, outside autocast and torch.compile."""
    plain = x.device.type == "cpu" and x.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
    return plain and not torch.compiler.is_compiling()
