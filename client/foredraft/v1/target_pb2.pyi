from foredraft.v1 import generation_pb2 as _generation_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class TokenOrigin(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TOKEN_ORIGIN_UNSPECIFIED: _ClassVar[TokenOrigin]
    TOKEN_ORIGIN_TARGET: _ClassVar[TokenOrigin]
    TOKEN_ORIGIN_DRAFT_MODEL: _ClassVar[TokenOrigin]
    TOKEN_ORIGIN_NGRAM: _ClassVar[TokenOrigin]
    TOKEN_ORIGIN_ALTERNATIVE: _ClassVar[TokenOrigin]
    TOKEN_ORIGIN_GRAMMAR: _ClassVar[TokenOrigin]

class FinishReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FINISH_REASON_UNSPECIFIED: _ClassVar[FinishReason]
    FINISH_REASON_LENGTH: _ClassVar[FinishReason]
    FINISH_REASON_EOS_TOKEN: _ClassVar[FinishReason]
    FINISH_REASON_STOP_STRING: _ClassVar[FinishReason]
    FINISH_REASON_MAX_TIME: _ClassVar[FinishReason]
TOKEN_ORIGIN_UNSPECIFIED: TokenOrigin
TOKEN_ORIGIN_TARGET: TokenOrigin
TOKEN_ORIGIN_DRAFT_MODEL: TokenOrigin
TOKEN_ORIGIN_NGRAM: TokenOrigin
TOKEN_ORIGIN_ALTERNATIVE: TokenOrigin
TOKEN_ORIGIN_GRAMMAR: TokenOrigin
FINISH_REASON_UNSPECIFIED: FinishReason
FINISH_REASON_LENGTH: FinishReason
FINISH_REASON_EOS_TOKEN: FinishReason
FINISH_REASON_STOP_STRING: FinishReason
FINISH_REASON_MAX_TIME: FinishReason

class GenerateRequest(_message.Message):
    __slots__ = ("request_id", "prompts", "config", "seed", "sampling_rule", "logprobs", "return_prompt_ids", "config_name", "negative_prompts", "sequence_indices", "return_rounds", "prompt_logprobs")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    PROMPTS_FIELD_NUMBER: _ClassVar[int]
    CONFIG_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    SAMPLING_RULE_FIELD_NUMBER: _ClassVar[int]
    LOGPROBS_FIELD_NUMBER: _ClassVar[int]
    RETURN_PROMPT_IDS_FIELD_NUMBER: _ClassVar[int]
    CONFIG_NAME_FIELD_NUMBER: _ClassVar[int]
    NEGATIVE_PROMPTS_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_INDICES_FIELD_NUMBER: _ClassVar[int]
    RETURN_ROUNDS_FIELD_NUMBER: _ClassVar[int]
    PROMPT_LOGPROBS_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    prompts: _containers.RepeatedCompositeFieldContainer[_generation_pb2.Prompt]
    config: _generation_pb2.GenerationConfig
    seed: int
    sampling_rule: _generation_pb2.SamplingRule
    logprobs: int
    return_prompt_ids: bool
    config_name: str
    negative_prompts: _containers.RepeatedCompositeFieldContainer[_generation_pb2.Prompt]
    sequence_indices: _containers.RepeatedScalarFieldContainer[int]
    return_rounds: bool
    prompt_logprobs: int
    def __init__(self, request_id: _Optional[str] = ..., prompts: _Optional[_Iterable[_Union[_generation_pb2.Prompt, _Mapping]]] = ..., config: _Optional[_Union[_generation_pb2.GenerationConfig, _Mapping]] = ..., seed: _Optional[int] = ..., sampling_rule: _Optional[_Union[_generation_pb2.SamplingRule, str]] = ..., logprobs: _Optional[int] = ..., return_prompt_ids: bool = ..., config_name: _Optional[str] = ..., negative_prompts: _Optional[_Iterable[_Union[_generation_pb2.Prompt, _Mapping]]] = ..., sequence_indices: _Optional[_Iterable[int]] = ..., return_rounds: bool = ..., prompt_logprobs: _Optional[int] = ...) -> None: ...

class GenerateResponse(_message.Message):
    __slots__ = ("started", "chunk", "finished")
    STARTED_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    FINISHED_FIELD_NUMBER: _ClassVar[int]
    started: Started
    chunk: Chunk
    finished: Finished
    def __init__(self, started: _Optional[_Union[Started, _Mapping]] = ..., chunk: _Optional[_Union[Chunk, _Mapping]] = ..., finished: _Optional[_Union[Finished, _Mapping]] = ...) -> None: ...

class Started(_message.Message):
    __slots__ = ("request_id", "seed", "sampling_rule", "prompt_ids", "num_sequences")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    SAMPLING_RULE_FIELD_NUMBER: _ClassVar[int]
    PROMPT_IDS_FIELD_NUMBER: _ClassVar[int]
    NUM_SEQUENCES_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    seed: int
    sampling_rule: _generation_pb2.SamplingRule
    prompt_ids: _containers.RepeatedCompositeFieldContainer[_generation_pb2.TokenIds]
    num_sequences: int
    def __init__(self, request_id: _Optional[str] = ..., seed: _Optional[int] = ..., sampling_rule: _Optional[_Union[_generation_pb2.SamplingRule, str]] = ..., prompt_ids: _Optional[_Iterable[_Union[_generation_pb2.TokenIds, _Mapping]]] = ..., num_sequences: _Optional[int] = ...) -> None: ...

class Chunk(_message.Message):
    __slots__ = ("sequence_index", "token_ids", "text", "num_accepted", "logprobs", "finish_reason", "text_offsets", "scores", "logits", "num_proposed", "origins", "round", "prompt_logprobs")
    SEQUENCE_INDEX_FIELD_NUMBER: _ClassVar[int]
    TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    NUM_ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    LOGPROBS_FIELD_NUMBER: _ClassVar[int]
    FINISH_REASON_FIELD_NUMBER: _ClassVar[int]
    TEXT_OFFSETS_FIELD_NUMBER: _ClassVar[int]
    SCORES_FIELD_NUMBER: _ClassVar[int]
    LOGITS_FIELD_NUMBER: _ClassVar[int]
    NUM_PROPOSED_FIELD_NUMBER: _ClassVar[int]
    ORIGINS_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    PROMPT_LOGPROBS_FIELD_NUMBER: _ClassVar[int]
    sequence_index: int
    token_ids: _containers.RepeatedScalarFieldContainer[int]
    text: str
    num_accepted: int
    logprobs: _containers.RepeatedCompositeFieldContainer[TokenLogprobs]
    finish_reason: FinishReason
    text_offsets: _containers.RepeatedScalarFieldContainer[int]
    scores: _containers.RepeatedCompositeFieldContainer[ScoreRow]
    logits: _containers.RepeatedCompositeFieldContainer[ScoreRow]
    num_proposed: int
    origins: _containers.RepeatedScalarFieldContainer[TokenOrigin]
    round: Round
    prompt_logprobs: _containers.RepeatedCompositeFieldContainer[TokenLogprobs]
    def __init__(self, sequence_index: _Optional[int] = ..., token_ids: _Optional[_Iterable[int]] = ..., text: _Optional[str] = ..., num_accepted: _Optional[int] = ..., logprobs: _Optional[_Iterable[_Union[TokenLogprobs, _Mapping]]] = ..., finish_reason: _Optional[_Union[FinishReason, str]] = ..., text_offsets: _Optional[_Iterable[int]] = ..., scores: _Optional[_Iterable[_Union[ScoreRow, _Mapping]]] = ..., logits: _Optional[_Iterable[_Union[ScoreRow, _Mapping]]] = ..., num_proposed: _Optional[int] = ..., origins: _Optional[_Iterable[_Union[TokenOrigin, str]]] = ..., round: _Optional[_Union[Round, _Mapping]] = ..., prompt_logprobs: _Optional[_Iterable[_Union[TokenLogprobs, _Mapping]]] = ...) -> None: ...

class Round(_message.Message):
    __slots__ = ("proposed_ids", "proposed_by", "alternative_ids", "alternative_positions", "began_s", "waited_s", "ended_s", "drafting_began_s", "drafting_ended_s", "drafted_ahead", "fallback")
    PROPOSED_IDS_FIELD_NUMBER: _ClassVar[int]
    PROPOSED_BY_FIELD_NUMBER: _ClassVar[int]
    ALTERNATIVE_IDS_FIELD_NUMBER: _ClassVar[int]
    ALTERNATIVE_POSITIONS_FIELD_NUMBER: _ClassVar[int]
    BEGAN_S_FIELD_NUMBER: _ClassVar[int]
    WAITED_S_FIELD_NUMBER: _ClassVar[int]
    ENDED_S_FIELD_NUMBER: _ClassVar[int]
    DRAFTING_BEGAN_S_FIELD_NUMBER: _ClassVar[int]
    DRAFTING_ENDED_S_FIELD_NUMBER: _ClassVar[int]
    DRAFTED_AHEAD_FIELD_NUMBER: _ClassVar[int]
    FALLBACK_FIELD_NUMBER: _ClassVar[int]
    proposed_ids: _containers.RepeatedScalarFieldContainer[int]
    proposed_by: TokenOrigin
    alternative_ids: _containers.RepeatedScalarFieldContainer[int]
    alternative_positions: _containers.RepeatedScalarFieldContainer[int]
    began_s: float
    waited_s: float
    ended_s: float
    drafting_began_s: float
    drafting_ended_s: float
    drafted_ahead: bool
    fallback: str
    def __init__(self, proposed_ids: _Optional[_Iterable[int]] = ..., proposed_by: _Optional[_Union[TokenOrigin, str]] = ..., alternative_ids: _Optional[_Iterable[int]] = ..., alternative_positions: _Optional[_Iterable[int]] = ..., began_s: _Optional[float] = ..., waited_s: _Optional[float] = ..., ended_s: _Optional[float] = ..., drafting_began_s: _Optional[float] = ..., drafting_ended_s: _Optional[float] = ..., drafted_ahead: bool = ..., fallback: _Optional[str] = ...) -> None: ...

class ScoreRow(_message.Message):
    __slots__ = ("ids", "values")
    IDS_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    ids: bytes
    values: bytes
    def __init__(self, ids: _Optional[bytes] = ..., values: _Optional[bytes] = ...) -> None: ...

class TokenLogprobs(_message.Message):
    __slots__ = ("logprob", "top_ids", "top_logprobs")
    LOGPROB_FIELD_NUMBER: _ClassVar[int]
    TOP_IDS_FIELD_NUMBER: _ClassVar[int]
    TOP_LOGPROBS_FIELD_NUMBER: _ClassVar[int]
    logprob: float
    top_ids: _containers.RepeatedScalarFieldContainer[int]
    top_logprobs: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, logprob: _Optional[float] = ..., top_ids: _Optional[_Iterable[int]] = ..., top_logprobs: _Optional[_Iterable[float]] = ...) -> None: ...

