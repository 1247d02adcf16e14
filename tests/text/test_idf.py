import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer

from twinrank.text import Idf

TEXTS = [
    "Nulstil din adgangskode: åbn Indstillinger, så Konti.",
    "Reset the password, then reset the PIN_2.",
    "The password is a b c.",
    "",
]


def test_weights_are_those_of_scikit_learn():
    vectorizer = TfidfVectorizer().fit(TEXTS)
    words = list(vectorizer.vocabulary_)
    expected = vectorizer.idf_[[vectorizer.vocabulary_[word] for word in words]]
    assert Idf.of(TEXTS).weights(words) == pytest.approx(expected, rel=1e-12)
    assert {"åbn", "pin_2"} < set(words)


def test_a_new_word_is_as_rare_as_one_seen_once():
    idf = Idf.of(TEXTS)
    assert idf.counts == {"password": 2, "the": 2}
    new, once, twice = idf.weights(["unheard", "reset", "the"])
    assert new == once > twice


def test_many_texts_are_counted_in_parts(monkeypatch):
    whole = Idf.of(TEXTS * 3)
    monkeypatch.setattr("twinrank.text.idf.AT_ONCE", 2)
    assert Idf.of(TEXTS * 3) == whole
    assert whole.counts["reset"] == 3


def test_it_is_kept_as_it_was(tmp_path):
    idf = Idf.of(TEXTS)
    idf.save(tmp_path / "idf.json")
    with (tmp_path / "idf.json").open("rb") as stream:
        assert Idf.load(stream) == idf


def test_no_texts_are_no_error():
    assert Idf.of([]) == Idf(0, {})
    assert np.isfinite(Idf(0, {}).weights(["word"])).all()
