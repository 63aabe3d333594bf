"""When the kernels of a CPU that are written for plain fp32 can stand in for torch's."""

import torch
from torch import Tensor


def is_plain(x: Tensor) -> bool:
    """Whether x is in fp32 on a CPU, and neither autocast nor a compiler is at work."""
    plain = x.device.type == "cpu" and x.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
    return plain and not torch.compiler.is_compiling()