class Finished(_message.Message):
    __slots__ = ("sequences",)
    SEQUENCES_FIELD_NUMBER: _ClassVar[int]
    sequences: _containers.RepeatedCompositeFieldContainer[SequenceSummary]
    def __init__(self, sequences: _Optional[_Iterable[_Union[SequenceSummary, _Mapping]]] = ...) -> None: ...

class SequenceSummary(_message.Message):
    __slots__ = ("sequence_index", "finish_reason", "prompt_tokens", "generated_tokens", "stats", "score", "cached_tokens", "stop_string")
    SEQUENCE_INDEX_FIELD_NUMBER: _ClassVar[int]
    FINISH_REASON_FIELD_NUMBER: _ClassVar[int]
    PROMPT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    GENERATED_TOKENS_FIELD_NUMBER: _ClassVar[int]
    STATS_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    CACHED_TOKENS_FIELD_NUMBER: _ClassVar[int]
    STOP_STRING_FIELD_NUMBER: _ClassVar[int]
    sequence_index: int
    finish_reason: FinishReason
    prompt_tokens: int
    generated_tokens: int
    stats: SpeculationStats
    score: float
    cached_tokens: int
    stop_string: str
    def __init__(self, sequence_index: _Optional[int] = ..., finish_reason: _Optional[_Union[FinishReason, str]] = ..., prompt_tokens: _Optional[int] = ..., generated_tokens: _Optional[int] = ..., stats: _Optional[_Union[SpeculationStats, _Mapping]] = ..., score: _Optional[float] = ..., cached_tokens: _Optional[int] = ..., stop_string: _Optional[str] = ...) -> None: ...

