from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class SamplingRule(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SAMPLING_RULE_UNSPECIFIED: _ClassVar[SamplingRule]
    SAMPLING_RULE_REJECTION: _ClassVar[SamplingRule]
    SAMPLING_RULE_COUPLED: _ClassVar[SamplingRule]

class EarlyStopping(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    EARLY_STOPPING_UNSPECIFIED: _ClassVar[EarlyStopping]
    EARLY_STOPPING_FALSE: _ClassVar[EarlyStopping]
    EARLY_STOPPING_TRUE: _ClassVar[EarlyStopping]
    EARLY_STOPPING_NEVER: _ClassVar[EarlyStopping]
SAMPLING_RULE_UNSPECIFIED: SamplingRule
SAMPLING_RULE_REJECTION: SamplingRule
SAMPLING_RULE_COUPLED: SamplingRule
EARLY_STOPPING_UNSPECIFIED: EarlyStopping
EARLY_STOPPING_FALSE: EarlyStopping
EARLY_STOPPING_TRUE: EarlyStopping
EARLY_STOPPING_NEVER: EarlyStopping

class TokenIds(_message.Message):
    __slots__ = ("ids",)
    IDS_FIELD_NUMBER: _ClassVar[int]
    ids: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, ids: _Optional[_Iterable[int]] = ...) -> None: ...

class Strings(_message.Message):
    __slots__ = ("values",)
    VALUES_FIELD_NUMBER: _ClassVar[int]
    values: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, values: _Optional[_Iterable[str]] = ...) -> None: ...

class ChatMessage(_message.Message):
    __slots__ = ("role", "content", "content_parts", "without_content", "tool_calls", "name", "more")
    ROLE_FIELD_NUMBER: _ClassVar[int]
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    CONTENT_PARTS_FIELD_NUMBER: _ClassVar[int]
    WITHOUT_CONTENT_FIELD_NUMBER: _ClassVar[int]
    TOOL_CALLS_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    MORE_FIELD_NUMBER: _ClassVar[int]
    role: str
    content: str
    content_parts: _containers.RepeatedScalarFieldContainer[str]
    without_content: bool
    tool_calls: _containers.RepeatedScalarFieldContainer[str]
    name: str
    more: str
    def __init__(self, role: _Optional[str] = ..., content: _Optional[str] = ..., content_parts: _Optional[_Iterable[str]] = ..., without_content: bool = ..., tool_calls: _Optional[_Iterable[str]] = ..., name: _Optional[str] = ..., more: _Optional[str] = ...) -> None: ...

class Chat(_message.Message):
    __slots__ = ("messages", "tools", "chat_template_kwargs", "continue_final_message", "sanitize_control_tokens")
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    TOOLS_FIELD_NUMBER: _ClassVar[int]
    CHAT_TEMPLATE_KWARGS_FIELD_NUMBER: _ClassVar[int]
    CONTINUE_FINAL_MESSAGE_FIELD_NUMBER: _ClassVar[int]
    SANITIZE_CONTROL_TOKENS_FIELD_NUMBER: _ClassVar[int]
    messages: _containers.RepeatedCompositeFieldContainer[ChatMessage]
    tools: _containers.RepeatedScalarFieldContainer[str]
    chat_template_kwargs: str
    continue_final_message: bool
    sanitize_control_tokens: bool
    def __init__(self, messages: _Optional[_Iterable[_Union[ChatMessage, _Mapping]]] = ..., tools: _Optional[_Iterable[str]] = ..., chat_template_kwargs: _Optional[str] = ..., continue_final_message: bool = ..., sanitize_control_tokens: bool = ...) -> None: ...

class Prompt(_message.Message):
    __slots__ = ("text", "token_ids", "chat", "generated_ids")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    CHAT_FIELD_NUMBER: _ClassVar[int]
    GENERATED_IDS_FIELD_NUMBER: _ClassVar[int]
    text: str
    token_ids: TokenIds
    chat: Chat
    generated_ids: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, text: _Optional[str] = ..., token_ids: _Optional[_Union[TokenIds, _Mapping]] = ..., chat: _Optional[_Union[Chat, _Mapping]] = ..., generated_ids: _Optional[_Iterable[int]] = ...) -> None: ...

