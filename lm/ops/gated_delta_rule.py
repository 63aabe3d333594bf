"""The gated delta rule: a memory that forgets, and corrects what it holds for a key instead of adding to it.

arXiv 2412.06464, equation 10: S_t = a_t S_{t-1} (I - b_t k_t k_t^T) + b_t v_t k_t^T and o_t = S_t q_t, with a decay a_t
and a rate b_t of one head. Here the state is kept transposed, (K, V), so that a query reads it from the left.

Within a chunk the corrections u_t = b_t (v_t - a_t S_{t-1} k_t) of all its tokens solve one triangular system (the WY
representation, section 3.3), and the state passes from chunk to chunk.
"""

from functools import cache

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from lm.ops.cpu_dispatch import is_plain
from lm.ops.fla_adapter import Kernel, in_one_row

SMALL = 2048  # numbers in a memory; many memories of more do not stay in a core's cache
CHUNK = 16  # tokens; smaller makes more steps, larger more work in each
EPS = 1e-6  # added to the squared length of a query or key


def unit(x: Float[Tensor, "*B K"]) -> Float[Tensor, "*B K"]:
    """x at length 1, and shorter than that where it is as good as 0."""
    return x * torch.rsqrt(x.square().sum(-1, keepdim=True) + EPS)


def gated_delta_rule(
    q: Float[Tensor, "B T H K"],
    k: Float[Tensor, "B T H K"],
    v: Float[Tensor, "B T H V"],
    log_decay: Float[Tensor, "B T H"],
    rate: Float[Tensor, "B T H"],
    begins: Bool[Tensor, "B T"] | None = None,
    initial: Float[Tensor, "B H K V"] | None = None,
) -> tuple[Float[Tensor, "B T H V"], Float[Tensor, "B H K V"]]:
    """What every token reads, and the memory after the last one, by whichever way is fastest here.

    q, k: of any length, brought to length 1 first; log_decay: log a_t <= 0; rate: b_t in [0, 1]; begins: where a
    document starts, whose tokens see nothing before it; initial: the memory before the first token, by default zeros.
    """
    kind = torch.get_autocast_dtype(q.device.type) if torch.is_autocast_enabled(q.device.type) else v.dtype
    if goes_to_fla(q.device.type, kind, begins is not None, initial is not None):
        kernel = fla_kernel()
        if kernel is not None:
            return by_fla(kernel, q.to(kind), k.to(kind), v.to(kind), log_decay, rate, begins, initial)
    if goes_in_lanes(q, k.shape[-1] * v.shape[-1], kind):
        from lm.ops.cpu_delta_rule import in_lanes

        return in_lanes(q, k, v, log_decay, rate, begins, initial)
    return in_chunks(unit(q), unit(k), v, log_decay, rate, begins, initial)


def goes_in_lanes(q: Tensor, size: int, kind: torch.dtype) -> bool:
    """Whether token by token with many rows abreast is possible and fastest, for memories of `size` numbers."""
    return is_plain(q) and kind == torch.float32 and size <= SMALL


def goes_to_fla(device: str, kind: torch.dtype, begins: bool, initial: bool) -> bool:
    """Whether flash-linear-attention takes such inputs: half precision, and no memory before documents of its own."""
    return device == "cuda" and kind in (torch.float16, torch.bfloat16) and not (begins and initial)


@cache
def fla_kernel() -> Kernel | None:
    """The kernel of flash-linear-attention where that is installed."""
    try:
        from fla.ops.gated_delta_rule import chunk_gated_delta_rule
    except ImportError:
        return None
    return chunk_gated_delta_rule


