"""Words of many languages, and which language a data set is in."""

import unicodedata

import bm25s
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinrank.data.texts import normalise_text, space_words
from twinrank.languages import LANGUAGE_CODES, detect_language
from twinrank.ranking import Bm25

# A sentence of each, and words of it that BM25 has to find, as Snowball stems them.
SENTENCES = [
    ("english", "I forgot my password", ["forgot", "password"]),
    ("danish", "Jeg har glemt mine adgangskoder", ["glemt", "adgangskod"]),
    ("german", "Ich habe meine Rechnungen verloren", ["rechnung", "verlor"]),
    ("russian", "Я забыл свои пароли", ["заб", "парол"]),
    ("ukrainian", "Я забув свій пароль", ["забув", "свій", "пароль"]),
    ("turkish", "Şifremi unuttum", ["şifre"]),
    ("hindi", "मैं अपना पासवर्ड भूल गया", ["पासवर्ड", "भूल"]),
    ("bengali", "আমি পাসওয়ার্ড ভুলে গেছি", ["পাসওয়ার্ড", "ভুলে"]),
    ("tamil", "என் கடவுச்சொல் மறந்துவிட்டது", []),
    ("japanese", "請求書を印刷する方法", ["請求", "書", "印刷", "方法"]),
    ("chinese", "如何重置密码", ["如何", "密码"]),
    ("thai", "ฉันลืมรหัสผ่าน Firefox", ["ลืม", "รหัส", "ผ่าน", "firefox"]),
    ("lao", "ຂ້ອຍລືມລະຫັດຜ່ານ", ["ລືມ", "ລະຫັດ", "ຜ່ານ"]),
    ("khmer", "ខ្ញុំភ្លេចពាក្យសម្ងាត់", ["ខ្ញុំ", "ភ្លេច"]),
    ("burmese", "စကားဝှက်ကို မေ့သွားတယ်", ["စကားဝှက်", "မေ့"]),
    ("korean", "비밀번호를 잊어버렸습니다", ["비밀번호를", "잊어버렸습니다"]),
    ("hebrew", "שכחתי את הסיסמה", ["שכחתי", "הסיסמה"]),
    ("arabic", "نسيت كلمة المرور", []),
]


def words_of(text, language):
    return Bm25([text], language=language)._words[0]


@pytest.mark.parametrize(("language", "text", "words"), SENTENCES)
def test_words_are_cut_as_the_language_has_them(language, text, words):
    found = words_of(text, language)
    assert set(words) <= set(found), found
    assert 1 < len(found) <= len(text) / 1.5


@pytest.mark.parametrize(("language", "text"), [sentence[:2] for sentence in SENTENCES])
def test_the_language_is_detected(language, text):
    if language == "russian":
        text = "Я забыл свои пароли. Как восстановить доступ к учётной записи?"
    detected = detect_language([text, "12 345", ""])
    assert (detected.name, detected.code) == (language, LANGUAGE_CODES[language])
    assert detected.share == 1
    assert f"{language}, detected in 100%" in str(detected)


def test_a_language_without_a_name_and_no_language_are_other():
    gaelic = (
        "Tha mi air mo fhacal-faire a dhìochuimhneachadh agus chan urrainn dhomh logadh a-steach"
    )
    assert detect_language([gaelic]).name == "other"
    assert "(gd, which has no rules of its own)" in str(detect_language([gaelic]))
    assert detect_language([]).name == detect_language(["", "12"]).name == "other"
    assert words_of("Tha mi air mo fhacal", "other") == ["tha", "mi", "air", "mo", "fhacal"]


def test_the_language_of_most_texts_wins_and_its_share_is_given():
    danish, english = "Hvordan nulstiller jeg min adgangskode?", "How do I reset my password?"
    detected = detect_language([danish, english, danish])
    assert detected.name == "danish"
    assert detected.share == pytest.approx(2 / 3)


def test_one_word_of_a_sentence_without_spaces_finds_its_title():
    titles = ["パスワードを再設定する方法", "請求書をダウンロードする", "アカウントを削除する"]
    scores = Bm25(titles, language="japanese").score_texts(["請求書", "パスワード", "削除"])
    assert scores.argmax(axis=1).tolist() == [1, 0, 2]
    assert ((scores > 0).sum(axis=1) == 1).all()


def test_words_of_the_help_centre_are_those_of_bm25s(help_centre):
    texts = [*help_centre.answer_texts(), *help_centre.queries["text"]]
    plain = bm25s.tokenize(texts, stopwords=[], return_ids=False, show_progress=False)
    assert [words_of(text, "other") if text else [] for text in texts[:200]] == plain[:200]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("pass\u00adword", "password"),
        ("fir\u200bst\ufeff", "first"),
        ("e\u0301a\u030a", "éå"),
        ("a\u200d\u0301", "á"),
        ("plain text\n", "plain text\n"),
    ],
)
def test_text_is_composed_without_invisible_characters(text, expected):
    assert normalise_text(text) == expected


@given(
    st.text(st.characters(codec="utf-8") | st.sampled_from("\u00ad\u200b\u0301\u0328\u1100\u1161"))
)
def test_normalising_and_spacing_twice_changes_nothing(text):
    once = normalise_text(text)
    assert normalise_text(once) == once == unicodedata.normalize("NFC", once)
    spaced = space_words(text)
    assert not any(spaced.count(mark) for mark in "\u00ad\u200b\ufeff")
    assert normalise_text(spaced) == spaced


@given(st.text())
def test_words_of_any_text_hold_a_letter_or_a_digit_and_no_space(text):
    for word in Bm25(["word", text], language="other")._words[1]:
        assert any(map(str.isalnum, word.replace("_", "a")))
        assert " " not in word