class SequenceBias(_message.Message):
    __slots__ = ("ids", "bias")
    IDS_FIELD_NUMBER: _ClassVar[int]
    BIAS_FIELD_NUMBER: _ClassVar[int]
    ids: _containers.RepeatedScalarFieldContainer[int]
    bias: float
    def __init__(self, ids: _Optional[_Iterable[int]] = ..., bias: _Optional[float] = ...) -> None: ...

class TokenIdsList(_message.Message):
    __slots__ = ("values",)
    VALUES_FIELD_NUMBER: _ClassVar[int]
    values: _containers.RepeatedCompositeFieldContainer[TokenIds]
    def __init__(self, values: _Optional[_Iterable[_Union[TokenIds, _Mapping]]] = ...) -> None: ...

class SequenceBiasList(_message.Message):
    __slots__ = ("values",)
    VALUES_FIELD_NUMBER: _ClassVar[int]
    values: _containers.RepeatedCompositeFieldContainer[SequenceBias]
    def __init__(self, values: _Optional[_Iterable[_Union[SequenceBias, _Mapping]]] = ...) -> None: ...

class TokenBiases(_message.Message):
    __slots__ = ("values",)
    class ValuesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: int
        value: float
        def __init__(self, key: _Optional[int] = ..., value: _Optional[float] = ...) -> None: ...
    VALUES_FIELD_NUMBER: _ClassVar[int]
    values: _containers.ScalarMap[int, float]
    def __init__(self, values: _Optional[_Mapping[int, float]] = ...) -> None: ...