class SpeculationStats(_message.Message):
    __slots__ = ("rounds", "proposed", "accepted", "acceptance_histogram", "drafter", "fallbacks", "draft_unused_reason", "seed_repeats_with_any_drafter", "pushed", "waited_for", "waited_s", "hidden_s")
    class FallbacksEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    ROUNDS_FIELD_NUMBER: _ClassVar[int]
    PROPOSED_FIELD_NUMBER: _ClassVar[int]
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    ACCEPTANCE_HISTOGRAM_FIELD_NUMBER: _ClassVar[int]
    DRAFTER_FIELD_NUMBER: _ClassVar[int]
    FALLBACKS_FIELD_NUMBER: _ClassVar[int]
    DRAFT_UNUSED_REASON_FIELD_NUMBER: _ClassVar[int]
    SEED_REPEATS_WITH_ANY_DRAFTER_FIELD_NUMBER: _ClassVar[int]
    PUSHED_FIELD_NUMBER: _ClassVar[int]
    WAITED_FOR_FIELD_NUMBER: _ClassVar[int]
    WAITED_S_FIELD_NUMBER: _ClassVar[int]
    HIDDEN_S_FIELD_NUMBER: _ClassVar[int]
    rounds: int
    proposed: int
    accepted: int
    acceptance_histogram: _containers.RepeatedScalarFieldContainer[int]
    drafter: str
    fallbacks: _containers.ScalarMap[str, int]
    draft_unused_reason: str
    seed_repeats_with_any_drafter: bool
    pushed: int
    waited_for: int
    waited_s: float
    hidden_s: float
    def __init__(self, rounds: _Optional[int] = ..., proposed: _Optional[int] = ..., accepted: _Optional[int] = ..., acceptance_histogram: _Optional[_Iterable[int]] = ..., drafter: _Optional[str] = ..., fallbacks: _Optional[_Mapping[str, int]] = ..., draft_unused_reason: _Optional[str] = ..., seed_repeats_with_any_drafter: bool = ..., pushed: _Optional[int] = ..., waited_for: _Optional[int] = ..., waited_s: _Optional[float] = ..., hidden_s: _Optional[float] = ...) -> None: ...

