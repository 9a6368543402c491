"""The tokens that a response format leaves no choice about, which the target proposes by itself.

Their probability is 1 once the format's mask is applied, so that they are accepted under every
rule, and a round of them costs one forward pass. This module knows nothing of draft services.
"""

from collections.abc import Sequence

from foredraft_engine.logits.grammar import GrammarText
from foredraft_engine.proposal import NOTHING, Proposal
from target_service.request.plan import Plan


class ForcedTokens:
    """The forced tokens of one sequence.

    It follows the text with a parser of its own, since that of the processors is the device
    thread's.
    """

    def __init__(self, plan: Plan) -> None:
        self._prompt = plan.sampling.prompt_length
        ends = plan.sampling.eos_token_id
        self._text = GrammarText(plan.grammar, ends) if plan.grammar else None

    def propose(self, tokens: Sequence[int], k: int) -> Proposal:
        """Returns the forced tokens after a text, at most k; nothing where there is a choice."""
        if self._text is None or k <= 0:
            return NOTHING
        ids = self._text.forced(tokens[self._prompt :])[:k]
        return Proposal(ids, None, "grammar") if ids else NOTHING

    def in_front(self, tokens: Sequence[int], proposal: Proposal, k: int) -> Proposal:
        """Returns a proposal that begins with the forced tokens: the given one if it does.

        What is proposed where tokens are forced changes no law, whatever it depends on: the target
        has one token there. After them nothing is taken back but what was drawn after others.
        """
        forced = self.propose(tokens, k)
        shared = min(len(forced.ids), len(proposal.ids))
        is_longer = len(proposal.ids) >= len(forced.ids)
        return proposal if is_longer and proposal.ids[:shared] == forced.ids else forced
