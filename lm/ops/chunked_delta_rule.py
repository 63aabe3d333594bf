"""Chunkwise-parallel gated delta rule in plain torch (arXiv 2412.06464, section 3.3).

Within a chunk the corrections u_t = b_t (v_t - a_t S_{t-1} k_t) of all tokens solve one triangular system (the WY
representation); the state passes from chunk to chunk. Names and shapes are those of lm/ops/gated_delta_rule.py.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

CHUNK = 16  # tokens; smaller makes more steps, larger more work in each
EPS = 1e-6  # added to the squared length of a query or key


def l2_normalize(x: Float[Tensor, "*B K"]) -> Float[Tensor, "*B K"]:
    """x / sqrt(|x|^2 + EPS): unit length, and near 0 where x is."""
    return x * torch.rsqrt(x.square().sum(-1, keepdim=True) + EPS)


def zero_state(k: Float[Tensor, "B T H K"], v: Float[Tensor, "B T H V"]) -> Float[Tensor, "B H K V"]:
    """The state before the first token."""
    return k.new_zeros(k.shape[0], k.shape[2], k.shape[3], v.shape[3])


def chunk_gated_delta_rule(
    q: Float[Tensor, "B T H K"],
    k: Float[Tensor, "B T H K"],
    v: Float[Tensor, "B T H V"],
    log_decay: Float[Tensor, "B T H"],
    beta: Float[Tensor, "B T H"],
    is_doc_start: Bool[Tensor, "B T"] | None = None,
    initial_state: Float[Tensor, "B H K V"] | None = None,
    chunk: int = CHUNK,
) -> tuple[Float[Tensor, "B T H V"], Float[Tensor, "B H K V"]]:
    """Outputs in the dtype of v and the final state in fp32; q and k are used as given.

    Keys longer than 1 can make the state grow without bound. chunk: tokens.
    """
    length, dtype = q.shape[1], v.dtype
    state = zero_state(k, v).float() if initial_state is None else initial_state.float()
    with torch.autocast(q.device.type, enabled=False):  # half precision is too coarse for a triangular system
        q, k, v, beta = (_to_chunks(x.float(), chunk) for x in (q, k, v, beta))
        starts = None if is_doc_start is None else _to_chunks(is_doc_start[..., None], chunk)
        between, from_start, to_end = _decays(_to_chunks(log_decay, chunk), starts)
        system = (beta[..., None] * k) @ k.mT * between  # the solver reads nothing on and above its diagonal
        right = torch.cat((v, from_start[..., None] * k), -1) * beta[..., None]
        solved = torch.linalg.solve_triangular(system, right, upper=False, unitriangular=True)
        u, w = solved.split((v.shape[-1], k.shape[-1]), -1)
        scores, q_decayed, k_decayed = q @ k.mT * between, from_start[..., None] * q, (to_end[..., None] * k).mT
        outputs = []
        for n in range(len(q)):
            correction = u[n] - w[n] @ state
            outputs.append(q_decayed[n] @ state + scores[n] @ correction)
            state = from_start[n, ..., -1, None, None] * state + k_decayed[n] @ correction
        out = torch.stack(outputs, 1)
    return out.transpose(2, 3).flatten(1, 2)[:, :length].to(dtype), state


def _to_chunks(x: Tensor, chunk: int) -> Tensor:
    """(B, T, H, ...) as (N, B, H, C, ...), zero-padded: with beta and log_decay 0 the state passes unchanged."""
    x = F.pad(x, (0, 0) * (x.ndim - 2) + (0, -x.shape[1] % chunk))
    return x.unflatten(1, (-1, chunk)).movedim(1, 0).transpose(2, 3).contiguous()


def _decays(
    log_decay: Float[Tensor, "N B H C"], is_doc_start: Bool[Tensor, "N B 1 C"] | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Decay between token pairs (N, B, H, C, C), from chunk start to each token (N, B, H, C), and from each token to
    chunk end (N, B, H, C); 0 across documents and towards earlier tokens.

    Sums of logarithms and their differences are in fp64: one strong decay would cost the weak ones their digits.
    """
    total = log_decay.double().cumsum(-1)
    difference = total[..., :, None] - total[..., None, :]
    hidden = torch.ones(difference.shape[-2:], dtype=torch.bool, device=difference.device).triu(1)
    if is_doc_start is None:
        between = difference.masked_fill(hidden, -torch.inf).float().exp()
        return between, total.float().exp(), difference[..., -1, :].float().exp()
    number = is_doc_start.cumsum(-1)  # of the document within the chunk; 0: it began in an earlier chunk
    hidden = hidden | (number[..., :, None] != number[..., None, :])
    between = difference.masked_fill(hidden, -torch.inf).float().exp()
    return between, total.float().exp() * (number == 0), between[..., -1, :]
