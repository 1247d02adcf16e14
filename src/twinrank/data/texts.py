"""The texts that are read of answers: each as a whole, by section, and sentence by sentence."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import sentencex
from jaxtyping import Int

from twinrank.errors import TwinrankError

# The codes of sentencex for the languages of recipes, which are called as Snowball calls them.
LANGUAGE_CODES = {
    **{"arabic": "ar", "armenian": "hy", "basque": "eu", "catalan": "ca", "czech": "cs"},
    **{"danish": "da", "dutch": "nl", "dutch_porter": "nl", "english": "en", "esperanto": "eo"},
    **{"estonian": "et", "finnish": "fi", "french": "fr", "german": "de", "greek": "el"},
    **{"hindi": "hi", "hungarian": "hu", "indonesian": "id", "irish": "ga", "italian": "it"},
    **{"lithuanian": "lt", "nepali": "ne", "norwegian": "no", "persian": "fa", "polish": "pl"},
    **{"porter": "en", "portuguese": "pt", "romanian": "ro", "russian": "ru", "serbian": "sr"},
    **{"sesotho": "st", "spanish": "es", "swedish": "sv", "tamil": "ta", "turkish": "tr"},
    "yiddish": "yi",
}


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
