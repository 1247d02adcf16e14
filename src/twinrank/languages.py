"""The languages of texts: their names and codes, and which one a data set is written in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

# The names that a recipe takes, as Snowball calls its languages, and their ISO 639 codes.
LANGUAGE_CODES = {
    **{"arabic": "ar", "armenian": "hy", "basque": "eu", "catalan": "ca", "czech": "cs"},
    **{"danish": "da", "dutch": "nl", "dutch_porter": "nl", "english": "en", "esperanto": "eo"},
    **{"estonian": "et", "finnish": "fi", "french": "fr", "german": "de", "greek": "el"},
    **{"hindi": "hi", "hungarian": "hu", "indonesian": "id", "irish": "ga", "italian": "it"},
    **{"lithuanian": "lt", "nepali": "ne", "norwegian": "no", "persian": "fa", "polish": "pl"},
    **{"porter": "en", "portuguese": "pt", "romanian": "ro", "russian": "ru", "serbian": "sr"},
    **{"sesotho": "st", "spanish": "es", "swedish": "sv", "tamil": "ta", "turkish": "tr"},
    "yiddish": "yi",
    # Without a stemmer: words are compared as they are.
    **{"bengali": "bn", "bulgarian": "bg", "burmese": "my", "chinese": "zh", "croatian": "hr"},
    **{"faroese": "fo", "gujarati": "gu", "hebrew": "he", "icelandic": "is", "japanese": "ja"},
    **{"kannada": "kn", "khmer": "km", "korean": "ko", "lao": "lo", "latvian": "lv"},
    **{"macedonian": "mk", "malay": "ms", "malayalam": "ml", "marathi": "mr", "punjabi": "pa"},
    **{"sinhala": "si", "slovak": "sk", "slovenian": "sl", "telugu": "te", "thai": "th"},
    **{"ukrainian": "uk", "urdu": "ur", "vietnamese": "vi"},
    "other": "en",  # any that has no name here; sentences end as in English
}
VARIANTS = {"nn": "no", "nb": "no", "yue": "zh", "wuu": "zh", "ary": "ar", "arz": "ar"}
NAMES = {LANGUAGE_CODES[name]: name for name in reversed(LANGUAGE_CODES) if name != "other"}
MAX_TEXTS, MAX_CHARACTERS_A_TEXT = 1_000, 1_000  # that are looked at


class DetectedLanguage(NamedTuple):
    """The language of texts: its name in a recipe, its code, and the share of texts in it."""

    name: str
    code: str
    share: float

    def __str__(self) -> str:
        unnamed = f" ({self.code}, which has no rules of its own)" if self.name == "other" else ""
        return f"{self.name}{unnamed}, detected in {self.share:.0%} of the answers"


def detect_language(texts: Sequence[str]) -> DetectedLanguage:
    """Return the language that most of some texts are in, by at most a thousand of them.

    Of languages that are as common, the one that comes first is taken. Texts that are no language,
    such as numbers, have no vote.
    """
    step = -(-len(texts) // MAX_TEXTS) or 1
    votes = _count_votes(tuple(text[:MAX_CHARACTERS_A_TEXT] for text in texts[::step]))
    if not votes:
        return DetectedLanguage("other", "none", 0.0)
    code, count = votes.most_common(1)[0]
    return DetectedLanguage(NAMES.get(code, "other"), code, count / votes.total())


@lru_cache(maxsize=4)  # a sweep asks of the same data in each run
def _count_votes(texts: tuple[str, ...]) -> Counter[str]:
    from py3langid.langid import classify  # a second to load, and only training asks

    codes = (classify(text)[0] for text in texts if text.strip())
    return Counter(VARIANTS.get(code, code) for code in codes if code != "zxx")
