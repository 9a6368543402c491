"""The largest numbers that services accept, whatever the model, and the default timeout."""

MAX_SEQUENCES = 256
"""The largest number of sequences in one call."""
MAX_BEAMS = 64
"""The largest number of beams of one search."""
MAX_DRAFT_LENGTH = 256
"""The largest number of tokens in a proposal."""
MAX_NGRAM = 1024
"""The longest n-gram of a lookup, in tokens."""
MAX_OUTCOMES = 256
"""The largest number of outcomes that a draft is asked to prepare for."""
MAX_ALTERNATIVES = 64
"""The largest number of alternatives in a proposal."""
MAX_SEQUENCE_TOKENS = 1 << 20
"""The largest number of tokens in a sequence that a draft follows."""
MAX_NGRAM_TOKENS = 1 << 17
"""The longest sequence in which n-grams are looked up; their index takes memory for each token."""
MAX_SEQUENCES_OF_IDS = 1024
"""The largest number of entries in `bad_words_ids` and in `sequence_bias`. Every entry is looked at
in every step, so that more of them would delay all other calls.
"""
MAX_STOP_STRINGS = 64
"""The largest number of stop strings."""
MAX_STOP_STRING_LENGTH = 1024
"""The longest stop string, in characters."""
MAX_RESPONSE_FORMAT_BYTES = 64 << 10
"""The largest response format, on the wire."""
MAX_MESSAGE_BYTES = 16 << 20
"""The largest message that a service takes."""
MAX_MESSAGE_PARTS = 1 << 16
"""The largest number of values and messages in one message, a list of ids being one value."""
MAX_MESSAGE_IDS = 1 << 22
"""The largest number of token ids in one message."""
DEFAULT_TIMEOUT_S = 600.0
"""The time that the SDK allows for a call, where the caller says nothing."""