class TokenizeRequest(_message.Message):
    __slots__ = ("prompt", "prompts")
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    PROMPTS_FIELD_NUMBER: _ClassVar[int]
    prompt: _generation_pb2.Prompt
    prompts: _containers.RepeatedCompositeFieldContainer[_generation_pb2.Prompt]
    def __init__(self, prompt: _Optional[_Union[_generation_pb2.Prompt, _Mapping]] = ..., prompts: _Optional[_Iterable[_Union[_generation_pb2.Prompt, _Mapping]]] = ...) -> None: ...

class TokenizeResponse(_message.Message):
    __slots__ = ("token_ids", "batch")
    TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    token_ids: _generation_pb2.TokenIds
    batch: _containers.RepeatedCompositeFieldContainer[_generation_pb2.TokenIds]
    def __init__(self, token_ids: _Optional[_Union[_generation_pb2.TokenIds, _Mapping]] = ..., batch: _Optional[_Iterable[_Union[_generation_pb2.TokenIds, _Mapping]]] = ...) -> None: ...

class DetokenizeRequest(_message.Message):
    __slots__ = ("token_ids", "skip_special_tokens")
    TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    SKIP_SPECIAL_TOKENS_FIELD_NUMBER: _ClassVar[int]
    token_ids: _containers.RepeatedCompositeFieldContainer[_generation_pb2.TokenIds]
    skip_special_tokens: bool
    def __init__(self, token_ids: _Optional[_Iterable[_Union[_generation_pb2.TokenIds, _Mapping]]] = ..., skip_special_tokens: bool = ...) -> None: ...

class DetokenizeResponse(_message.Message):
    __slots__ = ("texts",)
    TEXTS_FIELD_NUMBER: _ClassVar[int]
    texts: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, texts: _Optional[_Iterable[str]] = ...) -> None: ...

class GetModelInfoRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetModelInfoResponse(_message.Message):
    __slots__ = ("model", "max_length", "vocabulary_size", "rows", "row_layout", "dtype", "device", "drafts", "generation_config")
    class DraftsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    MODEL_FIELD_NUMBER: _ClassVar[int]
    MAX_LENGTH_FIELD_NUMBER: _ClassVar[int]
    VOCABULARY_SIZE_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    ROW_LAYOUT_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    DRAFTS_FIELD_NUMBER: _ClassVar[int]
    GENERATION_CONFIG_FIELD_NUMBER: _ClassVar[int]
    model: str
    max_length: int
    vocabulary_size: int
    rows: int
    row_layout: str
    dtype: str
    device: str
    drafts: _containers.ScalarMap[str, str]
    generation_config: _generation_pb2.GenerationConfig
    def __init__(self, model: _Optional[str] = ..., max_length: _Optional[int] = ..., vocabulary_size: _Optional[int] = ..., rows: _Optional[int] = ..., row_layout: _Optional[str] = ..., dtype: _Optional[str] = ..., device: _Optional[str] = ..., drafts: _Optional[_Mapping[str, str]] = ..., generation_config: _Optional[_Union[_generation_pb2.GenerationConfig, _Mapping]] = ...) -> None: ...

class ListGenerationConfigsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListGenerationConfigsResponse(_message.Message):
    __slots__ = ("names",)
    NAMES_FIELD_NUMBER: _ClassVar[int]
    names: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, names: _Optional[_Iterable[str]] = ...) -> None: ...

class GetGenerationConfigRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class GetGenerationConfigResponse(_message.Message):
    __slots__ = ("config",)
    CONFIG_FIELD_NUMBER: _ClassVar[int]
    config: _generation_pb2.GenerationConfig
    def __init__(self, config: _Optional[_Union[_generation_pb2.GenerationConfig, _Mapping]] = ...) -> None: ...

class SaveGenerationConfigRequest(_message.Message):
    __slots__ = ("name", "config")
    NAME_FIELD_NUMBER: _ClassVar[int]
    CONFIG_FIELD_NUMBER: _ClassVar[int]
    name: str
    config: _generation_pb2.GenerationConfig
    def __init__(self, name: _Optional[str] = ..., config: _Optional[_Union[_generation_pb2.GenerationConfig, _Mapping]] = ...) -> None: ...

class SaveGenerationConfigResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class DetectWatermarkRequest(_message.Message):
    __slots__ = ("texts", "watermarking_config", "z_threshold", "ignore_repeated_ngrams")
    TEXTS_FIELD_NUMBER: _ClassVar[int]
    WATERMARKING_CONFIG_FIELD_NUMBER: _ClassVar[int]
    Z_THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    IGNORE_REPEATED_NGRAMS_FIELD_NUMBER: _ClassVar[int]
    texts: _containers.RepeatedCompositeFieldContainer[_generation_pb2.Prompt]
    watermarking_config: _generation_pb2.WatermarkingConfig
    z_threshold: float
    ignore_repeated_ngrams: bool
    def __init__(self, texts: _Optional[_Iterable[_Union[_generation_pb2.Prompt, _Mapping]]] = ..., watermarking_config: _Optional[_Union[_generation_pb2.WatermarkingConfig, _Mapping]] = ..., z_threshold: _Optional[float] = ..., ignore_repeated_ngrams: bool = ...) -> None: ...

class DetectWatermarkResponse(_message.Message):
    __slots__ = ("detections",)
    DETECTIONS_FIELD_NUMBER: _ClassVar[int]
    detections: _containers.RepeatedCompositeFieldContainer[WatermarkDetection]
    def __init__(self, detections: _Optional[_Iterable[_Union[WatermarkDetection, _Mapping]]] = ...) -> None: ...

class WatermarkDetection(_message.Message):
    __slots__ = ("num_tokens_scored", "num_green_tokens", "green_fraction", "z_score", "p_value", "prediction", "confidence", "mean_score", "weighted_mean_score")
    NUM_TOKENS_SCORED_FIELD_NUMBER: _ClassVar[int]
    NUM_GREEN_TOKENS_FIELD_NUMBER: _ClassVar[int]
    GREEN_FRACTION_FIELD_NUMBER: _ClassVar[int]
    Z_SCORE_FIELD_NUMBER: _ClassVar[int]
    P_VALUE_FIELD_NUMBER: _ClassVar[int]
    PREDICTION_FIELD_NUMBER: _ClassVar[int]
    CONFIDENCE_FIELD_NUMBER: _ClassVar[int]
    MEAN_SCORE_FIELD_NUMBER: _ClassVar[int]
    WEIGHTED_MEAN_SCORE_FIELD_NUMBER: _ClassVar[int]
    num_tokens_scored: int
    num_green_tokens: int
    green_fraction: float
    z_score: float
    p_value: float
    prediction: bool
    confidence: float
    mean_score: float
    weighted_mean_score: float
    def __init__(self, num_tokens_scored: _Optional[int] = ..., num_green_tokens: _Optional[int] = ..., green_fraction: _Optional[float] = ..., z_score: _Optional[float] = ..., p_value: _Optional[float] = ..., prediction: bool = ..., confidence: _Optional[float] = ..., mean_score: _Optional[float] = ..., weighted_mean_score: _Optional[float] = ...) -> None: ...