class GenerationConfig(_message.Message):
    __slots__ = ("max_length", "max_new_tokens", "min_length", "min_new_tokens", "max_time", "stop_strings", "do_sample", "num_return_sequences", "temperature", "top_k", "top_p", "min_p", "top_h", "typical_p", "epsilon_cutoff", "eta_cutoff", "repetition_penalty", "no_repeat_ngram_size", "bad_words_ids", "sequence_bias", "suppress_tokens", "begin_suppress_tokens", "forced_bos_token_id", "forced_eos_token_id", "remove_invalid_values", "renormalize_logits", "eos_token_id", "pad_token_id", "bos_token_id", "num_assistant_tokens", "num_assistant_tokens_schedule", "assistant_confidence_threshold", "prompt_lookup_num_tokens", "max_matching_ngram_size", "num_beams", "length_penalty", "early_stopping", "num_beam_groups", "diversity_penalty", "penalty_alpha", "guidance_scale", "exponential_decay_length_penalty", "token_healing", "watermarking_config", "use_cache", "cache_implementation", "cache_config", "output_scores", "output_logits", "response_format", "frequency_penalty", "presence_penalty", "logit_bias")
    MAX_LENGTH_FIELD_NUMBER: _ClassVar[int]
    MAX_NEW_TOKENS_FIELD_NUMBER: _ClassVar[int]
    MIN_LENGTH_FIELD_NUMBER: _ClassVar[int]
    MIN_NEW_TOKENS_FIELD_NUMBER: _ClassVar[int]
    MAX_TIME_FIELD_NUMBER: _ClassVar[int]
    STOP_STRINGS_FIELD_NUMBER: _ClassVar[int]
    DO_SAMPLE_FIELD_NUMBER: _ClassVar[int]
    NUM_RETURN_SEQUENCES_FIELD_NUMBER: _ClassVar[int]
    TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    TOP_K_FIELD_NUMBER: _ClassVar[int]
    TOP_P_FIELD_NUMBER: _ClassVar[int]
    MIN_P_FIELD_NUMBER: _ClassVar[int]
    TOP_H_FIELD_NUMBER: _ClassVar[int]
    TYPICAL_P_FIELD_NUMBER: _ClassVar[int]
    EPSILON_CUTOFF_FIELD_NUMBER: _ClassVar[int]
    ETA_CUTOFF_FIELD_NUMBER: _ClassVar[int]
    REPETITION_PENALTY_FIELD_NUMBER: _ClassVar[int]
    NO_REPEAT_NGRAM_SIZE_FIELD_NUMBER: _ClassVar[int]
    BAD_WORDS_IDS_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_BIAS_FIELD_NUMBER: _ClassVar[int]
    SUPPRESS_TOKENS_FIELD_NUMBER: _ClassVar[int]
    BEGIN_SUPPRESS_TOKENS_FIELD_NUMBER: _ClassVar[int]
    FORCED_BOS_TOKEN_ID_FIELD_NUMBER: _ClassVar[int]
    FORCED_EOS_TOKEN_ID_FIELD_NUMBER: _ClassVar[int]
    REMOVE_INVALID_VALUES_FIELD_NUMBER: _ClassVar[int]
    RENORMALIZE_LOGITS_FIELD_NUMBER: _ClassVar[int]
    EOS_TOKEN_ID_FIELD_NUMBER: _ClassVar[int]
    PAD_TOKEN_ID_FIELD_NUMBER: _ClassVar[int]
    BOS_TOKEN_ID_FIELD_NUMBER: _ClassVar[int]
    NUM_ASSISTANT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    NUM_ASSISTANT_TOKENS_SCHEDULE_FIELD_NUMBER: _ClassVar[int]
    ASSISTANT_CONFIDENCE_THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    PROMPT_LOOKUP_NUM_TOKENS_FIELD_NUMBER: _ClassVar[int]
    MAX_MATCHING_NGRAM_SIZE_FIELD_NUMBER: _ClassVar[int]
    NUM_BEAMS_FIELD_NUMBER: _ClassVar[int]
    LENGTH_PENALTY_FIELD_NUMBER: _ClassVar[int]
    EARLY_STOPPING_FIELD_NUMBER: _ClassVar[int]
    NUM_BEAM_GROUPS_FIELD_NUMBER: _ClassVar[int]
    DIVERSITY_PENALTY_FIELD_NUMBER: _ClassVar[int]
    PENALTY_ALPHA_FIELD_NUMBER: _ClassVar[int]
    GUIDANCE_SCALE_FIELD_NUMBER: _ClassVar[int]
    EXPONENTIAL_DECAY_LENGTH_PENALTY_FIELD_NUMBER: _ClassVar[int]
    TOKEN_HEALING_FIELD_NUMBER: _ClassVar[int]
    WATERMARKING_CONFIG_FIELD_NUMBER: _ClassVar[int]
    USE_CACHE_FIELD_NUMBER: _ClassVar[int]
    CACHE_IMPLEMENTATION_FIELD_NUMBER: _ClassVar[int]
    CACHE_CONFIG_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_SCORES_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_LOGITS_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_FORMAT_FIELD_NUMBER: _ClassVar[int]
    FREQUENCY_PENALTY_FIELD_NUMBER: _ClassVar[int]
    PRESENCE_PENALTY_FIELD_NUMBER: _ClassVar[int]
    LOGIT_BIAS_FIELD_NUMBER: _ClassVar[int]
    max_length: int
    max_new_tokens: int
    min_length: int
    min_new_tokens: int
    max_time: float
    stop_strings: Strings
    do_sample: bool
    num_return_sequences: int
    temperature: float
    top_k: int
    top_p: float
    min_p: float
    top_h: float
    typical_p: float
    epsilon_cutoff: float
    eta_cutoff: float
    repetition_penalty: float
    no_repeat_ngram_size: int
    bad_words_ids: TokenIdsList
    sequence_bias: SequenceBiasList
    suppress_tokens: TokenIds
    begin_suppress_tokens: TokenIds
    forced_bos_token_id: int
    forced_eos_token_id: TokenIds
    remove_invalid_values: bool
    renormalize_logits: bool
    eos_token_id: TokenIds
    pad_token_id: int
    bos_token_id: int
    num_assistant_tokens: int
    num_assistant_tokens_schedule: str
    assistant_confidence_threshold: float
    prompt_lookup_num_tokens: int
    max_matching_ngram_size: int
    num_beams: int
    length_penalty: float
    early_stopping: EarlyStopping
    num_beam_groups: int
    diversity_penalty: float
    penalty_alpha: float
    guidance_scale: float
    exponential_decay_length_penalty: ExponentialDecay
    token_healing: bool
    watermarking_config: WatermarkingConfig
    use_cache: bool
    cache_implementation: str
    cache_config: CacheConfig
    output_scores: bool
    output_logits: bool
    response_format: ResponseFormat
    frequency_penalty: float
    presence_penalty: float
    logit_bias: TokenBiases
    def __init__(self, max_length: _Optional[int] = ..., max_new_tokens: _Optional[int] = ..., min_length: _Optional[int] = ..., min_new_tokens: _Optional[int] = ..., max_time: _Optional[float] = ..., stop_strings: _Optional[_Union[Strings, _Mapping]] = ..., do_sample: bool = ..., num_return_sequences: _Optional[int] = ..., temperature: _Optional[float] = ..., top_k: _Optional[int] = ..., top_p: _Optional[float] = ..., min_p: _Optional[float] = ..., top_h: _Optional[float] = ..., typical_p: _Optional[float] = ..., epsilon_cutoff: _Optional[float] = ..., eta_cutoff: _Optional[float] = ..., repetition_penalty: _Optional[float] = ..., no_repeat_ngram_size: _Optional[int] = ..., bad_words_ids: _Optional[_Union[TokenIdsList, _Mapping]] = ..., sequence_bias: _Optional[_Union[SequenceBiasList, _Mapping]] = ..., suppress_tokens: _Optional[_Union[TokenIds, _Mapping]] = ..., begin_suppress_tokens: _Optional[_Union[TokenIds, _Mapping]] = ..., forced_bos_token_id: _Optional[int] = ..., forced_eos_token_id: _Optional[_Union[TokenIds, _Mapping]] = ..., remove_invalid_values: bool = ..., renormalize_logits: bool = ..., eos_token_id: _Optional[_Union[TokenIds, _Mapping]] = ..., pad_token_id: _Optional[int] = ..., bos_token_id: _Optional[int] = ..., num_assistant_tokens: _Optional[int] = ..., num_assistant_tokens_schedule: _Optional[str] = ..., assistant_confidence_threshold: _Optional[float] = ..., prompt_lookup_num_tokens: _Optional[int] = ..., max_matching_ngram_size: _Optional[int] = ..., num_beams: _Optional[int] = ..., length_penalty: _Optional[float] = ..., early_stopping: _Optional[_Union[EarlyStopping, str]] = ..., num_beam_groups: _Optional[int] = ..., diversity_penalty: _Optional[float] = ..., penalty_alpha: _Optional[float] = ..., guidance_scale: _Optional[float] = ..., exponential_decay_length_penalty: _Optional[_Union[ExponentialDecay, _Mapping]] = ..., token_healing: bool = ..., watermarking_config: _Optional[_Union[WatermarkingConfig, _Mapping]] = ..., use_cache: bool = ..., cache_implementation: _Optional[str] = ..., cache_config: _Optional[_Union[CacheConfig, _Mapping]] = ..., output_scores: bool = ..., output_logits: bool = ..., response_format: _Optional[_Union[ResponseFormat, _Mapping]] = ..., frequency_penalty: _Optional[float] = ..., presence_penalty: _Optional[float] = ..., logit_bias: _Optional[_Union[TokenBiases, _Mapping]] = ...) -> None: ...

