"""Odd files of BEIR and TREC, by kind: what is loaded, and what is said of the rest."""

import gzip
import json

import pytest

from tests.data.test_dataset import write
from twinrank.data import Dataset, import_tables
from twinrank.errors import DataError

CORPUS = [
    {"_id": "a1", "title": "Printer", "text": "Switch it off and on."},
    {"_id": "a2", "title": "Password", "text": "Ask for a link by e-mail."},
    {"_id": "a3", "title": "", "text": "Invoices are sent on the first of the month."},
    {"_id": "a4", "title": "Calendar", "text": "Share it under Settings."},
]
QUERIES = [
    {"_id": "q1", "text": "it prints nothing"},
    {"_id": "q2", "text": "forgot my login"},
    {"_id": "q3", "text": "where is my bill"},
    {"_id": "q4", "text": "my team sees no events"},
]
TRAIN, TEST = [("q1", "a1", 1), ("q2", "a2", 1)], [("q3", "a3", 1), ("q4", "a4", 1)]
C, Q, TR, TE = "corpus.jsonl", "queries.jsonl", "qrels/train.tsv", "qrels/test.tsv"
HEAD = "query-id\tcorpus-id\tscore\n"
SOUND = {"answers": 4, "queries": 4, "labels": 4}


def lines(*records, end="\n"):
    return "".join(
        r if isinstance(r, str) else json.dumps(r, ensure_ascii=False) + end for r in records
    )


def qrels(*rows, head=HEAD):
    return head + "".join("\t".join(map(str, row)) + "\n" for row in rows)


