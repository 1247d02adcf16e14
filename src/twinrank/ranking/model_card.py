"""A ranker's README.md: what it is made of, what it reached, its limits, how to load it.

Markdown with YAML in front, as model hubs read it. It says what its folder says; the licence and
whatever else is written around it are its owner's.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from twinrank import __version__
from twinrank.recipe import Recipe

if TYPE_CHECKING:
    from twinrank.ranking.folder import Contents
    from twinrank.ranking.ranker import Ranker

FRONT = """\
---
library_name: twinrank
pipeline_tag: text-ranking
tags:
- information-retrieval
- dense-retrieval
- support-search
# license: yours to choose
---
"""
BEGIN = "<!-- twinrank writes what follows anew whenever it saves this ranker -->"
END = "<!-- what stands before and after these two lines is yours, and is kept -->"
SHOWN = {"accuracy@1": "acc@1", "accuracy@3": "acc@3", "accuracy@10": "acc@10", "map@10": "MAP@10"}
FEW = 50  # with fewer labelled queries of a type, it is hardly learned
USE = """\
from pathlib import Path
from twinrank import Ranker

ranker = Ranker.load(Path("FOLDER"))
for answer in ranker.rank("what somebody wrote", k=3)[0]:
    print(answer.rank, answer.id, answer.title, answer.confidence)"""

SELECTED = (
    "What can be chosen was chosen on this very split, so it flatters a little: "
    "`twinrank evaluate` and `twinrank report` measure on the test split, with intervals."
)

Rows = list[list[str]]


def model_card(held: Contents | Ranker, old: str | None = None) -> str | None:
    """The text of README.md.

    Args:
        held: the ranker.
        old: the text that is there; what its owner wrote around ours is kept.

    Returns:
        None if the old text is not ours to change.
    """
    if old is None:
        return f"{FRONT}\n{BEGIN}\n\n{_body(held)}\n{END}\n"
    before, begun, rest = old.partition(BEGIN)
    _, ended, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{_body(held)}\n{END}{after}" if begun and ended else None


def about(held: Contents | Ranker) -> dict[str, str]:
    """What the card says in words, a paragraph a heading."""
    recipe, origin = held.recipe, held.origin
    seen = origin.labelled or {}
    data = f"{origin.data}, fingerprint {origin.data_fingerprint}"
    if counts := "; ".join(f"{split}: {_by_type(types)}" for split, types in seen.items()):
        data += f". Labelled queries: {counts}"
    if origin.learned:
        data += (
            f". Of those in train, {origin.learned.queries:,} were labelled by people's feedback"
        )
    return {
        "What it is": (
            f"It ranks {held.answers.height:,} answers for what people write to support, so that "
            f"the one that solves it comes first. Made by twinrank {__version__} with the recipe "
            f"{recipe.name}, seed {origin.seed}."
        ),
        "How it was made": f"{_made(recipe)} Every choice is in ranker.json.",
        "Data": f"{data}.",
        "Intended use": (
            "To suggest these answers, several at a time, to people who ask in the language and "
            "in the ways of the training queries, or to those who help them. An answer that is "
            "added later needs no training. It is not meant to decide anything by itself."
        ),
        "Confidence": _confidence(held),
        "Limits": " ".join(_limits(held)),
    }


def quality(held: Contents | Ranker) -> Rows | None:
    """What it reached on validation, overall and by type, the head first; none if unmeasured."""
    figures = held.origin.quality
    if figures is None:
        return None
    counts = (held.origin.labelled or {}).get("validation", {})
    rows = [["type", "queries", *SHOWN.values()], _row("overall", sum(counts.values()), figures)]
    return rows + [_row(name, counts.get(name, 0), of) for name, of in figures["types"].items()]


def _body(held: Contents | Ranker) -> str:
    said = {heading: markdown(text) for heading, text in about(held).items()}
    rows = quality(held)
    table = markdown_table(rows) if rows else "Not measured: there was no validation split."
    parts = [f"# {held.recipe.name}", said.pop("What it is")]
    parts += [f"## {heading}\n\n{text}" for heading, text in said.items()]
    parts.insert(5, f"## Quality\n\nOn the validation split:\n\n{table}\n\n{SELECTED}")
    parts.append(f"## How to load it\n\n```python\n{USE}\n```")
    return "\n\n".join(parts) + "\n"


def _made(recipe: Recipe) -> str:
    if recipe.encoder is None:
        return "It compares words, by BM25."
    encoder, towers = recipe.encoder, recipe.towers
    name = re.split(r"[/\\]", encoder.name)[-1]  # a folder says where it lies on one machine
    answers = "by section" if encoder.answers == "sections" else "whole"
    tuned = "tuned for this data" if recipe.tuning else "as it was published"
    parts = [
        f"Texts are read by the encoder {name} ({encoder.pooling} pooling, up to "
        f"{encoder.max_tokens:,} tokens, answers {answers}), {tuned}."
    ]
    if towers:
        sides = "two towers, one a side," if towers.dual else "one tower for both sides"
        parts.append(f"On top, {sides} of the kind {towers.kind}.")
    if recipe.pretraining:
        use, pairing = recipe.pretraining.use, recipe.pretraining.pairing
        parts.append(f"Pre-trained by Barlow Twins on pairs {pairing}, used so: {use}.")
    channels = {"past queries": recipe.memory, "words": recipe.words}
    beside = [name for name, settings in channels.items() if settings]
    if beside:
        parts.append(f"Beside it, {' and '.join(beside)}, weighed on the validation split.")
    return " ".join(parts)


def _confidence(held: Contents | Ranker) -> str:
    if held.confidence is None:
        return "It knows none: there was no validation split to learn it on."
    queries = sum((held.origin.labelled or {}).get("validation", {}).values())
    on = f"the {queries:,} queries of the validation split" if queries else "the validation split"
    return (
        "How likely the first answer is right: Platt's logistic curve over its log-odds under the "
        f"softmax of the scores, fitted on {on} (slope {held.confidence.slope:.3f}, intercept "
        f"{held.confidence.intercept:.3f}). It holds for queries like those."
    )


def _limits(held: Contents | Ranker) -> list[str]:
    recipe, seen = held.recipe, held.origin.labelled or {}
    found = [f"It knows no answer but its {held.answers.height:,}, and always ranks some first."]
    if recipe.encoder:
        found.append(f"Of a query it reads the first {recipe.encoder.max_tokens:,} tokens.")
    taught = seen.get("train", {})
    if recipe.training:
        few = [f"{kind} ({n:,})" for kind, n in taught.items() if n < FEW]
        if few:
            found.append(f"Few queries were there to learn from of type {', '.join(few)}.")
        found.append("Types of query that it was not trained on may fare worse.")
    if recipe.memory:
        found.append(
            "past-*.jsonl holds queries of the training data, and of feedback that was learned, as "
            "people wrote them: share this folder only with those who may read them. `twinrank "
            "forget` erases what somebody wrote."
        )
    found.append("corpus-*.jsonl holds the answers' texts.")
    return found


def _by_type(types: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {kind}" for kind, count in types.items())


def _row(name: str, count: int, figures: dict[str, Any]) -> list[str]:
    cells = [f"{figures[metric]:.3f}".removeprefix("0") for metric in SHOWN]
    return [name, f"{count:,}" if count else "-", *cells]


def markdown_table(rows: Rows) -> str:
    """A table in Markdown, the head first; figures are in all columns but the first."""
    lines = [[markdown(cell) for cell in row] for row in rows]
    lines.insert(1, ["---", *["---:"] * (len(rows[0]) - 1)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def markdown(text: str) -> str:
    """Markdown that shows a text as it is, in one line."""
    return re.sub(r"([\\`*_\[\]<>|#~&$])", r"\\\1", " ".join(text.split()))
