"""A ranker's README.md: its making, its quality, its limits, and how to load it.

Markdown with YAML in front, as model hubs read it. The licence and whatever else is written around
the part between two marked lines are its owner's. The layout is that of `model_card.md`.
"""

from __future__ import annotations

import re
from pathlib import Path
from string import Template
from typing import Any, cast

from twinrank import __version__
from twinrank.ranking.manifest import Contents
from twinrank.recipe import Recipe

TEMPLATE = Path(__file__).with_name("model_card.md")
BEGIN = "<!-- twinrank writes what follows anew whenever it saves this ranker -->"
END = "<!-- what stands before and after these two lines is yours, and is kept -->"
METRICS = ("accuracy@1", "accuracy@3", "accuracy@10", "map@10")
MIN_LEARNABLE_QUERIES = 50  # with fewer labelled queries of a type, it is hardly learned
SELECTED = (
    "What can be chosen was chosen on this very split, so it flatters a little: "
    "`twinrank evaluate` and `twinrank report` measure on the test split, with intervals."
)

Rows = list[list[str]]


def model_card(ranker: Contents, old: str | None = None) -> str | None:
    """Return the text of README.md, or None if the old text was not written by twinrank.

    What the owner of the old text wrote around ours is kept.
    """
    rows = quality(ranker)
    texts = {heading.lower().replace(" ", "_"): text for heading, text in about(ranker).items()}
    values = {key: markdown(text) for key, text in texts.items()}
    values["quality"] = (
        markdown_table(rows) if rows else "Not measured: there was no validation split."
    )
    template = Template(TEMPLATE.read_text(encoding="utf-8"))
    new = template.substitute(values, name=ranker.recipe.name, selected=SELECTED)
    if old is None:
        return new
    before, begin, rest = old.partition(BEGIN)
    _, end, after = rest.partition(END)
    body = new.partition(BEGIN)[2].partition(END)[0]
    return f"{before}{BEGIN}{body}{END}{after}" if begin and end else None


def hub_card(ranker: Contents, text: str, name: str) -> str:
    """Return a card for a hub: its metadata hold the quality, and its code loads it from there.

    Args:
        ranker: of the card.
        text: of README.md, whatever its owner wrote there.
        name: of the repository, `user/name`.
    """
    from huggingface_hub import EvalResult, ModelCard, ModelCardData  # here: it takes a moment

    card, origin = ModelCard(text, ignore_metadata_errors=True), ranker.origin
    data = cast("ModelCardData", card.data)
    if figures := origin.quality:
        data.model_name = name.rpartition("/")[2]
        data.eval_results = [
            EvalResult(
                task_type="text-ranking",
                dataset_type=origin.data,
                dataset_name=f"{origin.data}, {kind}",
                dataset_config=kind,
                dataset_split="validation",
                dataset_revision=origin.data_fingerprint,
                metric_type=metric,
                metric_value=round(of[metric], 4),
            )
            for kind, of in {"all types": figures, **figures["types"]}.items()
            for metric in METRICS
        ]
    return str(card).replace('Ranker.load(Path("FOLDER"))', f'Ranker.from_hub("{name}")')


def about(ranker: Contents) -> dict[str, str]:
    """Return the card's sentences, a paragraph a heading."""
    recipe, origin = ranker.recipe, ranker.origin
    seen = origin.labelled or {}
    data = f"{origin.data}, fingerprint {origin.data_fingerprint}"
    if counts := "; ".join(f"{split}: {_by_type(types)}" for split, types in seen.items()):
        data += f". Labelled queries: {counts}"
    if origin.learned:
        data += (
            f". Of those in train, {origin.learned.queries:,} were labelled by people's feedback"
        )
    again = (
        " Epochs, weights and confidence were chosen on the validation split, of which the quality "
        "below is; then it was trained again on train and validation together."
        if origin.refit
        else ""
    )
    return {
        "What it is": (
            f"It ranks {ranker.answers.height:,} answers for what people write to support, so that "
            f"the one that solves it comes first. Made by twinrank {__version__} with the recipe "
            f"{recipe.name}, seed {origin.seed}."
        ),
        "How it was made": f"{_made(recipe)}{again} Every choice is in manifest.json.",
        "Data": f"{data}.",
        "Intended use": (
            "To suggest these answers, several at a time, to people who ask in the language and "
            "in the ways of the training queries, or to those who help them. An answer that is "
            "added later needs no training. It is not meant to decide anything by itself."
        ),
        "Confidence": _confidence(ranker),
        "Limits": " ".join(_limits(ranker)),
    }