# What replaces a file (none: it is deleted); the counts; the beginnings of what is said, in order.
LOADED = {
    # Documents and queries
    "a document without title and text": (
        {C: lines(*CORPUS, {"_id": "a5", "title": "", "text": ""})},
        {},
        ["answers without title and text left out: 1, the first in line 5"],
    ),
    "a document of blanks": (
        {C: lines({"_id": "a0", "title": " ", "text": "\n\t"}, *CORPUS)},
        {},
        ["answers without title and text left out: 1, the first in line 1"],
    ),
    "a document with null texts": (
        {C: lines(*CORPUS, {"_id": "a5", "title": None, "text": None})},
        {},
        ["answers without title and text left out"],
    ),
    "a document without a field for the title": (
        {C: lines(*CORPUS[:3], {"_id": "a4", "text": "Share it."})},
        {},
        [],
    ),
    "a labelled document without text": (
        {C: lines(*CORPUS[:3], {"_id": "a4", "title": "", "text": ""})},
        {"answers": 3, "labels": 3},
        ["answers without title and text left out: 1, the first in line 4", "judgements of rows"],
    ),
    "a query without a text": (
        {Q: lines(*QUERIES[:3], {"_id": "q4", "text": ""})},
        {"queries": 3, "labels": 3},
        ["queries without a text left out: 1, the first in line 4", "judgements of rows that"],
    ),
    "a document twice": (
        {C: lines(*CORPUS, CORPUS[0])},
        {},
        ["repeated rows left out: 1, the first in line 5"],
    ),
    "a document twice with other words": (
        {C: lines(*CORPUS, {**CORPUS[0], "text": "Call us."})},
        {},
        ["rows left out: 1, the first in line 5 (id 'a1' stands on line 1 already)"],
    ),
    "a document twice with other metadata": (
        {C: lines(*CORPUS, {**CORPUS[0], "metadata": {"lang": "da"}})},
        {},
        ["repeated rows left out: 1, the first in line 5"],
    ),
    "a query twice": ({Q: lines(*QUERIES, QUERIES[3])}, {}, ["repeated rows left out: 1"]),
    "a query twice with other words": (
        {Q: lines(*QUERIES, {"_id": "q1", "text": "other"})},
        {},
        ["rows left out: 1, the first in line 5 (id 'q1'"],
    ),
    "metadata that is null": ({Q: lines(*({**q, "metadata": None} for q in QUERIES))}, {}, []),
    "metadata that is empty": ({C: lines(*({**c, "metadata": {}} for c in CORPUS))}, {}, []),
    "fields of SciFact": (
        {C: lines(*({**c, "metadata": {"authors": ["X"], "year": 2001}} for c in CORPUS))},
        {},
        [],
    ),
    "fields of Touché beside metadata": (
        {Q: lines(*({**q, "description": "d", "narrative": "n"} for q in QUERIES))},
        {},
        [],
    ),
    "metadata that is a text, in one row": (
        {C: lines(*CORPUS, {"_id": "a5", "text": "x", "metadata": "y"})},
        {},
        ["rows left out: 1, the first in line 5 (metadata is not an object)"],
    ),
    "a text that is a list, in one row": (
        {C: lines(*CORPUS, {"_id": "a5", "text": ["x"]})},
        {},
        ["rows left out: 1, the first in line 5 (text is a list, not text)"],
    ),
    "a row without an id": (
        {C: lines(*CORPUS, {"title": "x", "text": "y"})},
        {},
        ["rows left out: 1, the first in line 5 (empty or missing id)"],
    ),
    "id instead of _id": (
        {C: lines(*({"id": c["_id"], "title": c["title"], "text": c["text"]} for c in CORPUS))},
        {},
        [],
    ),
    "blank lines between": ({C: lines(*CORPUS[:2], "\n", " \n", *CORPUS[2:], "\n\n")}, {}, []),
    "a line that was cut": (
        {C: lines(*CORPUS) + '{"_id": "a5", "title": "Cut'},
        {},
        ["rows left out: 1, the first in line 5 (the line is not JSON"],
    ),
    "a comment and an end mark": (
        {C: "# made by a script\n" + lines(*CORPUS) + "]\n"},
        {},
        ["rows left out: 2, the first in line 1 (the line is not JSON"],
    ),
    "a number on a line": (
        {Q: lines(*QUERIES) + "4\n"},
        {},
        ["rows left out: 1, the first in line 5 (the line is not a JSON object)"],
    ),
    "a line that is not UTF-8": (
        {C: lines(*CORPUS).encode() + b'{"_id": "a5", "text": "\xff\xfe\xff"}\n'},
        {},
        ["rows left out: 1, the first in line 5 (the line is not UTF-8)"],
    ),
    "half a character": (
        {Q: lines(*QUERIES) + '{"_id": "q5", "text": "\\ud83d"}\n'},
        {},
        ["rows left out: 1, the first in line 5 (the line holds half a character"],
    ),
    "characters beyond the plane": (
        {Q: lines(*QUERIES[:3], {"_id": "q4", "text": "no 📅 at all, ฉัน"})},
        {},
        [],
    ),
    "line separators in a text": (
        {C: lines(*CORPUS[:3], {"_id": "a4", "title": "x\u2028y", "text": "z\u0085"})},
        {},
        [],
    ),
    "Windows line ends": (
        {C: lines(*CORPUS, end="\r\n"), TR: qrels(*TRAIN).replace("\n", "\r\n")},
        {},
        [],
    ),
    "line ends of an old Mac": ({C: lines(*CORPUS, end="\r")}, {}, []),
    "a byte order mark": ({C: "\ufeff" + lines(*CORPUS), TR: "\ufeff" + qrels(*TRAIN)}, {}, []),
    "UTF-16": ({C: lines(*CORPUS).encode("utf-16")}, {}, []),
    "no line end at the end": ({C: lines(*CORPUS)[:-1], TE: qrels(*TEST)[:-1]}, {}, []),
    # Judgements
    "labels of documents that are not there": (
        {TR: qrels(*TRAIN, ("q1", "a77", 1), ("q2", "a78", 1))},
        {},
        ["judgements of unknown answer ids left out: 2, the first in line 4"],
    ),
    "labels of queries that are not there": (
        {TE: qrels(("q99", "a1", 1), *TEST)},
        {},
        ["judgements of unknown query ids left out: 1, the first in line 2"],
    ),
    "scores with a point": ({TR: qrels(("q1", "a1", "1.0"), ("q2", "a2", "1.0"))}, {}, []),
    "scores with commas of words": (
        {TR: qrels(("q1", "a1", "true"), ("q2", "a2", "True"))},
        {},
        [],
    ),
    "grades": ({TR: qrels(("q1", "a1", 2), ("q2", "a2", 3))}, {}, []),
    "half grades": ({TR: qrels(("q1", "a1", 0.5), ("q2", "a2", 1.5))}, {}, []),
    "zeros and minus one": ({TR: qrels(*TRAIN, ("q1", "a2", 0), ("q2", "a1", -1))}, {}, []),
    "blanks around scores and ids": ({TR: HEAD + "q1 \t a1\t 1 \n q2\ta2 \t1\n"}, {}, []),
    "quotes around all": (
        {TR: '"query-id"\t"corpus-id"\t"score"\n"q1"\t"a1"\t"1"\n"q2"\t"a2"\t"1"\n'},
        {},
        [],
    ),
    "a judgement twice": (
        {TR: qrels(*TRAIN, TRAIN[0])},
        {},
        ["repeated judgements left out: 1, the first in line 4"],
    ),
    "a pair with two grades": (
        {TR: qrels(*TRAIN, ("q1", "a1", 2))},
        {},
        ["rows left out: 1, the first in line 4 (q1 and a1 are judged in line 2 already, 1 there"],
    ),
    "a score that is a word": (
        {TR: qrels(*TRAIN, ("q1", "a2", "perhaps"))},
        {},
        ["rows left out: 1, the first in line 4 (score 'perhaps' is no number"],
    ),
    "a score beyond all grades": (
        {TR: qrels(*TRAIN, ("q1", "a2", 99999999999999999999))},
        {},
        ["rows left out: 1, the first in line 4 (score '99999999999999999999' is no"],
    ),
    "an empty score": (
        {TR: qrels(*TRAIN, ("q1", "a2", ""))},
        {},
        ["rows left out: 1, the first in line 4 (score '' is no number"],
    ),
    "the header twice": (
        {TR: qrels(*TRAIN, HEAD.strip().split("\t"), ("q1", "a2", 1))},
        {"labels": 5},
        ["rows left out: 1, the first in line 4 (score 'score' is no number"],
    ),
    "a line with a field too many": (
        {TR: qrels(*TRAIN, ("q1", "a2", 1, "note"))},
        {},
        ["rows left out: 1, the first in line 4 (4 fields, but the header has 3)"],
    ),
    "a line with a field too few": (
        {TR: qrels(*TRAIN, ("q1", "a2"))},
        {},
        ["rows left out: 1, the first in line 4 (2 fields, but the header has 3)"],
    ),
    "blank lines at the end": ({TR: qrels(*TRAIN) + "\n\n\t\t\n"}, {}, []),
    "a query in two splits": (
        {TE: qrels(*TEST, ("q1", "a4", 1))},
        {},
        ["rows left out: 1, the first in line 4 (thread 'q1' is judged in another split too"],
    ),
    "no header": (
        {TR: qrels(*TRAIN, head="")},
        {},
        ["no header; read as query, answer and score"],
    ),
    "a header of MTEB": ({TR: qrels(*TRAIN, head="query_id\tcorpus_id\trelevance\n")}, {}, []),
    "a header of another order": (
        {TR: "score\tcorpus-id\tquery-id\n1\ta1\tq1\n1\ta2\tq2\n"},
        {},
        [],
    ),
    "a column more": (
        {TR: qrels(*((*row, "note") for row in TRAIN), head=HEAD.replace("score", "score\tnote"))},
        {},
        [],
    ),
    "commas": (
        {TR: None, "qrels/train.csv": "query-id,corpus-id,score\nq1,a1,1\nq2,a2,1\n"},
        {},
        [],
    ),
    "JSON lines": (
        {
            TR: None,
            "qrels/train.jsonl": lines(
                *({"query-id": q, "corpus-id": a, "score": s} for q, a, s in TRAIN)
            ),
        },
        {},
        [],
    ),
    "another name of validation": ({TE: None, "qrels/dev.tsv": qrels(*TEST)}, {}, []),
    "names in capitals": ({TE: None, "qrels/Test.tsv": qrels(*TEST)}, {}, []),
    "a split that is none": (
        {"qrels/trec-2019.tsv": qrels(*TEST)},
        {},
        ["not read: no split is called so; call it qrels/SPLIT.tsv"],
    ),
    "no judgement at all": ({TR: None, TE: None}, {"labels": 0}, []),
    "a split of zeros": (
        {TE: qrels(*((q, a, 0) for q, a, _ in TEST))},
        {"labels": 2},
        ["holds no label with a score above zero"],
    ),
    # TREC
    "TREC's qrels": ({TE: "q3 0 a3 1\nq4 0 a4 1\n"}, {}, []),
    "TREC's qrels between tabs": ({TE: "q3\t0\ta3\t1\nq4\t0\ta4\t1\n"}, {}, []),
    "TREC's qrels in columns": ({TE: "q3   0   a3   1\n  q4   Q0  a4   2  \n"}, {}, []),
    "TREC's qrels with zeros and blank lines": (
        {TE: "\nq3 0 a3 1\n\nq4 0 a4 1\nq4 0 a1 0\nq4 0 a2 -2\n"},
        {},
        [],
    ),
    "TREC's qrels by another suffix": (
        {TE: None, "qrels/test.qrels": "q3 0 a3 1\nq4 0 a4 1\n"},
        {},
        [],
    ),
    "TREC's qrels without a suffix": ({TE: None, "qrels/test": "q3 0 a3 1\nq4 0 a4 1\n"}, {}, []),
    "TREC's qrels as text": ({TE: None, "qrels/qrels-test.txt": "q3 0 a3 1\nq4 0 a4 1\n"}, {}, []),
    "MS MARCO's names": ({TE: None, "qrels.dev.small.tsv": "q3\t0\ta3\t1\nq4\t0\ta4\t1\n"}, {}, []),
    "TREC's qrels with a line of three": (
        {TE: "q3 0 a3 1\nq4 0 a4 1\nq4 a1 1\n"},
        {},
        ["rows left out: 1, the first in line 3 (3 fields, but the first line has 4)"],
    ),
    "TREC's qrels with an unknown document": (
        {TE: "q3 0 a3 1\nq4 0 a4 1\nq4 0 FT911-3 1\n"},
        {},
        ["judgements of unknown answer ids left out: 1, the first in line 3"],
    ),
    "TREC's qrels with Windows ends and a mark": ({TE: "\ufeffq3 0 a3 1\r\nq4 0 a4 1\r\n"}, {}, []),
}
REFUSED = {
    "no corpus": ({C: None}, "corpus.jsonl: missing"),
    "no queries": ({Q: None}, "queries.jsonl: missing"),
    "an empty corpus": ({C: ""}, "corpus.jsonl: holds no answer"),
    "queries of blank lines": ({Q: "\n\n"}, "queries.jsonl: holds no query"),
    "an array": ({C: json.dumps(CORPUS, indent=1)}, "JSON, but not one object a line"),
    "an object over lines": ({C: json.dumps(CORPUS[0], indent=1)}, "JSON, but not one"),
    "gzip": ({Q: gzip.compress(b"{}")}, "a file packed with gzip"),
    "zip": ({C: b"PK\x03\x04 and more"}, "an Excel file, or a ZIP archive"),
    "cut UTF-16": (
        {C: ("\ufeff" + lines(*CORPUS)).encode("utf-16-le")[:-1]},
        "not UTF-16 (truncated data)",
    ),
    "a comma after each object": (
        {C: lines(*CORPUS, end=",\n")},
        "more lines are faulty (4) than can be used (0)",
    ),
    "no ids": (
        {C: lines(*({"name": c["_id"], "text": c["text"]} for c in CORPUS))},
        "more lines are faulty (4) than can be used (0)",
    ),
    "most lines broken": (
        {Q: lines(QUERIES[0]) + '{"_id": \n' * 3},
        "more lines are faulty (3) than can be used (1)",
    ),
    "texts that are lists": (
        {C: lines(*({**c, "text": [c["text"]]} for c in CORPUS))},
        "more lines are faulty (4)",
    ),
    "a page": ({C: "<!DOCTYPE html><html>sign in</html>"}, "an HTML page"),
    "a pointer of Git LFS": (
        {C: "version https://git-lfs.github.com/spec/v1\noid sha256:0"},
        "Git LFS",
    ),
    "qrels without a known column": (
        {TR: "question\tdocument\nq1\ta1\n"},
        "no header: the first line is",
    ),
    "commas in .tsv": ({TR: "query-id,corpus-id,score\nq1,a1,1\n"}, "no header: the first line is"),
    "qrels of words": (
        {TR: qrels(*((q, a, "good") for q, a, _ in TRAIN))},
        "more lines are faulty (2) than can be used (0)",
    ),
    "two files of a split": (
        {"qrels/test.qrels": "q3 0 a3 1\n"},
        "is test too; delete one of the two",
    ),
    "the same queries in both splits": (
        {TE: qrels(*TRAIN)},
        "more lines are faulty (2) than can be used (0)",
    ),
    "an unclosed quote": ({TR: HEAD + 'q1\t"a1\t1\nq2\ta2\t1\n'}, "cannot be read"),
}