def by_fla(
    kernel: Kernel, q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, rate: Tensor, begins: Tensor | None,
    initial: Tensor | None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """`gated_delta_rule` by flash-linear-attention."""
    return in_one_row(kernel, (q, k, v, log_decay, rate), begins, initial_state=initial, use_qk_l2norm_in_kernel=True)


def advance(
    memory: Float[Tensor, "B H K V"],
    q: Float[Tensor, "B H K"],
    k: Float[Tensor, "B H K"],
    v: Float[Tensor, "B H V"],
    log_decay: Float[Tensor, "B H"],
    rate: Float[Tensor, "B H"],
) -> tuple[Float[Tensor, "B H V"], Float[Tensor, "B H K V"]]:
    """One token of the recurrence as it is written: what its query reads, and the memory after it."""
    memory = log_decay.exp()[..., None, None] * memory
    known = (k[..., None, :] @ memory)[..., 0, :]
    memory = memory + k[..., :, None] * (rate[..., None] * (v - known))[..., None, :]
    return (q[..., None, :] @ memory)[..., 0, :], memory


def one_by_one(
    q: Float[Tensor, "B T H K"],
    k: Float[Tensor, "B T H K"],
    v: Float[Tensor, "B T H V"],
    log_decay: Float[Tensor, "B T H"],
    rate: Float[Tensor, "B T H"],
    begins: Bool[Tensor, "B T"] | None = None,
    initial: Float[Tensor, "B H K V"] | None = None,
) -> tuple[Float[Tensor, "B T H V"], Float[Tensor, "B H K V"]]:
    """The recurrence token by token: slow, and what `in_chunks` is held to. Arguments and result as there."""
    memory = empty(k, v) if initial is None else initial
    read = []
    for t in range(q.shape[1]):
        if begins is not None:
            memory = memory * ~begins[:, t, None, None, None]
        out, memory = advance(memory, q[:, t], k[:, t], v[:, t], log_decay[:, t], rate[:, t])
        read.append(out)
    return torch.stack(read, 1), memory


def empty(k: Float[Tensor, "B T H K"], v: Float[Tensor, "B T H V"]) -> Float[Tensor, "B H K V"]:
    """The memory before the first token: zeros."""
    return k.new_zeros(k.shape[0], k.shape[2], k.shape[3], v.shape[3])


def in_chunks(
    q: Float[Tensor, "B T H K"],
    k: Float[Tensor, "B T H K"],
    v: Float[Tensor, "B T H V"],
    log_decay: Float[Tensor, "B T H"],
    rate: Float[Tensor, "B T H"],
    begins: Bool[Tensor, "B T"] | None = None,
    initial: Float[Tensor, "B H K V"] | None = None,
    chunk: int = CHUNK,
) -> tuple[Float[Tensor, "B T H V"], Float[Tensor, "B H K V"]]:
    """The gated delta rule for queries and keys as they are given (keys longer than 1 can make the memory grow)."""
    length, kind = q.shape[1], v.dtype
    memory = empty(k, v).float() if initial is None else initial.float()
    with torch.autocast(q.device.type, enabled=False):  # a triangular system needs the digits
        q, k, v, rate = (_cut(x.float(), chunk) for x in (q, k, v, rate))
        between, since, until = _decays(
            _cut(log_decay, chunk), None if begins is None else _cut(begins[..., None], chunk)
        )
        system = (rate[..., None] * k) @ k.mT * between  # of what is on and above its diagonal nothing is read
        right = torch.cat((v, since[..., None] * k), -1) * rate[..., None]
        solved = torch.linalg.solve_triangular(system, right, upper=False, unitriangular=True)
        alone, held = solved.split((v.shape[-1], k.shape[-1]), -1)
        near, far, late = q @ k.mT * between, since[..., None] * q, (until[..., None] * k).mT
        read = []
        for n in range(len(q)):
            correction = alone[n] - held[n] @ memory
            read.append(far[n] @ memory + near[n] @ correction)
            memory = since[n, ..., -1, None, None] * memory + late[n] @ correction
        out = torch.stack(read, 1)
    return out.transpose(2, 3).flatten(1, 2)[:, :length].to(kind), memory


def _cut(x: Tensor, chunk: int) -> Tensor:
    """(B, T, H, ...) as (N, B, H, C, ...), with zeros after the last token: these neither forget nor write."""
    x = F.pad(x, (0, 0) * (x.ndim - 2) + (0, -x.shape[1] % chunk))
    return x.unflatten(1, (-1, chunk)).movedim(1, 0).transpose(2, 3).contiguous()


def _decays(
    log_decay: Float[Tensor, "N B H C"], begins: Bool[Tensor, "N B 1 C"] | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Of each chunk, what is left at a token of what another wrote (..., C, C), at a token of what came before the
    chunk (..., C), and of what a token wrote after the chunk (..., C).

    Sums of logarithms and their differences are in fp64: a strong decay among weak ones would cost the latter's digits.
    """
    total = log_decay.double().cumsum(-1)
    apart = total[..., :, None] - total[..., None, :]
    hidden = torch.ones(apart.shape[-2:], dtype=torch.bool, device=apart.device).triu(1)
    if begins is None:
        return apart.masked_fill(hidden, -torch.inf).float().exp(), total.float().exp(), apart[..., -1, :].float().exp()
    number = begins.cumsum(-1)  # of the document, from 0 for the one that was there before the chunk
    hidden = hidden | (number[..., :, None] != number[..., None, :])
    between = apart.masked_fill(hidden, -torch.inf).float().exp()
    return between, total.float().exp() * (number == 0), between[..., -1, :]
