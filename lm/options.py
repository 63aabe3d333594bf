"""The values that switches of a configuration take, and which of them go together."""

from typing import Literal

Positions = Literal["learned", "relative", "rotary", "none", "position_only", "uniform", "alibi", "half_alibi"]
Norm = Literal["layer", "rms"]
MLP = Literal["gelu", "silu", "relu2", "swiglu", "geglu", "reglu2", "none"]
Packing = Literal["cut", "whole", "none"]
Objective = Literal["causal", "masked"]
Schedule = Literal["linear", "cosine", "constant"]
Precision = Literal["auto", "fp32", "bf16", "bf16-matmul"]

GATED = ("swiglu", "geglu", "reglu2")  # MLPs with a gate
TABLE_POSITIONS = ("learned", "relative", "position_only")  # hold a table with one row per position or distance
BIDIRECTIONAL = ("learned", "relative", "rotary")  # distinguish left from right without a causal mask
MIXER_AGNOSTIC = ("learned", "rotary", "none")  # are no kind of attention, so that any mixer can have them
SOFTMAX = (*MIXER_AGNOSTIC, "alibi", "half_alibi")  # leave attention a softmax over content queries and keys