def quality(ranker: Contents) -> Rows | None:
    """Return a table of quality on validation, overall and by type; None if it is unmeasured."""
    figures = ranker.origin.quality
    if figures is None:
        return None
    counts = (ranker.origin.labelled or {}).get("validation", {})
    head = ["type", "queries", "acc@1", "acc@3", "acc@10", "MAP@10"]
    rows = [head, _row("overall", sum(counts.values()), figures)]
    return rows + [_row(name, counts.get(name, 0), of) for name, of in figures["types"].items()]


def _made(recipe: Recipe) -> str:
    """List what the recipe is made of."""
    encoder, towers, pretraining = recipe.encoder, recipe.towers, recipe.pretraining
    parts = []
    if encoder:
        # A folder says where it lies on one machine.
        names = [re.split(r"[/\\]", name)[-1] for name in (encoder.name, *encoder.others)]
        parts.append(
            f"encoder {' and '.join(names)} ({encoder.pooling} pooling, up to "
            f"{encoder.max_tokens:,} tokens, answers {encoder.answers}"
            f"{', tuned for this data' if recipe.tuning else ''})"
        )
    if towers:
        parts.append(f"{'two towers' if towers.dual else 'one tower'} of the kind {towers.kind}")
    if pretraining:
        parts.append(f"Barlow Twins on pairs {pretraining.pairing}, used so: {pretraining.use}")
    if recipe.memory:
        parts.append("past queries")
    if recipe.words:
        parts.append("words, by BM25" + (" and by a classifier" if recipe.memory else ""))
    return f"It ranks by {'; '.join(parts)}."


def _confidence(ranker: Contents) -> str:
    if ranker.confidence is None:
        return "It knows none: there was no validation split to learn it on."
    queries = sum((ranker.origin.labelled or {}).get("validation", {}).values())
    on = f"the {queries:,} queries of the validation split" if queries else "the validation split"
    return (
        "How likely the first answer is right: Platt's logistic curve over its log-odds under the "
        f"softmax of the scores, fitted on {on} (slope {ranker.confidence.slope:.3f}, intercept "
        f"{ranker.confidence.intercept:.3f}). It holds for queries like those."
    )


def _limits(ranker: Contents) -> list[str]:
    recipe, seen = ranker.recipe, ranker.origin.labelled or {}
    limits = [f"It knows no answer but its {ranker.answers.height:,}, and always ranks some first."]
    if recipe.encoder:
        limits.append(f"Of a query it reads the first {recipe.encoder.max_tokens:,} tokens.")
    taught = seen.get("train", {})
    if recipe.training:
        few = [f"{kind} ({n:,})" for kind, n in taught.items() if n < MIN_LEARNABLE_QUERIES]
        if few:
            limits.append(f"Few queries were there to learn from of type {', '.join(few)}.")
        limits.append("Types of query that it was not trained on may fare worse.")
    past = ranker.scoring.past
    if past and past.has_texts:
        limits.append(
            "past.jsonl holds queries of the training data, and of feedback that was learned, as "
            "people wrote them: share this folder only with those who may read them. `twinrank "
            "forget` erases what somebody wrote."
        )
    elif past:
        limits.append(
            f"It holds vectors of {len(past.texts):,} past queries, and how much their words speak "
            "for each answer, but not their texts: it names no past query as a reason."
        )
    limits.append("corpus.jsonl holds the answers' texts.")
    return limits


def _by_type(types: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {kind}" for kind, count in types.items())


def _row(name: str, count: int, figures: dict[str, Any]) -> list[str]:
    cells = [f"{figures[metric]:.3f}".removeprefix("0") for metric in METRICS]
    return [name, f"{count:,}" if count else "-", *cells]


def markdown_table(rows: Rows) -> str:
    """Write a table in Markdown, the head first; figures are in all columns but the first."""
    lines = [[markdown(cell) for cell in row] for row in rows]
    lines.insert(1, ["---", *["---:"] * (len(rows[0]) - 1)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def markdown(text: str) -> str:
    """Escape a text so that Markdown shows it as it is, in one line."""
    return re.sub(r"([\\`*_\[\]<>|#~&$])", r"\\\1", " ".join(text.split()))
