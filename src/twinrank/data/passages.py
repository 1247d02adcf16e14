"""What an encoder may read of answers: each as a whole, or section by section."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import polars as pl
from jaxtyping import Int


class Readable(NamedTuple):
    """A text for an encoder, and its parts, for those who read some sentences of it alone.

    Attributes:
        whole: from beginning to end.
        title: as it stands before other text; may be empty.
        sections: what follows it, undivided or section by section.
    """

    whole: str
    title: str
    sections: tuple[str, ...]

    @classmethod
    def plain(cls, text: str) -> Readable:
        """A text without a title, as queries are."""
        return cls(text, "", (text,))


def answer_texts(answers: pl.DataFrame) -> list[str]:
    """Each answer as a whole: `title. text`.

    No full stop is put behind a title that ends a sentence itself.
    """
    pairs = zip(answers["title"].str.strip_chars(), answers["text"].str.strip_chars(), strict=True)
    return [_joined(title, text) for title, text in pairs]


def section_texts(answers: pl.DataFrame) -> tuple[list[str], Int[np.ndarray, " v"]]:
    """The sections of m answers, `title. section title. text` each, and whose they are, rising.

    An answer without sections is read as a whole, so that each has one text or more.
    """
    texts, owners = readable_sections(answers)
    return [text.whole for text in texts], owners


def readable_answers(answers: pl.DataFrame, *, by_section: bool = False) -> list[Readable]:
    """Each answer as a whole; its text undivided or, if it has sections, divided into them."""
    found = []
    for whole, answer in zip(answer_texts(answers), answers.iter_rows(named=True), strict=True):
        parts = _sections(answer) if by_section else []
        divided = tuple(_joined(heading, text) for heading, text in parts)
        found.append(Readable(whole, _sentence(answer["title"]), divided or (answer["text"],)))
    return found


def readable_sections(answers: pl.DataFrame) -> tuple[list[Readable], Int[np.ndarray, " v"]]:
    """Texts and owners as in `section_texts`; a section's title stays with its answer's."""
    texts: list[Readable] = []
    owners: list[int] = []
    wholes = readable_answers(answers)
    for owner, (whole, answer) in enumerate(
        zip(wholes, answers.iter_rows(named=True), strict=True)
    ):
        title = answer["title"].strip()
        read = [
            Readable(
                _joined(title, _joined(heading, text)),
                f"{_sentence(title)} {_sentence(heading)}".strip(),
                (text,),
            )
            for heading, text in _sections(answer)
        ] or [whole]
        texts += read
        owners += [owner] * len(read)
    return texts, np.array(owners, np.int64)


def titled_sections(answers: pl.DataFrame) -> list[list[tuple[str, str]]]:
    """Title and text of what `section_texts` reads of each answer; one title is empty if whole."""
    return [
        _sections(answer) or [("", answer["text"].strip() or answer["title"].strip())]
        for answer in answers.iter_rows(named=True)
    ]


def _sections(answer: dict[str, Any]) -> list[tuple[str, str]]:
    """Title and text of each section that has any; not the answer's title once more."""
    parts = [(part["title"].strip(), part["text"].strip()) for part in answer["sections"] or []]
    title = answer["title"].strip()
    return [
        (heading if heading != title else "", text) for heading, text in parts if heading or text
    ]


def _joined(title: str, text: str) -> str:
    return f"{_sentence(title)} {text}" if title and text else title or text


def _sentence(title: str) -> str:
    title = title.strip()
    return title if not title or title[-1] in ".?!" else f"{title}."
