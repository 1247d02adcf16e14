"""What an encoder reads of answers: each as a whole, or section by section."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import polars as pl
from jaxtyping import Int


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
    texts: list[str] = []
    owners: list[int] = []
    for owner, (whole, answer) in enumerate(
        zip(answer_texts(answers), answers.iter_rows(named=True), strict=True)
    ):
        read = list(_sections(answer["title"].strip(), answer["sections"] or [])) or [whole]
        texts += read
        owners += [owner] * len(read)
    return texts, np.array(owners, np.int64)


def _sections(title: str, sections: list[dict[str, str]]) -> Iterator[str]:
    for section in sections:
        heading, text = section["title"].strip(), section["text"].strip()
        if heading or text:
            own = _joined(heading, text) if heading != title else text
            yield _joined(title, own)


def _joined(title: str, text: str) -> str:
    return _sentence(title) + text if title and text else title or text


def _sentence(title: str) -> str:
    return f"{title} " if title[-1] in ".?!" else f"{title}. "
