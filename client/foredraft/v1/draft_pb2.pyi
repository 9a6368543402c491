from foredraft.v1 import generation_pb2 as _generation_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class DrafterKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DRAFTER_KIND_UNSPECIFIED: _ClassVar[DrafterKind]
    DRAFTER_KIND_MODEL: _ClassVar[DrafterKind]
    DRAFTER_KIND_NGRAM: _ClassVar[DrafterKind]
    DRAFTER_KIND_MODEL_AND_NGRAM: _ClassVar[DrafterKind]
DRAFTER_KIND_UNSPECIFIED: DrafterKind
DRAFTER_KIND_MODEL: DrafterKind
DRAFTER_KIND_NGRAM: DrafterKind
DRAFTER_KIND_MODEL_AND_NGRAM: DrafterKind

class DraftRequest(_message.Message):
    __slots__ = ("open", "commit")
    OPEN_FIELD_NUMBER: _ClassVar[int]
    COMMIT_FIELD_NUMBER: _ClassVar[int]
    open: Open
    commit: Commit
    def __init__(self, open: _Optional[_Union[Open, _Mapping]] = ..., commit: _Optional[_Union[Commit, _Mapping]] = ...) -> None: ...

class Open(_message.Message):
    __slots__ = ("epoch", "prompt_ids", "generated_ids", "sampling", "rule", "seed", "sequence_index", "max_length", "k", "budget_s", "cache_scope", "outcomes", "verification_s", "alternatives", "owner")
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    PROMPT_IDS_FIELD_NUMBER: _ClassVar[int]
    GENERATED_IDS_FIELD_NUMBER: _ClassVar[int]
    SAMPLING_FIELD_NUMBER: _ClassVar[int]
    RULE_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_INDEX_FIELD_NUMBER: _ClassVar[int]
    MAX_LENGTH_FIELD_NUMBER: _ClassVar[int]
    K_FIELD_NUMBER: _ClassVar[int]
    BUDGET_S_FIELD_NUMBER: _ClassVar[int]
    CACHE_SCOPE_FIELD_NUMBER: _ClassVar[int]
    OUTCOMES_FIELD_NUMBER: _ClassVar[int]
    VERIFICATION_S_FIELD_NUMBER: _ClassVar[int]
    ALTERNATIVES_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    epoch: int
    prompt_ids: _containers.RepeatedScalarFieldContainer[int]
    generated_ids: _containers.RepeatedScalarFieldContainer[int]
    sampling: _generation_pb2.GenerationConfig
    rule: _generation_pb2.SamplingRule
    seed: int
    sequence_index: int
    max_length: int
    k: int
    budget_s: float
    cache_scope: bytes
    outcomes: int
    verification_s: float
    alternatives: int
    owner: bytes
    def __init__(self, epoch: _Optional[int] = ..., prompt_ids: _Optional[_Iterable[int]] = ..., generated_ids: _Optional[_Iterable[int]] = ..., sampling: _Optional[_Union[_generation_pb2.GenerationConfig, _Mapping]] = ..., rule: _Optional[_Union[_generation_pb2.SamplingRule, str]] = ..., seed: _Optional[int] = ..., sequence_index: _Optional[int] = ..., max_length: _Optional[int] = ..., k: _Optional[int] = ..., budget_s: _Optional[float] = ..., cache_scope: _Optional[bytes] = ..., outcomes: _Optional[int] = ..., verification_s: _Optional[float] = ..., alternatives: _Optional[int] = ..., owner: _Optional[bytes] = ...) -> None: ...

class Commit(_message.Message):
    __slots__ = ("base_len", "accepted_ids", "next_id", "block_id", "explicit_ids", "k", "budget_s", "outcomes", "verification_s", "alternatives")
    BASE_LEN_FIELD_NUMBER: _ClassVar[int]
    ACCEPTED_IDS_FIELD_NUMBER: _ClassVar[int]
    NEXT_ID_FIELD_NUMBER: _ClassVar[int]
    BLOCK_ID_FIELD_NUMBER: _ClassVar[int]
    EXPLICIT_IDS_FIELD_NUMBER: _ClassVar[int]
    K_FIELD_NUMBER: _ClassVar[int]
    BUDGET_S_FIELD_NUMBER: _ClassVar[int]
    OUTCOMES_FIELD_NUMBER: _ClassVar[int]
    VERIFICATION_S_FIELD_NUMBER: _ClassVar[int]
    ALTERNATIVES_FIELD_NUMBER: _ClassVar[int]
    base_len: int
    accepted_ids: _containers.RepeatedScalarFieldContainer[int]
    next_id: int
    block_id: int
    explicit_ids: _generation_pb2.TokenIds
    k: int
    budget_s: float
    outcomes: int
    verification_s: float
    alternatives: int
    def __init__(self, base_len: _Optional[int] = ..., accepted_ids: _Optional[_Iterable[int]] = ..., next_id: _Optional[int] = ..., block_id: _Optional[int] = ..., explicit_ids: _Optional[_Union[_generation_pb2.TokenIds, _Mapping]] = ..., k: _Optional[int] = ..., budget_s: _Optional[float] = ..., outcomes: _Optional[int] = ..., verification_s: _Optional[float] = ..., alternatives: _Optional[int] = ...) -> None: ...

