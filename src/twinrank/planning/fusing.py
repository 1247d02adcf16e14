"""Weighing the channels beside the towers, on validation."""

from __future__ import annotations

from twinrank.planning.constants import Measured
from twinrank.planning.machine import Machine
from twinrank.planning.needs import Needs
from twinrank.planning.scoring import scored_seconds, word_tokens
from twinrank.planning.workload import Workload

TIMES_SCORED = 3  # validation queries: for the weights, for confidence, for the model card


def fuse(w: Workload, machine: Machine, c: Measured) -> Needs:
    """The stage that indexes words and weighs channels on validation, on the processor."""
    tokens, cells = word_tokens(w), w.validation * w.answers
    scored = TIMES_SCORED * w.validation * scored_seconds(w, c)
    return Needs(
        stage="words and weights",
        memory=c.process_bytes + tokens * c.words_token_bytes + cells * c.fuse_cell_bytes,
        room=machine.memory,
        disk=0.0,
        seconds=tokens * c.words_token_s + cells * c.fuse_cell_s + scored,
        machines=1,
        note="words are indexed again whenever the ranker is loaded",
        mend="label fewer validation queries, or leave [words] out of the recipe",
        rests_on=(
            *("words_token_bytes", "words_token_s", "fuse_cell_bytes", "fuse_cell_s"),
            *("rank_passage_s", "rank_answer_s", "rank_past_s", "process_bytes"),
        ),
    )
