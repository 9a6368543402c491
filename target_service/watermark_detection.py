"""Detects watermarks, with the statistics of transformers' `WatermarkDetector` and SynthID's two
means.

This module shares with marking only the functions that draw green lists and g-values.
"""

import math
from collections import Counter
from collections.abc import Sequence

import torch

from foredraft.v1 import generation_pb2, target_pb2
from foredraft_engine.errors import InvalidFieldError
from foredraft_engine.logits.greenlist import GreenLists
from foredraft_engine.logits.synthid import g_values
from foredraft_engine.sampling import Greenlist, SynthId, Watermark
from foredraft_serving.messages import watermark_from
from foredraft_serving.ranges import check_watermark
from foredraft_serving.worker_pool import breathe
from target_service.request.checks import check_own_vocabulary
from target_service.request.prompts import Prompts

_Z_THRESHOLD = 3.0
_MAX_TEXTS = 256
# The weights of SynthID's layers, from the first to the last (Dathathri et al., supplement,
# "weighted mean").
_FIRST_WEIGHT, _LAST_WEIGHT = 10.0, 1.0


class Detector:
    """Detects watermarks in texts of one model."""

    def __init__(
        self, prompts: Prompts, ids: int, own: generation_pb2.WatermarkingConfig | None
    ) -> None:
        """Detects watermarks for a model.

        Args:
            ids: the number of ids from which green lists are drawn.
            own: the watermark that the model's own config sets.
        """
        self._prompts, self._ids, self._own = prompts, ids, own
        self._bos = prompts.tokenizer.bos_token_id
        self._eos = prompts.tokenizer.eos_token_id

    def detect(
        self, message: target_pb2.DetectWatermarkRequest
    ) -> target_pb2.DetectWatermarkResponse:
        """Returns what speaks for a watermark in each text. Blocks for as long as it computes.

        Raises:
            InvalidFieldError: there is no watermark to look for, or a text is too short to tell.
        """
        mark = self._mark(message)
        if not 0 < len(message.texts) <= _MAX_TEXTS:
            raise InvalidFieldError("inputs", f"must hold between 1 and {_MAX_TEXTS} texts")
        threshold = message.z_threshold if message.HasField("z_threshold") else _Z_THRESHOLD
        if not math.isfinite(threshold):
            raise InvalidFieldError("z_threshold", f"is {threshold}; it must be finite")
        found = []
        for text in message.texts:
            breathe()
            ids = self._prompts.ids(text, "inputs")
            if isinstance(mark, Greenlist):
                found.append(
                    self._by_greenlist(mark, ids, threshold, message.ignore_repeated_ngrams)
                )
            else:
                found.append(self._by_synthid(mark, ids))
        return target_pb2.DetectWatermarkResponse(detections=found)

    def _mark(self, message: target_pb2.DetectWatermarkRequest) -> Watermark:
        config = (
            message.watermarking_config if message.HasField("watermarking_config") else self._own
        )
        if config is None:
            reason = (
                "is missing, and the model's own config sets none; set it to the watermark to "
                "look for"
            )
            raise InvalidFieldError("watermarking_config", reason)
        chosen = generation_pb2.WatermarkingConfig()
        chosen.CopyFrom(config)
        check_watermark(chosen)
        check_own_vocabulary(chosen)
        if chosen.HasField("greenlist"):
            chosen.greenlist.vocabulary_size = self._ids
        elif message.HasField("z_threshold") or message.ignore_repeated_ngrams:
            name = "z_threshold" if message.HasField("z_threshold") else "ignore_repeated_ngrams"
            raise InvalidFieldError(
                name, "has no effect on SynthID watermarks; leave it out", "watermarking_config"
            )
        mark = watermark_from(chosen)
        assert mark is not None
        return mark

    def _by_greenlist(
        self, mark: Greenlist, ids: Sequence[int], threshold: float, once: bool
    ) -> target_pb2.WatermarkDetection:
        """Computes what transformers' `WatermarkDetector` does (Kirchenbauer et al., arXiv
        2301.10226, eq. 3).
        """
        ids = ids[1:] if ids[0] == self._bos else ids
        width = mark.context_width + 1 - (mark.seeding_scheme == "selfhash")
        if len(ids) - mark.context_width < 1:
            raise InvalidFieldError(
                "inputs",
                f"has a text of {len(ids)} tokens; detection needs more than {mark.context_width}",
            )
        ngrams = Counter(tuple(ids[i : i + width]) for i in range(len(ids) - width + 1))
        lists = GreenLists(mark)
        hits = {n: _is_green(lists, mark, n) for n in ngrams}
        scored = len(ngrams) if once else ngrams.total()
        greens = sum(hits.values()) if once else sum(count * hits[n] for n, count in ngrams.items())
        ratio = mark.greenlist_ratio
        z = (greens - ratio * scored) / math.sqrt(scored * ratio * (1 - ratio))
        p_value = 0.5 * math.erfc(z / math.sqrt(2))
        return target_pb2.WatermarkDetection(
            num_tokens_scored=scored,
            num_green_tokens=greens,
            green_fraction=greens / scored,
            z_score=z,
            p_value=p_value,
            prediction=z > threshold,
            confidence=1 - p_value,
        )

    def _by_synthid(self, mark: SynthId, ids: Sequence[int]) -> target_pb2.WatermarkDetection:
        """Computes the mean and the weighted mean of the g-values of n-grams, repeated contexts
        left out.
        """
        if self._eos in ids:
            ids = ids[: list(ids).index(self._eos)]
        g = g_values(mark, ids)  # [n-grams, depth]
        if not len(g):
            raise InvalidFieldError(
                "inputs", f"has a text that is too short for n-grams of {mark.ngram_len} tokens"
            )
        weights = torch.linspace(_FIRST_WEIGHT, _LAST_WEIGHT, g.shape[1])
        weighted = g.mean(dim=0) @ (weights / weights.sum())
        return target_pb2.WatermarkDetection(
            num_tokens_scored=len(g),
            mean_score=g.mean().item(),
            weighted_mean_score=weighted.item(),
        )


def _is_green(lists: GreenLists, mark: Greenlist, ngram: tuple[int, ...]) -> bool:
    breathe()
    return ngram[-1] in lists.green(ngram if mark.seeding_scheme == "selfhash" else ngram[:-1])