class ExponentialDecay(_message.Message):
    __slots__ = ("start", "factor")
    START_FIELD_NUMBER: _ClassVar[int]
    FACTOR_FIELD_NUMBER: _ClassVar[int]
    start: int
    factor: float
    def __init__(self, start: _Optional[int] = ..., factor: _Optional[float] = ...) -> None: ...

class ResponseFormat(_message.Message):
    __slots__ = ("json_schema", "json_object", "regex", "grammar", "choice", "structural_tag")
    JSON_SCHEMA_FIELD_NUMBER: _ClassVar[int]
    JSON_OBJECT_FIELD_NUMBER: _ClassVar[int]
    REGEX_FIELD_NUMBER: _ClassVar[int]
    GRAMMAR_FIELD_NUMBER: _ClassVar[int]
    CHOICE_FIELD_NUMBER: _ClassVar[int]
    STRUCTURAL_TAG_FIELD_NUMBER: _ClassVar[int]
    json_schema: str
    json_object: JsonObject
    regex: str
    grammar: str
    choice: Strings
    structural_tag: StructuralTag
    def __init__(self, json_schema: _Optional[str] = ..., json_object: _Optional[_Union[JsonObject, _Mapping]] = ..., regex: _Optional[str] = ..., grammar: _Optional[str] = ..., choice: _Optional[_Union[Strings, _Mapping]] = ..., structural_tag: _Optional[_Union[StructuralTag, _Mapping]] = ...) -> None: ...