@pytest.fixture
def folder(tmp_path):
    return write(tmp_path / "odd", CORPUS, QUERIES, train=TRAIN, test=TEST)


def put(folder, files):
    for name, content in files.items():
        if content is None:
            (folder / name).unlink()
        else:
            raw = content if isinstance(content, bytes) else content.encode()
            (folder / name).write_bytes(raw)


@pytest.mark.parametrize("name", LOADED)
def test_it_loads_and_says_what_was_left_out(folder, name):
    files, counts, said = LOADED[name]
    put(folder, files)
    dataset = Dataset.load(folder)
    assert {
        "answers": dataset.answers.height,
        "queries": dataset.queries.height,
        "labels": dataset.labels.height,
    } == SOUND | counts
    sentences = [sentence.partition(": ")[2] for sentence in dataset.left_out]
    assert len(sentences) == len(said), sentences
    for sentence, beginning in zip(sentences, said, strict=True):
        assert sentence.startswith(beginning)
    if said:
        with pytest.raises(DataError):
            Dataset.load(folder, strict=True)
    else:
        assert Dataset.load(folder, strict=True).fingerprint == dataset.fingerprint
    dataset.save(folder)  # and what was left out is gone, and nothing else
    again = Dataset.load(folder)
    assert (again.fingerprint, again.judgements.height) == (
        dataset.fingerprint,
        dataset.judgements.height,
    )


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused_by_name(folder, name):
    files, what = REFUSED[name]
    put(folder, files)
    for strict in (False, True):
        with pytest.raises(DataError) as caught:
            Dataset.load(folder, strict=strict)
        assert what in str(caught.value)
        assert all(fault.mend for fault in caught.value.faults)


