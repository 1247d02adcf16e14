"""Questions made of the articles themselves, to train on where nobody has labelled a query yet."""

from __future__ import annotations

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl

from twinrank.data import Dataset
from twinrank.data.texts import answer_texts, space_words, split_sentences, titled_sections
from twinrank.data.validation import SYNTHETIC
from twinrank.encoding import FeatureStore
from twinrank.errors import TwinrankError, first_line
from twinrank.languages import detect_language
from twinrank.progress import progress_bar
from twinrank.recipe import Recipe
from twinrank.training.train import train

PASSAGES_PER_SECTION, SENTENCES_PER_PASSAGE = 2, 3
DROPPED_WORDS = 0.3  # of a passage, so that it does not repeat the article word by word
ROUND_TRIP_DEPTH = 3  # the untrained encoder must rank a question's own article so high
VALIDATION_SHARE = 0.2
TEXTS_AT_ONCE = 512
# Of the language model.
PARALLEL_REQUESTS, TIMEOUT_S, RETRIES = 4, 60, 4
MAX_ARTICLE_CHARACTERS, MAX_QUESTION_CHARACTERS, QUESTIONS_PER_ARTICLE = 6_000, 300, 5
PROMPT = (
    f"Write {QUESTIONS_PER_ARTICLE} questions or problems that different customers would type into "
    "a help centre's search, each of which this article solves. Use their words, not the "
    "article's: short, plain, some of them vague. Write in the language of the article, one a "
    "line, and nothing else."
)

log = logging.getLogger(__name__)


class Question(NamedTuple):
    """A text, the id of the answer it is made of, and the part that gave it."""

    text: str
    answer: str
    source: str


@dataclass(frozen=True)
class LanguageModel:
    """A model behind an endpoint that speaks as OpenAI's does; `$OPENAI_API_KEY` is its key.

    Attributes:
        file: keeps its replies: after a kill, no article is sent again.
    """

    name: str
    endpoint: str | None
    file: Path

    def write_questions(self, answers: pl.DataFrame) -> list[Question]:
        """Have the model write questions of each answer.

        Raises:
            TwinrankError: if it cannot be reached, or refuses; what it has written is kept.
        """
        from openai import OpenAI, OpenAIError

        texts = dict(zip(answers["id"], answer_texts(answers), strict=True))
        replies = self._read_replies()
        keys = {id_: self._key_of(text) for id_, text in texts.items()}
        missing = [id_ for id_, key in keys.items() if key not in replies]
        self.file.parent.mkdir(parents=True, exist_ok=True)
        try:
            client = OpenAI(base_url=self.endpoint, timeout=TIMEOUT_S, max_retries=RETRIES)

            def ask(id_: str) -> tuple[str, str]:
                reply = client.chat.completions.create(
                    model=self.name,
                    messages=[
                        {"role": "system", "content": PROMPT},
                        {"role": "user", "content": texts[id_][:MAX_ARTICLE_CHARACTERS]},
                    ],
                )
                choices = reply.choices or []  # some servers give none
                return keys[id_], (choices[0].message.content if choices else "") or ""

            with (
                self.file.open("a", encoding="utf-8") as stream,
                ThreadPoolExecutor(PARALLEL_REQUESTS) as pool,
                progress_bar("Asking the model", len(missing), unit="articles") as advance,
            ):
                try:
                    stream.write("\n" if stream.tell() else "")  # a kill may have cut a line
                    for key, reply in pool.map(ask, missing):
                        replies[key] = reply
                        stream.write(json.dumps({"key": key, "reply": reply}) + "\n")
                        stream.flush()
                        advance(1)
                finally:
                    pool.shutdown(cancel_futures=True)
        except OpenAIError as error:
            raise TwinrankError(
                f"the model {self.name!r} at {self.endpoint or 'OpenAI'}: {first_line(error)}; "
                f"check --endpoint, --model and $OPENAI_API_KEY, and run it again: what it wrote "
                f"is in {self.file}"
            ) from None
        lines = {id_: _read_lines(replies[key]) for id_, key in keys.items()}
        return [Question(line, id_, "model") for id_, mine in lines.items() for line in mine]

    def _key_of(self, text: str) -> str:
        return hashlib.sha256(json.dumps([self.name, PROMPT, text]).encode()).hexdigest()[:32]

    def _read_replies(self) -> dict[str, str]:
        """Read the replies of before; a line that a kill cut short is asked for again."""
        replies: dict[str, str] = {}
        lines = self.file.read_text("utf-8").splitlines() if self.file.exists() else []
        for line in filter(str.strip, lines):
            try:
                row = json.loads(line)
                replies[row["key"]] = row["reply"]
            except (ValueError, KeyError, TypeError):
                log.warning("%s: a line is no reply, and is asked for again", self.file)
        return replies


def _read_lines(reply: str) -> list[str]:
    """Return the questions of a reply, without bullets and numbers before them."""
    lines = [line.strip().lstrip("-*•0123456789.) \t").strip('"') for line in reply.splitlines()]
    return [line[:MAX_QUESTION_CHARACTERS] for line in lines if any(map(str.isalnum, line))]


@dataclass(frozen=True)
class Bootstrapped:
    """A data set with synthetic queries, and how many were made and stayed, by their source."""

    dataset: Dataset
    made: dict[str, int]
    used: dict[str, int]


