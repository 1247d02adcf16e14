import pytest

from tests.exploration.conftest import dataset
from twinrank.exploration import explore

QUERIES = [
    ("q0", "mail", "t0", "Where is my parcel?\n\nKind regards\nUnity Marsh"),
    ("q1", "chat", "t1", "Bot: Hi, I'm the virtual assistant.\nUser: the parcel is gone"),
    ("q2", "mail", "t2", "The parcel came twice."),
    ("q3", "chat", "t3", "User: the parcel is wet"),
]


@pytest.mark.parametrize(
    ("queries", "found_names"),
    [(QUERIES, ["mails", "chats"]), (QUERIES[1:], ["chats"]), (QUERIES[2:], [])],
)
def test_what_import_can_cut_is_found_with_an_example(queries, found_names, encoder, store):
    exploration = explore(dataset(queries, []), encoder, store)
    (check,) = [check for check in exploration.checks if check.name == "leftovers"]
    assert [finding.name for finding in check.findings] == found_names
    for finding in check.findings:
        assert finding.level == "mend"
        assert finding.figures["queries"] == 1
        assert finding.text.startswith(f"1 of {len(queries)} queries")
        assert f"--clean-{finding.name[:-1]}" in finding.advice
        example = "Kind regards Unity Marsh" if finding.name == "mails" else "I'm the virtual"
        assert example in finding.text
    assert len(check.folded) == len(found_names)
