"""How many log-probabilities a call may ask for.

Up to a hundred of a position are told of texts of any length. Beyond that, up to the whole
vocabulary, the call as a whole is bounded, since an answer that is not streamed is one message.
"""

from foredraft.v1 import target_pb2
from foredraft_engine.errors import InvalidFieldError

_FREE = 100
_FAR_MORE = 1 << 32
_MOST = 1 << 18  # of a call: three megabytes of ids and numbers


def check_logprobs(
    message: target_pb2.GenerateRequest, prompt_tokens: int, new_tokens: int, vocabulary: int
) -> None:
    """Refuses a call whose log-probabilities would be too many.

    Args:
        prompt_tokens: the tokens of all prompts.
        new_tokens: the longest that all texts together can become.
        vocabulary: the number of ids that the model scores; 0 if it is not known.

    Raises:
        InvalidFieldError: there are too many; the field is named.
    """
    for name, tokens in (("logprobs", new_tokens), ("prompt_logprobs", prompt_tokens)):
        asked = min(getattr(message, name), vocabulary or _FAR_MORE)
        if asked > _FREE and asked * tokens > _MOST:
            reason = (
                f"is {asked} for {tokens} tokens; above {_FREE} of a position, a call is told at "
                f"most {_MOST} in all: ask for fewer or for shorter texts; output_logits has whole "
                "rows, streamed"
            )
            raise InvalidFieldError(name, reason)