def bootstrap(
    dataset: Dataset,
    *,
    recipe: Recipe,
    model: LanguageModel | None = None,
    seed: int = 0,
    store: FeatureStore,
    device: str = "auto",
) -> Bootstrapped:
    """Add synthetic queries to a data set, labelled with the answers they are made of.

    They are titles, titles with a section's heading, passages of a few sentences with some words
    left out, and what a language model writes, if one is given. Of these stay the ones for which
    the recipe's encoder, untrained, ranks the answer among its first three (round-trip
    consistency: Alberti et al. 2019, arXiv:1906.05416). They are of the type `synthetic`; a fifth
    of them goes to validation, unless the data has labels there; a ranker chosen by these knows no
    confidence, which would be that of the articles' own words. What a data set has from an
    earlier call is replaced.

    Raises:
        TwinrankError: if no question can be made, or none stays.
    """
    if recipe.encoder is None:
        raise TwinrankError(f"{recipe.name} takes no encoder; choose another recipe, such as even")
    dataset = _without_synthetic(dataset)
    made = list(_make_questions(dataset, np.random.default_rng(seed)))
    if model:
        made += model.write_questions(dataset.answers)
    made = list({question.text.casefold(): question for question in reversed(made)}.values())[::-1]
    if not made:
        raise TwinrankError(f"{dataset.name}: its answers hold no text to make questions of")
    everything = _add_queries(dataset, made, seed)
    used = _return_home(everything, made, recipe, store, device)
    if not used:
        raise TwinrankError(
            f"{dataset.name}: of {len(made):,} questions none leads back to its answer; check "
            "that the encoder reads the answers' language"
        )
    counts = [dict(Counter(q.source for q in questions)) for questions in (made, used)]
    return Bootstrapped(_add_queries(dataset, used, seed), *counts)


def _make_questions(dataset: Dataset, rng: np.random.Generator) -> Iterator[Question]:
    language = detect_language(answer_texts(dataset.answers)).name
    sections = titled_sections(dataset.answers)
    for answer, parts in zip(dataset.answers.iter_rows(named=True), sections, strict=True):
        id_, title = answer["id"], answer["title"].strip()
        if title:
            yield Question(title, id_, "title")
        for heading, text in parts:
            if heading:
                yield Question(f"{title} {heading}".strip(), id_, "heading")
            sentences = split_sentences(text, language)
            starts = max(1, len(sentences) - SENTENCES_PER_PASSAGE + 1)
            for start in rng.permutation(starts)[:PASSAGES_PER_SECTION]:
                passage = " ".join(sentences[start : start + SENTENCES_PER_PASSAGE])
                words = np.array(space_words(passage).split())
                fewer = " ".join(words[rng.random(len(words)) > DROPPED_WORDS])
                if any(map(str.isalnum, fewer)):
                    yield Question(fewer, id_, "passage")


def _return_home(
    dataset: Dataset, questions: list[Question], recipe: Recipe, store: FeatureStore, device: str
) -> list[Question]:
    """Return the questions whose own answer the untrained encoder ranks high."""
    untrained = Recipe.load("zero-shot")
    settings, plain = recipe.encoder, untrained.encoder
    if settings and plain:
        limit = min(settings.max_tokens, plain.max_tokens)
        plain = plain.model_copy(update={"name": settings.name, "max_tokens": limit})
        untrained = untrained.model_copy(update={"encoder": plain})
    ranker = train(dataset, untrained, store=store, device=device)
    row_of = {id_: row for row, id_ in enumerate(ranker.answers["id"])}
    ranker.prepare([question.text for question in questions])
    used = []
    for start in range(0, len(questions), TEXTS_AT_ONCE):
        chunk = questions[start : start + TEXTS_AT_ONCE]
        scores = ranker.scores([question.text for question in chunk])
        rows = np.arange(len(chunk))
        its_answer = scores[rows, [row_of[question.answer] for question in chunk]]
        better = (scores > its_answer[:, None]).sum(axis=1)
        used += [q for q, count in zip(chunk, better, strict=True) if count < ROUND_TRIP_DEPTH]
    return used


def _without_synthetic(dataset: Dataset) -> Dataset:
    queries = dataset.queries.filter(pl.col("type") != SYNTHETIC)
    labels = dataset.labels.filter(pl.col("query").is_in(queries["id"].implode()))
    return replace(dataset, queries=queries, labels=labels)


def _add_queries(dataset: Dataset, questions: list[Question], seed: int) -> Dataset:
    ids = [f"{SYNTHETIC}-{number}" for number in range(len(questions))]
    taken = set(ids).intersection(dataset.queries["id"])
    if taken:
        raise TwinrankError(f"{dataset.name}: has a query {min(taken)!r} of its own; rename it")
    queries = pl.DataFrame(
        {
            **{"id": ids, "type": SYNTHETIC, "thread": ids},
            "text": [question.text for question in questions],
            "metadata": [json.dumps({"source": question.source}) for question in questions],
        }
    ).select(dataset.queries.columns)
    share = 0 if "validation" in dataset.labels["split"] else VALIDATION_SHARE
    is_held_back = np.random.default_rng(seed).permutation(len(ids)) < len(ids) * share
    labels = pl.DataFrame(
        {
            "query": ids,
            "answer": [question.answer for question in questions],
            "split": np.where(is_held_back, "validation", "train"),
        }
    )
    return replace(
        dataset,
        queries=pl.concat([dataset.queries, queries]),
        labels=pl.concat([dataset.labels, labels]),
        folder=None,
    )
