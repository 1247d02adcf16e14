import pytest
import Stemmer

from twinrank.errors import TwinrankError
from twinrank.text import sentences
from twinrank.text.sentences import CODES


def test_english_abbreviations_end_no_sentence():
    text = "Ask Dr. Jones, i.e. our vet. Is it v. 2.0? Yes!"
    assert sentences(text, "english") == ["Ask Dr. Jones, i.e. our vet.", "Is it v. 2.0?", "Yes!"]


def test_danish_abbreviations_end_no_sentence():
    text = "Hej hr. Jensen. Hvad koster det f.eks. i dag? Ca. 20 kr. om ugen. Tak!"
    assert sentences(text, "danish") == [
        "Hej hr. Jensen.",
        "Hvad koster det f.eks. i dag?",
        "Ca. 20 kr. om ugen.",
        "Tak!",
    ]


def test_the_language_decides():
    text = "Det sker d. 3. maj. Husk det."
    assert sentences(text, "danish") == ["Det sker d. 3. maj.", "Husk det."]
    assert sentences(text, "english") != sentences(text, "danish")


def test_the_end_of_a_line_ends_a_sentence():
    text = "Other ways\n- press this\n\n  - or that  \nUser: hi\nHelper: hello"
    expected = ["Other ways", "- press this", "- or that", "User: hi", "Helper: hello"]
    assert sentences(text, "english") == expected


def test_nothing_has_no_sentence():
    assert sentences(" \n ", "english") == []


def test_every_language_of_a_recipe_has_rules():
    assert set(Stemmer.algorithms()) <= set(CODES)
    with pytest.raises(TwinrankError, match="no rules for sentences in 'klingon'; choose arabic"):
        sentences("nuqneH", "klingon")