class JsonObject(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class StructuralTag(_message.Message):
    __slots__ = ("structures", "triggers", "format")
    STRUCTURES_FIELD_NUMBER: _ClassVar[int]
    TRIGGERS_FIELD_NUMBER: _ClassVar[int]
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    structures: _containers.RepeatedCompositeFieldContainer[TaggedStructure]
    triggers: _containers.RepeatedScalarFieldContainer[str]
    format: str
    def __init__(self, structures: _Optional[_Iterable[_Union[TaggedStructure, _Mapping]]] = ..., triggers: _Optional[_Iterable[str]] = ..., format: _Optional[str] = ...) -> None: ...

class TaggedStructure(_message.Message):
    __slots__ = ("begin", "schema", "end")
    BEGIN_FIELD_NUMBER: _ClassVar[int]
    SCHEMA_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    begin: str
    schema: str
    end: str
    def __init__(self, begin: _Optional[str] = ..., schema: _Optional[str] = ..., end: _Optional[str] = ...) -> None: ...

class WatermarkingConfig(_message.Message):
    __slots__ = ("greenlist", "synth_id")
    GREENLIST_FIELD_NUMBER: _ClassVar[int]
    SYNTH_ID_FIELD_NUMBER: _ClassVar[int]
    greenlist: Greenlist
    synth_id: SynthId
    def __init__(self, greenlist: _Optional[_Union[Greenlist, _Mapping]] = ..., synth_id: _Optional[_Union[SynthId, _Mapping]] = ...) -> None: ...

class Greenlist(_message.Message):
    __slots__ = ("greenlist_ratio", "bias", "hashing_key", "seeding_scheme", "context_width", "vocabulary_size")
    GREENLIST_RATIO_FIELD_NUMBER: _ClassVar[int]
    BIAS_FIELD_NUMBER: _ClassVar[int]
    HASHING_KEY_FIELD_NUMBER: _ClassVar[int]
    SEEDING_SCHEME_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_WIDTH_FIELD_NUMBER: _ClassVar[int]
    VOCABULARY_SIZE_FIELD_NUMBER: _ClassVar[int]
    greenlist_ratio: float
    bias: float
    hashing_key: int
    seeding_scheme: str
    context_width: int
    vocabulary_size: int
    def __init__(self, greenlist_ratio: _Optional[float] = ..., bias: _Optional[float] = ..., hashing_key: _Optional[int] = ..., seeding_scheme: _Optional[str] = ..., context_width: _Optional[int] = ..., vocabulary_size: _Optional[int] = ...) -> None: ...

class SynthId(_message.Message):
    __slots__ = ("ngram_len", "keys", "context_history_size", "sampling_table_seed", "sampling_table_size", "skip_first_ngram_calls", "debug_mode")
    NGRAM_LEN_FIELD_NUMBER: _ClassVar[int]
    KEYS_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_HISTORY_SIZE_FIELD_NUMBER: _ClassVar[int]
    SAMPLING_TABLE_SEED_FIELD_NUMBER: _ClassVar[int]
    SAMPLING_TABLE_SIZE_FIELD_NUMBER: _ClassVar[int]
    SKIP_FIRST_NGRAM_CALLS_FIELD_NUMBER: _ClassVar[int]
    DEBUG_MODE_FIELD_NUMBER: _ClassVar[int]
    ngram_len: int
    keys: _containers.RepeatedScalarFieldContainer[int]
    context_history_size: int
    sampling_table_seed: int
    sampling_table_size: int
    skip_first_ngram_calls: bool
    debug_mode: bool
    def __init__(self, ngram_len: _Optional[int] = ..., keys: _Optional[_Iterable[int]] = ..., context_history_size: _Optional[int] = ..., sampling_table_seed: _Optional[int] = ..., sampling_table_size: _Optional[int] = ..., skip_first_ngram_calls: bool = ..., debug_mode: bool = ...) -> None: ...

class CacheConfig(_message.Message):
    __slots__ = ("backend", "nbits", "axis_key", "axis_value", "q_group_size", "residual_length")
    BACKEND_FIELD_NUMBER: _ClassVar[int]
    NBITS_FIELD_NUMBER: _ClassVar[int]
    AXIS_KEY_FIELD_NUMBER: _ClassVar[int]
    AXIS_VALUE_FIELD_NUMBER: _ClassVar[int]
    Q_GROUP_SIZE_FIELD_NUMBER: _ClassVar[int]
    RESIDUAL_LENGTH_FIELD_NUMBER: _ClassVar[int]
    backend: str
    nbits: int
    axis_key: int
    axis_value: int
    q_group_size: int
    residual_length: int
    def __init__(self, backend: _Optional[str] = ..., nbits: _Optional[int] = ..., axis_key: _Optional[int] = ..., axis_value: _Optional[int] = ..., q_group_size: _Optional[int] = ..., residual_length: _Optional[int] = ...) -> None: ...