@pytest.mark.parametrize("name", ["qrels.txt", "qrels.tsv", "qrels.trec"])
def test_trec_qrels_are_a_table_of_labels(tmp_path, name):
    answers, queries, labels = (tmp_path / n for n in ("a.jsonl", "q.jsonl", name))
    answers.write_text(lines(*CORPUS))
    queries.write_text(lines(*QUERIES))
    labels.write_text("q1 0 a1 2\nq2\t0\ta2\t1\n\nq3 0 a1 0\n")
    tables = {"answers": answers, "queries": queries, "labels": labels}
    dataset = import_tables(tmp_path / "out", **tables)
    assert dataset.labels.rows() == [("q1", "a1", "train"), ("q2", "a2", "train")]
    assert dataset.judgements["score"].to_list() == [2.0, 1.0, 0.0]
    labels.write_text("q1 0 a1 2\nq9 0 a1 1\nq2 0\n")
    with pytest.raises(DataError) as caught:
        import_tables(tmp_path / "other", **tables)
    assert [fault.line for fault in caught.value.faults] == [2, 3]


def test_packed_files_are_read_and_saved_unpacked(folder):
    before = Dataset.load(folder).fingerprint
    for name in (C, Q):
        (folder / f"{name}.gz").write_bytes(gzip.compress((folder / name).read_bytes()))
        (folder / name).unlink()
    dataset = Dataset.load(folder, strict=True)
    assert dataset.fingerprint == before
    dataset.save(folder)
    assert not [*folder.glob("*.gz")]
    assert Dataset.load(folder).fingerprint == before
