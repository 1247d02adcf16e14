"""What a report of runs says in words: in short, how to read its figures, how it was measured."""

from __future__ import annotations

from collections.abc import Sequence

from twinrank import __version__
from twinrank.evaluation import Evaluation
from twinrank.experiments import Examination, Run
from twinrank.reports.run_tables import DRAWN, titles_of
from twinrank.reports.study import p_value, signed, signed_interval
from twinrank.reports.terminal import figure, interval

SILENT_BELOW = 0.4  # of the points of a calibration's curve, the one that is told

QUALITY = (
    "Each mark is the share of queries with a right answer among the first three (left), and "
    "MAP@10 (right); the bars are 95 % intervals. A ranker is even if its marks for the types "
    "stand at one height."
)
LEARNING = (
    "What was recorded after each epoch, on the training queries and on the validation split. A "
    "star marks the epoch that was kept."
)
CALIBRATION = (
    "Left: queries by how sure the ranker was of its first answer, and the share of them where "
    "it was right; on the dotted line confidence is true. A larger mark stands for more queries; "
    "bars, if there are any, are 95 % intervals (Wilson). Right: if the ranker is silent wherever "
    "it is less sure, how many queries are left, and how many of these it answers right."
)
CONFUSION = (
    "For each pair, how many queries that one of them answers were given the other first, in both "
    "directions."
)
ANSWERS_ALIKE = (
    "Two answers that are often mistaken for each other may say the same thing, and should perhaps "
    "be one; or one of them lacks the words that people use."
)
MISSES = (
    "Queries whose first answer is wrong. To the right the ranker was sure of the wrong answer; "
    "further up it ranked the right one lower."
)
LABELS = "Where it was sure, the label may be wrong, or both answers right: read before you blame."
SPACE = (
    "Queries lie where the ranker puts them, in the two directions in which they differ most. "
    "Small dots are queries, large marks the centroids of an answer's queries of one type; a line "
    "joins those of one answer."
)
CARD = (
    "All of this, and the code that loads the ranker, is in README.md in its folder. The figures "
    "below are of the validation split."
)
MEASURED = (
    "Top-k is the share of queries with a right answer among the first k. MAP@k divides by the "
    "number of all right answers. Loss is the cross-entropy over all answers, in nats. Worst is "
    "the figure of the type where it is worst, gap the best type's figure minus the worst's.",
    "Intervals are 95 % bootstrap intervals that resample whole threads, because the queries of a "
    "thread share their answer. Differences are tested on the same queries by flipping the signs "
    "of whole threads (a paired permutation test); p-values are corrected by Holm's method over "
    "all tests of a metric.",
    "A query with several right answers counts, among mistakes, for the one that was ranked best.",
)


def title(examination: Examination) -> str:
    """The heading of the page."""
    names = [run.name for run in examination.runs]
    return f"{_joined(names)} on {examination.dataset.name}"


def short(examination: Examination) -> list[str]:
    """A paragraph a run, and one for each run beside the first."""
    counts = examination.runs[0].evaluation.counts
    by_type = ", ".join(f"{count:,} {kind}" for kind, count in counts["types"].items())
    said = [
        f"Measured on the {examination.split} split of {examination.dataset.name}: "
        f"{counts['overall']:,} queries ({by_type}), "
        f"{examination.dataset.answers.height:,} answers."
    ]
    said += [_of_run(run) for run in examination.runs]
    first = examination.runs[0].name
    for run in examination.runs[1:]:
        (one,) = (
            d
            for d in examination.differences
            if d["arm"] == run.name and d["metric"] == "map@10" and d["type"] is None
        )
        fate = "beyond chance" if one["p_holm"] < 0.05 else "within what chance gives"
        said.append(
            f"MAP@10 of {run.name} minus that of {first} is {signed(one['difference'])} "
            f"({signed_interval(one['interval'])}), {fate} (p {_is(one['p_holm'])})."
        )
    return said


def silence(evaluation: Evaluation) -> str:
    """How true the confidence is, and what one silence would gain."""
    found = evaluation.confidence["overall"]
    (point,) = (p for p in found.curve if p.min_confidence == SILENT_BELOW)
    said = f"its confidence is off by {figure(found.error)} in the mean"
    if point.accuracy is None:
        return f"{said}; it never reaches {SILENT_BELOW}"
    return (
        f"{said}; silent below {SILENT_BELOW}, it would answer {point.coverage:.0%} of the "
        f"queries, {point.accuracy:.0%} of them right first"
    )


def confused(run: Run, shown: int) -> str:
    """How many pairs there are, and which are shown."""
    pairs, misses = run.mistakes.confused, run.mistakes.misses.height
    often = int((pairs["misses"] > 1).sum())
    which = "these are shown" if shown == often else f"{shown} of them are shown"
    some = f"{often:,} of them more than once; {which}" if often else f"none of them twice; {which}"
    return (
        f"{misses:,} of {run.mistakes.queries:,} queries were given a wrong answer first. That is "
        f"{pairs.height:,} pairs of answers, {some}."
    )


def missed(run: Run, most: int) -> str:
    """How many misses there are, and how many are shown."""
    count = run.mistakes.misses.height
    drawn = f" Of {count:,} misses, {DRAWN:,} are drawn, by lot." if count > DRAWN else ""
    listed = f"The {most} worst are in the tables." if count > most else ""
    return f"{listed}{drawn}".strip()


def made(examination: Examination) -> str:
    """Of what, by what, the page was made."""
    runs = _joined([str(run.folder) for run in examination.runs])
    return (
        "This page shows queries as people wrote them: give it only to those who may read them. "
        f"Made by twinrank {__version__} from {runs} and the data set of fingerprint "
        f"{examination.dataset.fingerprint}."
    )


def _of_run(run: Run) -> str:
    found = run.evaluation
    overall, around = found.overall, found.intervals["overall"]["accuracy@3"]
    said = (
        f"{run.name} has a right answer among its first three for {figure(overall['accuracy@3'])} "
        f"of the queries{_within(around)}"
    )
    if len(found.types) > 1:
        types = (f"{figure(of['accuracy@3'])} of {kind}" for kind, of in found.types.items())
        said += f": {_joined(list(types))}"
    said += f". Its MAP@10 is {figure(overall['map@10'])}"
    if len(found.types) > 1:
        worst = min(found.types, key=lambda kind: found.types[kind]["map@10"])
        said += f", at its worst {figure(found.worst['map@10'])}, for {worst}"
    said += f". {_capital(silence(found))}." if found.confidence else "."
    pairs = run.mistakes.confused
    if pairs.height and pairs["misses"][0] > 1:
        titles, pair = titles_of(run), pairs.row(0, named=True)
        said += (
            f" It mistakes “{titles[pair['one']]}” and “{titles[pair['other']]}” for each other "
            f"most often: {pair['misses']} times."
        )
    return said


def _within(bounds: tuple[float, float] | None) -> str:
    return f" ({interval(bounds)})" if bounds else ""


def _is(p: float) -> str:
    shown = p_value(p)
    return shown if shown.startswith("<") else f"= {shown}"


def _joined(names: Sequence[str]) -> str:
    *head, last = names
    return f"{', '.join(head)} and {last}" if head else last


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
