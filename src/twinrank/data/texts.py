"""The texts that are read of answers: each as a whole, by section, and sentence by sentence."""

from __future__ import annotations

import re
import unicodedata
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import sentencex
from jaxtyping import Int

from twinrank.errors import TwinrankError
from twinrank.languages import LANGUAGE_CODES

# Soft hyphens, zero-width characters and marks of direction: they are seen by nobody.
INVISIBLE = re.compile(
    "[\u00ad\u034f\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\ufeff]"
)
# From Hebrew on, but for extensions of Latin, punctuation and what is no text: scripts with marks
# that `\w` does not hold, or without spaces, and such in which a word may be one character.
MARKED = "\u0590-\u1cff\u2e80-\ua63f\ua800-\ud7ff\uf900-\ufaff\ufb1d-\uffff\U00010000-\U0003ffff"
MARKED_TEXT = re.compile(f"[{MARKED}]+")
# The words of a text that `space_words` prepared; of other scripts those that bm25s takes.
WORD = rf"(?u)[{MARKED}]+|\b\w\w+\b"

MAX_CELL_LENGTH = 320  # characters of a text in a table
# A first line before other text; no turn ("User: ...") and no sentence of a paragraph.
TITLE_LINE = re.compile(r"\s*(?!\w[\w ]{0,30}:\s)([^\n]{1,199}[^\s.!:,;])\s*\n(?=.*\S)", re.DOTALL)


class Readable(NamedTuple):
    """A text for an encoder, and its parts, where only some of its sentences may be read.

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
        """Take a query's text apart: a short first line that ends as a title does is its title."""
        title = TITLE_LINE.match(text)
        head, rest = (title[1], text[title.end() :]) if title else ("", text)
        return cls(text, head, (rest,))


def answer_texts(answers: pl.DataFrame) -> list[str]:
    """Give each answer as a whole: `title. text`.

    No full stop is put behind a title that ends a sentence itself.
    """
    pairs = zip(answers["title"].str.strip_chars(), answers["text"].str.strip_chars(), strict=True)
    return [_join(title, text) for title, text in pairs]


def section_texts(answers: pl.DataFrame) -> tuple[list[str], Int[np.ndarray, " v"]]:
    """Give the sections of m answers, `title. section title. text`, and each one's answer (rising).

    An answer without sections is read as a whole, so that each has one text or more.
    """
    texts, owners = readable_sections(answers)
    return [text.whole for text in texts], owners


def readable_answers(answers: pl.DataFrame, *, by_section: bool = False) -> list[Readable]:
    """Give each answer as a whole; its text undivided or, if it has sections, divided into them."""
    readable = []
    for whole, answer in zip(answer_texts(answers), answers.iter_rows(named=True), strict=True):
        sections = _list_sections(answer) if by_section else []
        texts = tuple(_join(heading, text) for heading, text in sections) or (answer["text"],)
        readable.append(Readable(whole, _end_sentence(answer["title"]), texts))
    return readable


def readable_sections(answers: pl.DataFrame) -> tuple[list[Readable], Int[np.ndarray, " v"]]:
    """Give texts and owners as `section_texts`; a section's title stays with its answer's."""
    texts: list[Readable] = []
    owners: list[int] = []
    wholes = zip(readable_answers(answers), answers.iter_rows(named=True), strict=True)
    for row, (whole, answer) in enumerate(wholes):
        title = answer["title"].strip()
        sections = [
            Readable(
                _join(title, _join(heading, text)),
                f"{_end_sentence(title)} {_end_sentence(heading)}".strip(),
                (text,),
            )
            for heading, text in _list_sections(answer)
        ]
        texts += sections or [whole]
        owners += [row] * max(len(sections), 1)
    return texts, np.array(owners, np.int64)


def titled_sections(answers: pl.DataFrame) -> list[list[tuple[str, str]]]:
    """Give title and text of all that `section_texts` reads; one without a title for a whole."""
    return [
        _list_sections(answer) or [("", answer["text"].strip() or answer["title"].strip())]
        for answer in answers.iter_rows(named=True)
    ]


def shorten(text: str, length: int = MAX_CELL_LENGTH) -> str:
    """Write a text in one line, cut with an ellipsis if it is longer than so many characters."""
    words = " ".join(text.split())
    return words if len(words) <= length else f"{words[: length - 1]}…"


def normalise_text(text: str) -> str:
    """Return a text as words are counted in it: composed (NFC), without invisible characters.

    An encoder reads the text as it is: its tokenizer does this its own way.
    """
    return text if text.isascii() else unicodedata.normalize("NFC", INVISIBLE.sub("", text))


def space_words(text: str) -> str:
    """Normalise a text, and put spaces between the words of scripts that have none.

    ICU finds them: by dictionary in Chinese, Japanese, Thai, Lao, Khmer and Burmese. English and
    whatever else stands between them is not changed, so that it is the same words everywhere.
    """
    return MARKED_TEXT.sub(_space_run, normalise_text(text))


def split_sentences(text: str, language: str) -> list[str]:
    """Split a text into its sentences, without the white space around them.

    The end of a line ends a sentence: headings, items of a list and turns of a conversation
    often have no full stop.

    Args:
        text: any.
        language: as Snowball calls it: `english`, `danish`.

    Raises:
        TwinrankError: if there are no rules for that language.
    """
    if language not in LANGUAGE_CODES:
        known = ", ".join(LANGUAGE_CODES)
        raise TwinrankError(f"no rules for sentences in {language!r}; choose {known}")
    code = LANGUAGE_CODES[language]
    parts = (part.strip() for line in text.splitlines() for part in sentencex.segment(code, line))
    return [sentence for sentence in parts if sentence]


def _space_run(run: re.Match[str]) -> str:
    from icu4py.breakers import WordBreaker  # English never needs it

    words = [word for word in WordBreaker(run[0], "en") if any(map(str.isalnum, word))]
    return f" {' '.join(words)} "


def _list_sections(answer: dict[str, Any]) -> list[tuple[str, str]]:
    """Give title and text of each section that has any, but for the answer's title once more."""
    parts = [(part["title"].strip(), part["text"].strip()) for part in answer["sections"] or []]
    title = answer["title"].strip()
    return [
        (heading if heading != title else "", text) for heading, text in parts if heading or text
    ]


def _join(title: str, text: str) -> str:
    return f"{_end_sentence(title)} {text}" if title and text else title or text


def _end_sentence(title: str) -> str:
    title = title.strip()
    return title if not title or title[-1] in ".?!" else f"{title}."