class DraftResponse(_message.Message):
    __slots__ = ("opened", "block")
    OPENED_FIELD_NUMBER: _ClassVar[int]
    BLOCK_FIELD_NUMBER: _ClassVar[int]
    opened: Opened
    block: Block
    def __init__(self, opened: _Optional[_Union[Opened, _Mapping]] = ..., block: _Optional[_Union[Block, _Mapping]] = ...) -> None: ...

class Opened(_message.Message):
    __slots__ = ("epoch", "kind", "vocabulary", "unheld_reason")
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    VOCABULARY_FIELD_NUMBER: _ClassVar[int]
    UNHELD_REASON_FIELD_NUMBER: _ClassVar[int]
    epoch: int
    kind: DrafterKind
    vocabulary: Vocabulary
    unheld_reason: str
    def __init__(self, epoch: _Optional[int] = ..., kind: _Optional[_Union[DrafterKind, str]] = ..., vocabulary: _Optional[_Union[Vocabulary, _Mapping]] = ..., unheld_reason: _Optional[str] = ...) -> None: ...

class Vocabulary(_message.Message):
    __slots__ = ("fingerprint", "size")
    FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    fingerprint: bytes
    size: int
    def __init__(self, fingerprint: _Optional[bytes] = ..., size: _Optional[int] = ...) -> None: ...

class Block(_message.Message):
    __slots__ = ("epoch", "block_id", "base_len", "outcomes", "draft_s")
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    BLOCK_ID_FIELD_NUMBER: _ClassVar[int]
    BASE_LEN_FIELD_NUMBER: _ClassVar[int]
    OUTCOMES_FIELD_NUMBER: _ClassVar[int]
    DRAFT_S_FIELD_NUMBER: _ClassVar[int]
    epoch: int
    block_id: int
    base_len: int
    outcomes: _containers.RepeatedCompositeFieldContainer[Outcome]
    draft_s: float
    def __init__(self, epoch: _Optional[int] = ..., block_id: _Optional[int] = ..., base_len: _Optional[int] = ..., outcomes: _Optional[_Iterable[_Union[Outcome, _Mapping]]] = ..., draft_s: _Optional[float] = ...) -> None: ...

class Outcome(_message.Message):
    __slots__ = ("path", "proposal")
    PATH_FIELD_NUMBER: _ClassVar[int]
    PROPOSAL_FIELD_NUMBER: _ClassVar[int]
    path: _containers.RepeatedScalarFieldContainer[int]
    proposal: Proposal
    def __init__(self, path: _Optional[_Iterable[int]] = ..., proposal: _Optional[_Union[Proposal, _Mapping]] = ...) -> None: ...

class Proposal(_message.Message):
    __slots__ = ("ids", "q", "kind", "alternatives")
    IDS_FIELD_NUMBER: _ClassVar[int]
    Q_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    ALTERNATIVES_FIELD_NUMBER: _ClassVar[int]
    ids: _containers.RepeatedScalarFieldContainer[int]
    q: SparseRows
    kind: DrafterKind
    alternatives: _containers.RepeatedCompositeFieldContainer[Alternative]
    def __init__(self, ids: _Optional[_Iterable[int]] = ..., q: _Optional[_Union[SparseRows, _Mapping]] = ..., kind: _Optional[_Union[DrafterKind, str]] = ..., alternatives: _Optional[_Iterable[_Union[Alternative, _Mapping]]] = ...) -> None: ...

class Alternative(_message.Message):
    __slots__ = ("at", "id")
    AT_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    at: int
    id: int
    def __init__(self, at: _Optional[int] = ..., id: _Optional[int] = ...) -> None: ...

class SparseRows(_message.Message):
    __slots__ = ("ids", "probabilities", "counts")
    IDS_FIELD_NUMBER: _ClassVar[int]
    PROBABILITIES_FIELD_NUMBER: _ClassVar[int]
    COUNTS_FIELD_NUMBER: _ClassVar[int]
    ids: bytes
    probabilities: bytes
    counts: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, ids: _Optional[bytes] = ..., probabilities: _Optional[bytes] = ..., counts: _Optional[_Iterable[int]] = ...) -> None: ...

class GetDraftInfoRequest(_message.Message):
    __slots__ = ("with_tokens",)
    WITH_TOKENS_FIELD_NUMBER: _ClassVar[int]
    with_tokens: bool
    def __init__(self, with_tokens: bool = ...) -> None: ...

class GetDraftInfoResponse(_message.Message):
    __slots__ = ("model", "kind", "vocabulary", "max_length", "rows", "tokens", "special_ids")
    class SpecialIdsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    MODEL_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    VOCABULARY_FIELD_NUMBER: _ClassVar[int]
    MAX_LENGTH_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    SPECIAL_IDS_FIELD_NUMBER: _ClassVar[int]
    model: str
    kind: DrafterKind
    vocabulary: Vocabulary
    max_length: int
    rows: int
    tokens: _containers.RepeatedScalarFieldContainer[str]
    special_ids: _containers.ScalarMap[str, int]
    def __init__(self, model: _Optional[str] = ..., kind: _Optional[_Union[DrafterKind, str]] = ..., vocabulary: _Optional[_Union[Vocabulary, _Mapping]] = ..., max_length: _Optional[int] = ..., rows: _Optional[int] = ..., tokens: _Optional[_Iterable[str]] = ..., special_ids: _Optional[_Mapping[str, int]] = ...) -> None: ...
