"""What is redacted, on made-up texts: `pytest tests/data/test_redaction.py -k states -s`."""

import json
import re
import time
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("phonenumbers")
pytest.importorskip("stdnum")

from twinrank.data.redaction import KINDS, redact_fields, redact_text

MARKED = re.compile(r"\{([a-z -]+)\|([^}]*)\}")
PLACEHOLDER = re.compile(r"\[(" + "|".join(KINDS) + r")\]")
LINES = (Path(__file__).parent / "personal_texts.txt").read_text(encoding="utf-8").splitlines()
CASES = [line.partition(" | ")[::2] for line in LINES]
# What the patterns get wrong, and the docs say so.
KNOWN_FAULTS = frozenset({"Betaling fra konto 3409 0011223344 er trukket to gange"})


def plain(marked):
    return MARKED.sub(lambda match: match[2], marked)


def expected(marked):
    return MARKED.sub(lambda match: f"[{match[1]}]", marked)


@pytest.mark.parametrize(
    "marked", [pytest.param(m, id=plain(m)[:40]) for _, m in CASES if m not in KNOWN_FAULTS]
)
def test_texts_of_people_are_redacted(marked):
    counts = Counter()
    assert redact_text(plain(marked), counts) == expected(marked)
    assert counts == Counter(match[1] for match in MARKED.finditer(marked))


def test_precision_and_recall_are_those_that_the_docs_state():
    """Counts by language: parts to redact, parts redacted, and both."""
    found_parts, wanted, right = Counter(), Counter(), Counter()
    for language, marked in CASES:
        truth = Counter(match[1] for match in MARKED.finditer(marked))
        redacted = Counter(PLACEHOLDER.findall(redact_text(plain(marked), Counter())))
        wanted[language] += truth.total()
        found_parts[language] += redacted.total()
        right[language] += (truth & redacted).total()
    for language in wanted:
        recall = right[language] / wanted[language]
        precision = right[language] / found_parts[language]
        print(f"{language}: precision {precision:.2f}, recall {recall:.2f}")
    assert len(CASES) >= 140
    assert right.total() == wanted.total() == 76
    assert found_parts.total() == 77


PARTS = [
    *(match[2] for _, marked in CASES for match in MARKED.finditer(marked)),
    *(
        "tlf ",
        "phone ",
        "order ",
        "[phone]",
        "[",
        "]",
        "+",
        "00",
        "-",
        ".",
        ",",
        " ",
        "\n",
        "@",
        "(",
        ")",
    ),
    *("0", "12", "20123456", "4111", "DK", "a", "/", "#", "=", "\u00a0", "2110625629"),
]


@settings(max_examples=400, deadline=None)
@given(st.lists(st.sampled_from(PARTS) | st.text(max_size=4), max_size=14).map("".join))
def test_redacting_twice_changes_nothing_and_lines_stay(text):
    counts = Counter()
    once = redact_text(text, counts)
    assert redact_text(once, Counter()) == once
    assert once.count("\n") == text.count("\n")
    assert len(once) <= 2 * len(text)
    lines = [redact_text(line, Counter()) for line in text.split("\n")]
    assert once == "\n".join(lines)  # no number crosses a line
    assert counts.total() == len(PLACEHOLDER.findall(once)) - len(PLACEHOLDER.findall(text))


@pytest.mark.parametrize(
    "part",
    [
        *("1", "a", ".", "@", "a@", "a.", "a@a.", "0 ", "20 ", "012 345 678 ", "+45 ", "(0) "),
        *(
            "DK00 ",
            "4111 1111 ",
            "211062-",
            "AB 12 34 ",
            "20 12 34 5 ",
            "tlf 1 ",
            "00 49 1 ",
            "\u00a0",
        ),
    ],
)
@pytest.mark.parametrize("size", [20_000, pytest.param(200_000, marks=pytest.mark.slow)])
def test_hostile_texts_take_no_longer_than_their_length(part, size):
    began = time.process_time()
    redact_text(part * (size // len(part)), Counter())
    assert time.process_time() - began < size / 10_000


def test_fields_are_redacted_by_their_names():
    counts = Counter()
    fields = {
        "phone_number": 4155552671,
        "order": 20123456,
        "channel": {"from": "jens@firma.example", "via": ["20 12 34 56", "web"]},
        "is_open": True,
        "created_at": "2025-01-02T10:00:00Z",
        "score": 0.5,
        "note": None,
    }
    redacted = json.loads(redact_fields(json.dumps(fields), counts))
    assert redacted == fields | {
        "phone_number": "[phone]",
        "channel": {"from": "[e-mail]", "via": ["[phone]", "web"]},
    }
    assert counts == {"phone": 2, "e-mail": 1}
