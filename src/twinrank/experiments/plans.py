"""The studies that come with twinrank: which recipes each carries out."""

from __future__ import annotations

from dataclasses import dataclass

from twinrank.errors import RecipeError


@dataclass(frozen=True)
class Plan:
    """What a study carries out, recipes by name.

    Attributes:
        name: of the study.
        recipes: of its main table.
        controls: that isolate a cause.
        few_labels: which of the recipes are carried out with fewer labels too.
        shares: of the training labels, rising, all below 1.
        rare: share of the labels of one type, in turn each, with all labels of the others.
        few_seeds: at most as many seeds with fewer labels: each draws other labels too.
        pictured: whose spaces are drawn.
        reading: recipes that read texts otherwise, each with the one it is compared with.
    """

    name: str
    recipes: tuple[str, ...]
    controls: tuple[str, ...]
    few_labels: tuple[str, ...]
    shares: tuple[float, ...]
    rare: float
    few_seeds: int
    pictured: tuple[str, ...]
    reading: tuple[tuple[str, str], ...] = ()


STUDIES = {
    "handover": Plan(
        name="handover",
        recipes=(
            "bm25",
            "zero-shot-cls",
            "handover-baseline",
            "handover-dual",
            "handover-barlow-zero-shot",
            "handover-barlow-inherit",
            "handover-barlow-freeze",
            "zero-shot",
            "residual",
            "barlow-zero-shot",
            "barlow-inherit",
            "barlow-freeze",
            "barlow-joint",
        ),
        controls=(
            "control-across",
            "control-shuffled",
            "control-large-answers",
            "control-small-batches",
            "control-all-statistics",
        ),
        few_labels=("residual", "barlow-inherit"),
        shares=(0.05, 0.1, 0.25, 0.5),
        rare=0.1,
        few_seeds=3,
        pictured=("zero-shot-cls", "handover-barlow-zero-shot", "control-across", "barlow-inherit"),
        reading=(
            ("handover-tfidf", "handover-baseline"),
            ("handover-sections", "handover-tfidf"),
            ("handover-512", "handover-tfidf"),
            ("tfidf-128", "residual"),
        ),
    )
}


def study_named(name: str) -> Plan:
    """One of the studies that come with twinrank.

    Raises:
        RecipeError: if there is none of that name.
    """
    if name not in STUDIES:
        raise RecipeError(f"no study is called {name!r}; there is {', '.join(STUDIES)}")
    return STUDIES[name]
