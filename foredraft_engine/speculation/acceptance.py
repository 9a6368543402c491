"""The rule by which proposals are accepted, for a whole batch.

p is the target's distribution, q the draft's. A proposed token x is accepted with probability
min(1, p(x) / q(x)). At the first rejection the next token is drawn from the normalised
max(0, p - q); if all are accepted, it is drawn from the target's p after them (Leviathan et al.,
arXiv 2211.17192, algorithm 1; Chen et al., arXiv 2302.01318). The committed tokens have the law p,
whatever the draft does.

Greedy decoding, the coupled rule and n-gram drafts are no special cases: they make p or q one-hot,
and the rule then accepts a token on exact match.

This module knows nothing of models, or of how random numbers are made.
"""

import torch
from torch import Tensor


def verify(
    p: Tensor,
    drafted: Tensor,
    q_drafted: Tensor,
    lengths: Tensor,
    q_at: "QRow",
    u: Tensor,
    noise: Tensor,
) -> tuple[Tensor, Tensor]:
    """Verifies a batch of proposals.

    Args:
        p: [batch, k + 1, vocab]; row i of a sequence is the law of the token after i drafted ones.
        drafted: int64 [batch, k], the proposed ids; entries past a proposal's length are ignored.
        q_drafted: [batch, k], q of each proposed id.
        lengths: int64 [batch], tokens proposed; 0 is plain decoding.
        q_at: gives the row of q at one position of each sequence.
        u: uniform numbers in (0, 1), [batch, k], independent of the draft's.
        noise: Gumbel noise, [batch, vocab], independent of the draft's and of u.

    Returns:
        accepted, int64 [batch], and the next id, int64 [batch]; the id is -1 where p is NaN.
    """
    k = drafted.shape[1]
    p_drafted = p[:, :k].gather(2, drafted[:, :, None])[:, :, 0]  # [batch, k]
    # The inequality is strict, so that a token with p = 0 is never accepted.
    accept = u * q_drafted < p_drafted
    accept &= torch.arange(k, device=p.device) < lengths[:, None]
    accepted = accept.long().cumprod(dim=1).sum(dim=1)  # [batch]

    p_next = p.gather(1, accepted[:, None, None].expand(-1, 1, p.shape[2]))[:, 0]  # [batch, vocab]
    rejected = accepted < lengths
    residual = (p_next - q_at(accepted, rejected)).clamp_(min=0.0)
    # If p and q are equal up to rounding, a token may still be rejected; p is then the right law.
    residual = torch.where(residual.sum(dim=1, keepdim=True) > 0, residual, p_next)
    # A comparison with NaN is false, so that a NaN of p also counts as a rejection.
    return accepted, sample(residual, noise).masked_fill(p_next[:, 0].isnan(), -1)


class QRow:
    """Sparse rows of q. Verification needs one dense row of each sequence, at the rejection."""

    def __init__(
        self, index: Tensor, ids: Tensor, probabilities: Tensor, shape: tuple[int, int, int]
    ) -> None:
        """
        Args:
            index: sequence * k + position of each entry, int64 [entries].
            ids: int64 [entries].
            probabilities: [entries].
            shape: batch, k, vocab.
        """
        self._index, self._ids, self._probabilities = index, ids, probabilities
        self._batch, self._k, self._vocab = shape

    def __call__(self, position: Tensor, wanted: Tensor) -> Tensor:
        """Returns dense rows of q, [batch, vocab].

        Args:
            position: the position in each sequence, int64 [batch].
            wanted: bool [batch]; the rows of the other sequences are zeros.
        """
        sequence = torch.arange(self._batch, device=position.device)
        place = torch.where(wanted, sequence * self._k + position, -1)  # [batch]
        owner = self._index.div(max(self._k, 1), rounding_mode="floor")
        hit = self._index == place[owner]
        rows = torch.zeros(
            self._batch, self._vocab, dtype=self._probabilities.dtype, device=position.device
        )
        return rows.index_put_((owner, self._ids), self._probabilities * hit, accumulate=True)


def sample(weights: Tensor, noise: Tensor) -> Tensor:
    """Draws ids, int64 [n], from unnormalised weights [n, vocab] with Gumbel noise [n, vocab]."""
    return (weights.double().log() + noise).argmax(dim=-1)
