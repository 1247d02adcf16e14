"""Rules that people write beside a ranker: pinned answers, and words that mean the same."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from twinrank.arguments import MAX_RULES_CHARACTERS
from twinrank.data.texts import MARKED, normalise_text
from twinrank.errors import RankerError, TwinrankError, describe_faults
from twinrank.files import parse_toml, read_text

RULES = "rules.toml"  # in a ranker's folder, beside its versions
MAX_RULES = 500  # of a kind


def _check_words(phrase: str) -> str:
    if not any(map(str.isalnum, phrase)):
        raise ValueError("has no word; give it one")
    return phrase


Phrase = Annotated[str, Field(max_length=200), AfterValidator(_check_words)]


class _Rule(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Pin(_Rule):
    """An answer that comes first for a query of these words, or that `contains` them in a row."""

    query: Phrase
    answer: str
    contains: bool = False


class Synonyms(_Rule):
    """Words that mean the same as each other; or only, one way, what `means` says."""

    words: Annotated[tuple[Phrase, ...], Field(min_length=1, max_length=50)]
    means: Annotated[tuple[Phrase, ...], Field(max_length=50)] = ()

    @model_validator(mode="after")
    def _mean_something(self) -> Synonyms:
        if not self.means and len(self.words) == 1:
            raise ValueError("one word alone; give it others, or say what it `means`")
        return self


class Rules(BaseModel):
    """Pins and synonyms. They are no part of training, and take effect at once.

        [[pins]]
        query = "refund"
        answer = "billing-7"

        [[synonyms]]
        words = ["vpn", "tunnel"]

    Attributes:
        text: of the file they are from.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    pins: Annotated[tuple[Pin, ...], Field(max_length=MAX_RULES)] = ()
    synonyms: Annotated[tuple[Synonyms, ...], Field(max_length=MAX_RULES)] = ()
    text: Annotated[str, Field(exclude=True)] = ""

    @classmethod
    def load(cls, ranker: Path, former: Rules | None = None) -> Rules:
        """Read the rules in a ranker's folder, unless they are the `former` ones."""
        text = read_rules(ranker)
        return former if former and text == former.text else cls.parse(text, str(ranker / RULES))

    @classmethod
    def parse(cls, text: str, source: str = RULES) -> Rules:
        """Read the text of a file of rules.

        Raises:
            RankerError: with the source, and the line or the field that is wrong.
        """
        if len(text) > MAX_RULES_CHARACTERS:
            raise RankerError(
                f"{source}: more than {MAX_RULES_CHARACTERS:,} characters; leave some out"
            )
        try:
            return cls.model_validate({**parse_toml(text, source), "text": text})
        except ValidationError as error:
            raise RankerError(f"{source}: {describe_faults(error)}") from None
        except TwinrankError as error:
            raise RankerError(f"{error}") from None

    def __bool__(self) -> bool:
        """Whether there is a rule."""
        return bool(self.pins or self.synonyms)

    def find_pin(self, text: str) -> Pin | None:
        """Return the first pin that is for a query; case, punctuation and white space aside."""
        query = _words_of(text) if self.pins else ""
        for pin in self.pins:
            words = _words_of(pin.query)
            if words == query or (pin.contains and _stands_in(words, query)):
                return pin
        return None

    def expand(self, texts: Sequence[str]) -> list[str]:
        """Return each text with synonyms behind its words, once, but for those that it has."""
        return [self._expand(text) for text in texts]

    def _expand(self, text: str) -> str:
        words = _words_of(text) if self.synonyms else ""
        meanings = {w: means for w, means in self._meanings.items() if _stands_in(w, words)}
        if not meanings:
            return text

        def add_synonyms(match: re.Match[str]) -> str:
            nonlocal words
            means = meanings.get(_words_of(match[0]), ())
            new = [word for word in means if not _stands_in(_words_of(word), words)]
            words = " ".join((words, *map(_words_of, new)))
            return " ".join((match[0], *new))

        longest_first = sorted(meanings, key=len, reverse=True)
        pattern = "|".join(map(_write_pattern, longest_first))
        return re.sub(pattern, add_synonyms, normalise_text(text), flags=re.IGNORECASE)

    @cached_property
    def _meanings(self) -> dict[str, list[str]]:
        """What is added to a query for some words of it, by these words."""
        meanings: dict[str, list[str]] = {}
        for group in self.synonyms:
            for phrase in group.words:
                others = group.means or [word for word in group.words if word != phrase]
                meanings.setdefault(_words_of(phrase), []).extend(others)
        return meanings


def read_rules(ranker: Path) -> str:
    """Return the text of the rules in a ranker's folder, empty if there is no such file."""
    file = ranker / RULES
    return read_text(file, "file of rules") if file.exists() else ""


def _words_of(text: str) -> str:
    """Return the words of a text in lower case, with single spaces between."""
    return " ".join(re.findall(r"[^\W_]+", normalise_text(text).lower()))


def _stands_in(words: str, text: str) -> bool:
    """Return whether words stand in a row in a text's; both as `_words_of` gives them.

    In scripts without spaces they may begin and end anywhere.
    """
    left, right = ("" if re.match(f"[{MARKED}]", edge) else " " for edge in (words[0], words[-1]))
    return f"{left}{words}{right}" in f" {text} "


def _write_pattern(words: str) -> str:
    """Write the pattern that finds words, as `_words_of` gives them, in a text as it is."""
    inner = r"[\W_]+".join(map(re.escape, words.split()))
    left, right = (
        "" if re.match(f"[{MARKED}]", edge) else bound
        for edge, bound in ((words[0], r"(?<![^\W_])"), (words[-1], r"(?![^\W_])"))
    )
    return f"{left}{inner}{right}"
