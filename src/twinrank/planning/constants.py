"""The constants of a plan, as data: what was measured, what makers publish, what is assumed."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from twinrank.errors import PlanError
from twinrank.files import read_text

Count = Field(ge=0, allow_inf_nan=False)


class _Constants(BaseModel):
    """Frozen; an unknown name is an error; a field's description is its line under a plan."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def line(self, name: str) -> str:
        """What a constant means, and its value."""
        return f"{type(self).model_fields[name].description}: {getattr(self, name):,.4g}"


class Assumed(_Constants):
    """What nothing here could measure; `assumed.toml` has the values."""

    sections: float = Field(gt=0, description="sections an answer, as in mozilla-support")
    passage_tokens: float = Field(gt=0, description="tokens a passage, as in mozilla-support")
    query_tokens: float = Field(gt=0, description="tokens a query, as in mozilla-support")
    token_bytes: float = Field(gt=0, description="bytes of text a token, as in mozilla-support")
    validation_queries: float = Field(gt=0, description="validation queries, as in mozilla-support")
    epochs: float = Field(gt=0, description="epochs until early stopping, as on mozilla-support")
    gpu_encode_share: float = Field(
        gt=0, le=1, description="share of a GPU's peak bf16 rate that encoding reaches"
    )
    gpu_train_share: float = Field(
        gt=0, le=1, description="share of a GPU's peak fp32 rate that a step's products reach"
    )
    gpu_bandwidth_share: float = Field(
        gt=0, le=1, description="share of a GPU's memory bandwidth that a step reaches"
    )
    gpu_passes: float = Field(
        gt=0, description="times that a step reads or writes each number on a GPU"
    )
    gpu_step_s: float = Field(ge=0, description="seconds a step on a GPU, whatever its size")
    host_cores: int = Field(gt=0, description="processor cores beside a GPU")
    host_memory_gb: float = Field(gt=0, description="GB of memory beside a GPU")
    memory_a_core_gb: float = Field(gt=0, description="GB of memory a core, without a GPU")
    milvus_bytes_a_vector: float = Field(
        gt=0, description="bytes of memory a vector, in a Milvus server (docs/index.md, at 100,000)"
    )
    milvus_disk_a_vector: float = Field(
        gt=0, description="bytes of disk a vector, in Milvus Lite (docs/index.md, at 100,000)"
    )
    milvus_s_a_vector: float = Field(
        gt=0, description="seconds a vector until a Milvus server has indexed it (docs/index.md)"
    )
    load_share: float = Field(
        gt=0, le=1, description="share of its time that a core ranks, so that p99 stays near p50"
    )

    @classmethod
    @cache
    def load(cls) -> Assumed:
        """The values of the package."""
        return cls.model_validate(_assumptions()["assumed"])


class Gpu(_Constants):
    """One card, as its maker publishes it."""

    name: str
    memory_gb: float
    bandwidth_gb_s: float
    bf16_tflop_s: float
    fp32_tflop_s: float


@cache
def gpus() -> dict[str, Gpu]:
    """The cards that are known, by the names that `--gpu` takes."""
    return {name: Gpu.model_validate(of) for name, of in _assumptions()["gpus"].items()}


class Measured(_Constants):
    """What `benchmarks/plan_constants.py` measured on one core; `measured.json` has the values."""

    on: str = Field(description="machine")
    date: str = Field(description="day")
    command: str = Field(description="made by")

    process_bytes: float = Field(ge=0, description="bytes of a process that has its libraries")
    encode_flop_s: float = Field(gt=0, description="FLOP/s of the encoder's products, a core")
    encode_text_s: float = Field(ge=0, description="seconds to encode a text, besides products")
    encode_token_bytes: float = Field(
        ge=0, description="bytes a token that is read, while all texts are encoded"
    )
    tokenise_tokens_s: float = Field(gt=0, description="tokens a second that a core makes of texts")

    train_flop_s: float = Field(gt=0, description="FLOP/s of a training step's products, a core")
    train_cell_s: float = Field(ge=0, description="seconds a score in a step, besides products")
    train_fresh_s: float = Field(
        ge=0, description="seconds a number of vectors that a step projects, besides products"
    )
    train_stale_s: float = Field(ge=0, description="seconds a number of vectors that stay stale")
    train_step_s: float = Field(ge=0, description="seconds a step, whatever its size")
    train_fresh_copies: float = Field(
        ge=0, description="copies that a step holds of vectors it projects"
    )
    train_vector_copies: float = Field(
        ge=0, description="copies that training holds of all passages' vectors"
    )
    train_offset_copies: float = Field(ge=0, description="copies that training holds of offsets")
    train_query_copies: float = Field(
        ge=0, description="copies that training holds of queries' vectors"
    )
    train_cell_copies: float = Field(ge=0, description="copies that a step holds of its scores")
    score_cell_copies: float = Field(
        ge=0, description="copies held of the scores of queries that are scored at once"
    )

    words_token_s: float = Field(ge=0, description="seconds a token to index the words of texts")
    words_token_bytes: float = Field(ge=0, description="bytes a token, of the words of texts")
    fuse_cell_s: float = Field(
        ge=0, description="seconds a validation query and answer, to weigh channels"
    )
    fuse_cell_bytes: float = Field(
        ge=0, description="bytes a validation query and answer, while channels are weighed"
    )

    index_copies: float = Field(gt=0, description="copies of the vectors while an index is built")
    flat_vector_bytes: float = Field(ge=0, description="bytes a vector of FAISS flat, besides it")
    flat_vector_s: float = Field(gt=0, description="seconds a vector to build FAISS flat")
    hnsw_vector_bytes: float = Field(ge=0, description="bytes a vector of HNSW, besides it")
    hnsw_vector_s: float = Field(ge=0, description="seconds a vector to build HNSW of 10,000")
    hnsw_doubling_s: float = Field(ge=0, description="and more a vector for each doubling")
    flat_search_float_s: float = Field(gt=0, description="seconds a number that flat compares")
    hnsw_search_s: float = Field(ge=0, description="seconds a search in HNSW of 10,000 vectors")
    hnsw_search_doubling_s: float = Field(ge=0, description="and more a search for each doubling")

    rank_query_s: float = Field(ge=0, description="seconds to rank a query, whatever the size")
    rank_passage_s: float = Field(ge=0, description="seconds a passage that is scored")
    rank_answer_s: float = Field(ge=0, description="seconds an answer, for words and prior")
    rank_past_s: float = Field(ge=0, description="seconds a past query that votes")

    @classmethod
    def load(cls, file: Path | None = None) -> Measured:
        """The values in a file; none gives those of the package.

        Raises:
            PlanError: if the file is not there, or does not hold just these constants.
        """
        if file is None:
            packaged = resources.files("twinrank.planning") / "measured.json"
            return cls.model_validate_json(packaged.read_text(encoding="utf-8"))
        mend = "make it with `python benchmarks/plan_constants.py DATA --out FILE`"
        try:
            return cls.model_validate_json(read_text(file, "file of constants", PlanError))
        except ValidationError as error:
            first = error.errors()[0]
            what = f"{'.'.join(map(str, first['loc'])) or 'JSON'}: {first['msg']}"
            raise PlanError(f"{file}: {what}; {mend}") from None


@cache
def _assumptions() -> dict[str, Any]:
    packaged = resources.files("twinrank.planning") / "assumed.toml"
    return tomllib.loads(packaged.read_text(encoding="utf-8"))
