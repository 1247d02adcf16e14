"""Texts to sentences, by sentencex, whose rules know a language's abbreviations."""

from __future__ import annotations

import sentencex

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
