"""Tables as people have them: each odd file is read rightly, or refused in a line that helps."""

import datetime
import gzip
import io
import json
import logging
import zipfile

import polars as pl
import pytest

from tests.test_cli import twinrank
from twinrank.data import import_tables
from twinrank.errors import DataError

xlsxwriter = pytest.importorskip("xlsxwriter")

QUERIES = "id,text,answer\nq1,no login,a1\n"
CSV = "id,title,body\na1,Log in,Tryk på knappen\na2,Pay,Größe\n"
ROWS = [{"id": "a1", "title": "Log in", "body": "Tryk på knappen"}]
ROWS += [{"id": "a2", "title": "Pay", "body": "Größe"}]
RIGHT = [("a1", "Log in", "Tryk på knappen"), ("a2", "Pay", "Größe")]
LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS)


def zipped(*names, content=b""):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.writestr(name, content)
    return stream.getvalue()


def excel(*sheets):
    stream = io.BytesIO()
    with xlsxwriter.Workbook(stream, {"default_date_format": "yyyy-mm-dd hh:mm"}) as book:
        for name, rows in sheets:
            sheet = book.add_worksheet(name)
            for number, row in enumerate(rows):
                sheet.write_row(number, 0, row)
    return stream.getvalue()


HEAD, *CELLS = [line.split(",") for line in CSV.splitlines()]
SOUND = {  # file name: its content; all are the same two answers
    "plain.csv": CSV.encode(),
    "bom.csv": CSV.encode("utf-8-sig"),
    "crlf.csv": CSV.replace("\n", "\r\n").encode(),
    "cr.csv": CSV.replace("\n", "\r").encode(),
    "semicolons.csv": CSV.replace(",", ";").encode(),
    "pipes.csv": CSV.replace(",", "|").encode(),
    "tabs.csv": CSV.replace(",", "\t").encode(),
    "tabs.tsv": CSV.replace(",", "\t").encode(),
    "sep.csv": ("sep=;\n" + CSV.replace(",", ";")).encode(),
    "quoted.csv": "".join('"' + '","'.join(r) + '"\n' for r in [HEAD, *CELLS]).encode(),
    "blank-lines.csv": CSV.replace("\n", "\n\n").encode(),
    "blank-rows.csv": (CSV + ",,\n , ,\n").encode(),
    "spare-columns.csv": CSV.replace("\n", ",,\n").encode(),
    "capitals.CSV": CSV.replace("id,title", "Article ID,Title")
    .replace("Article ID", "_ID")
    .encode(),
    "nul.csv": CSV.replace("Log in", "Log\0 in").encode(),
    "no-last-line-end.csv": CSV.rstrip().encode(),
    "cp1252.csv": CSV.encode("cp1252"),
    "latin1.tsv": CSV.replace(",", "\t").encode("latin-1"),
    "utf16.csv": CSV.encode("utf-16"),
    "utf16-tabs.csv": CSV.replace(",", "\t").encode("utf-16"),
    "utf16le.csv": CSV.encode("utf-16-le"),
    "utf16be.csv": CSV.encode("utf-16-be"),
    "utf16be-bom.csv": b"\xfe\xff" + CSV.encode("utf-16-be"),
    "utf32.csv": CSV.encode("utf-32"),
    "packed.csv.gz": gzip.compress(CSV.encode()),
    "packed-latin1.csv.gz": gzip.compress(CSV.encode("latin-1")),
    "packed-twice.csv.gz": gzip.compress(CSV[:20].encode()) + gzip.compress(CSV[20:].encode()),
    "packed.zip": zipped("answers.csv", content=CSV),
    "packed-folder.zip": zipped("my/answers.csv", "__MACOSX/._a.csv", content=CSV),
    "packed-jsonl.zip": zipped("a.jsonl", content=LINES),
    "lines.jsonl": LINES.encode(),
    "lines.ndjson": LINES.encode(),
    "bom.jsonl": LINES.encode("utf-8-sig"),
    "utf16.jsonl": LINES.encode("utf-16"),
    "latin1.jsonl": LINES.encode("latin-1"),
    "escaped.jsonl": "".join(json.dumps(row) + "\n" for row in ROWS).encode(),
    "packed.jsonl.gz": gzip.compress(LINES.encode()),
    "lines.json": LINES.encode(),
    "array.json": json.dumps(ROWS).encode(),
    "array-indented.json": json.dumps(ROWS, indent=2, ensure_ascii=False).encode(),
    "array-bom.json": json.dumps(ROWS).encode("utf-8-sig"),
    "array-utf16.json": json.dumps(ROWS, ensure_ascii=False).encode("utf-16"),
    "array-latin1.json": json.dumps(ROWS, ensure_ascii=False).encode("latin-1"),
    "array-packed.json.gz": gzip.compress(json.dumps(ROWS).encode()),
    "page.json": json.dumps({"count": 2, "next": None, "tags": [], "articles": ROWS}).encode(),
    "first-sheet.xlsx": excel(("A", [HEAD, *CELLS]), ("B", [["x"], ["y"]])),
    "excel-gaps.xlsx": excel(("A", [HEAD, CELLS[0], ["", "", ""], CELLS[1]])),
    "excel-spare.xlsx": excel(("A", [[*HEAD, "", ""], *CELLS])),
    "quoted-separators.csv": b'id;title;body;"some, of, many"\na1;Log in;Tryk p\xc3\xa5 knappen;\n'
    b"a2;Pay;Gr\xc3\xb6\xc3\x9fe;\n",
    "twice-a-column.csv": CSV.replace("body\n", "body,Comment,Comment\n")
    .replace("knappen\n", "knappen,x,y\n")
    .encode(),
    "html.csv": CSV.replace("Tryk på", "<p>Tryk p&aring;</p>").encode(),
}
FAULTY = {  # file name: its content, and what the line says
    "empty.csv": (b"", "the file is empty"),
    "header.csv": (b"id,title,body\n", "no rows to import"),
    "empty.json": (b"", "not readable as JSON"),
    "empty.jsonl": (b"", "no rows to import"),
    "empty-array.json": (b"[]", "no rows to import"),
    "empty.xlsx": (b"", "not readable as Excel"),
    "empty-sheet.xlsx": (excel(("A", [])), "no rows to import"),
    "empty.parquet": (b"", "not readable as Parquet"),
    "empty.gz": (b"", "a table cannot be a file without a suffix"),
    "cut.csv.gz": (gzip.compress(CSV.encode() * 100)[:-40], "cannot be unpacked"),
    "not.csv.gz": (CSV.encode(), "cannot be unpacked"),
    "not.zip": (CSV.encode(), "cannot be unpacked"),
    "two.zip": (zipped("a.csv", "b.csv"), "holds 2 files, not one"),
    "none.zip": (zipped(), "holds 0 files, not one"),
    "bomb.csv.gz": (
        gzip.compress(CSV.encode() + b"a3,x," + b"0" * 120_000_000),
        "holds more than 100,000,000 bytes, unpacked",
    ),
    "packed.csv": (gzip.compress(CSV.encode()), "packed with gzip; add .gz to its name"),
    "zip.csv": (zipped("a.csv"), "an Excel file, or a ZIP archive; name it .xlsx"),
    "xls.csv": (b"\xd0\xcf\x11\xe0\xa1\xb1", "an Excel file, or a ZIP archive; name it .xlsx"),
    "bzip2.csv": (b"BZh91AY&SY", "a compressed file; unpack it"),
    "parquet.csv": (b"PAR1....", "a Parquet file; name it .parquet"),
    "lfs.csv": (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
    "login.csv": (b"<!DOCTYPE html><html>", "an HTML page; download the file itself"),
    "what.doc": (b"x", "a table cannot be a .doc; give .csv"),
    "what": (b"x", "a table cannot be a file without a suffix"),
    "array.jsonl": (json.dumps(ROWS).encode(), "JSON, but not one object a line"),
    "cut.json": (json.dumps(ROWS).encode()[:-9], "not readable as JSON"),
    "deep.json": (b"[" * 100_000, "not readable as JSON"),
    "number.json": (b"5", "1: not a JSON object"),
    "texts.json": (b'["a", "b"]', "1: not a JSON object"),
    "unclosed.csv": ((CSV + 'a3,"x,y\n').encode(), "the record that begins in line 4"),
    "wide.csv": ((CSV + "a3,x,y,z\n").encode(), ":4: 4 fields, but the header has 3"),
    "narrow.csv": ((CSV + "a3,x\n").encode(), ":4: 2 fields, but the header has 3"),
    "mixed.csv": (CSV.encode() + "a3,x,på\n".encode("latin-1"), ":4: the line is not UTF-8"),
    "surrogate.jsonl": (LINES.encode() + b'{"id": "\\ud83d"}\n', ":3: the line holds half a char"),
    "twice.csv": ((CSV + "a1,x,y\n").encode(), ":4: id 'a1' stands on line 2 already"),
    "no-id.csv": (b"title,body\nx,y\n", "no column fits answer_id"),
    "two-texts.csv": (b"id,text,body\na1,x,y\n", "text and body could both be answer_text"),
    "no-text.csv": ((CSV + "a3,,\n").encode(), ":4: neither title nor text"),
    "only-tags.csv": ((CSV + "a3,,<p></p>\n").encode(), ":4: neither title nor text"),
}


def import_answers(tmp_path, file, queries=QUERIES):
    (tmp_path / "queries.csv").write_text(queries)
    return import_tables(tmp_path / "out", answers=file, queries=tmp_path / "queries.csv")


@pytest.mark.parametrize(("name", "content"), SOUND.items(), ids=SOUND)
def test_an_odd_file_is_read_rightly(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    dataset = import_answers(tmp_path, tmp_path / name)
    rows = dataset.answers.select("id", "title", "text").rows()
    assert [(id, title, text.replace("\n", " ")) for id, title, text in rows] == RIGHT
    assert dataset.labels.select("query", "answer").rows() == [("q1", "a1")]


@pytest.mark.parametrize(
    ("name", "content", "what"), [(n, *v) for n, v in FAULTY.items()], ids=FAULTY
)
def test_a_file_that_cannot_be_read_is_refused_in_a_line(tmp_path, name, content, what):
    (tmp_path / name).write_bytes(content)
    (tmp_path / "queries.csv").write_text(QUERIES)
    options = ("--answers", tmp_path / name, "--queries", tmp_path / "queries.csv")
    done = twinrank("import", tmp_path / "out", *options, check=False)
    assert done.returncode == 2
    assert what in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_what_was_done_to_a_file_is_said(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    page = "<h2>Steps</h2><p>Press</p>"
    rows = [["id", "title", "body"], ["a1", "x", page], ["a2", "y", "<p>z</p>"]]
    (tmp_path / "a.xlsx").write_bytes(excel(("Articles", rows), ("Notes", [["x"]])))
    import_answers(tmp_path, tmp_path / "a.xlsx", "id,text\nq1,it says<br>no\nq2,fine\n")
    for sentence in (
        "the first sheet is read, Articles, not Notes",
        "2 answers held HTML: made text, 1 with sections",
        "1 queries held HTML: made text",
    ):
        assert sentence in caplog.text
    (tmp_path / "b.csv").write_bytes(SOUND["cp1252.csv"].replace(b"Log", b"L\0og"))
    import_tables(tmp_path / "b", answers=tmp_path / "b.csv", queries=tmp_path / "queries.csv")
    assert "b.csv: read as cp1252, since it is not UTF-8" in caplog.text
    assert "b.csv: NUL characters left out, the first in line 2" in caplog.text


def test_dates_of_excel_and_parquet_are_iso_text(tmp_path):
    day, minute = datetime.datetime(2026, 3, 1), datetime.datetime(2026, 3, 1, 9, 30)
    rows = [["id", "text", "created_at"], ["a1", "x", day], ["a2", "y", minute]]
    (tmp_path / "a.xlsx").write_bytes(excel(("A", rows)))
    dataset = import_answers(tmp_path, tmp_path / "a.xlsx")
    dates = [json.loads(text)["created_at"] for text in dataset.answers["metadata"]]
    assert dates == ["2026-03-01", "2026-03-01T09:30:00"]
    frame = pl.DataFrame({"id": ["a1"], "text": ["x"], "updated_at": [day.date()]})
    frame.write_parquet(tmp_path / "b.parquet")
    (tmp_path / "out").rename(tmp_path / "before")
    dataset = import_answers(tmp_path, tmp_path / "b.parquet")
    assert dataset.answers["metadata"].to_list() == ['{"updated_at": "2026-03-01"}']


NAMED = [  # what a query says of its answers, the ids there are, and those it means
    ("a1;a2", ["a1", "a2"], ["a1", "a2"]),
    ("a1, a2", ["a1", "a2"], ["a1", "a2"]),
    ("a1,a2; a3", ["a1", "a2", "a3"], ["a1", "a2", "a3"]),
    ('["a1", "a2"]', ["a1", "a2"], ["a1", "a2"]),
    ("Doe, J.", ["Doe, J.", "b"], ["Doe, J."]),
    ("Doe, J.;b", ["Doe, J.", "b"], ["Doe, J.", "b"]),
    ("https://x.example/kb/a1", ["a1", "a2"], ["a1"]),
    ("http://other.example/en/kb/a1/", ["a1", "a2"], ["a1"]),
    ("/kb/a2?from=mail, a1", ["a1", "a2"], ["a2", "a1"]),
    ("7.0", ["7", "8"], ["7"]),
    (" a1 ", ["a1"], ["a1"]),
]


@pytest.mark.parametrize(("cell", "ids", "right"), NAMED)
def test_answers_are_named_by_ids_lists_and_urls(tmp_path, cell, ids, right):
    urls = [f"https://help.example/kb/{id}" for id in ids]
    pl.DataFrame({"id": ids, "text": "x", "url": urls}).write_csv(tmp_path / "a.csv")
    pl.DataFrame({"id": ["q1"], "text": "x", "answer": [cell]}).write_csv(tmp_path / "q.csv")
    (tmp_path / "l.jsonl").write_text(
        "".join(json.dumps({"query": "q1", "answer": urls[ids.index(id)]}) + "\n" for id in right)
    )
    files = {"answers": tmp_path / "a.csv", "queries": tmp_path / "q.csv"}
    for name, labels in (("named", None), ("table", tmp_path / "l.jsonl")):
        dataset = import_tables(tmp_path / name, **files, labels=labels)
        assert dataset.labels["answer"].to_list() == right


CHATS = [
    ([{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yes?"}], "Assistant"),
    ([{"author": "user", "text": "hi"}, {"author": "agent", "text": "yes?"}], "Agent"),
    ([{"from": "User", "body": "<p>hi</p>"}, {"from": "Bot", "body": "yes?<br>"}], "Bot"),
    (
        [
            {"role": "user", "content": [{"type": "text", "text": "hi"}]},
            {"author": {"role": "agent"}, "text": "yes?"},
            {"role": "agent", "content": None},
        ],
        "Agent",
    ),
]


@pytest.mark.parametrize("suffix", [".jsonl", ".csv"])
@pytest.mark.parametrize(("chat", "role"), CHATS)
def test_a_list_of_messages_becomes_a_conversation(tmp_path, suffix, chat, role):
    (tmp_path / "a.csv").write_text(CSV)
    rows = [{"id": "q1", "text": chat, "answer": "a1"}]
    rows += [{"id": "q2", "text": chat[:1], "answer": "a2"}]
    if suffix == ".csv":
        rows = [{**row, "text": json.dumps(row["text"])} for row in rows]
        pl.DataFrame(rows).write_csv(tmp_path / "q.csv")
    else:
        (tmp_path / "q.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    dataset = import_tables(
        tmp_path / "out", answers=tmp_path / "a.csv", queries=tmp_path / f"q{suffix}"
    )
    assert dataset.queries.select("type", "text").rows() == [
        ("conversation", f"User: hi\n{role}: yes?"),
        ("question", "User: hi"),
    ]


def test_a_column_called_markdown_is_that(tmp_path):
    rows = [{"id": "a1", "text": "*x* and **y**"}]
    pl.DataFrame(rows).rename({"text": "Body Markdown"}).write_csv(tmp_path / "a.csv")
    (tmp_path / "q.csv").write_text(QUERIES)
    options = ("--column", "answer_text=Body Markdown")
    files = ("--answers", tmp_path / "a.csv", "--queries", tmp_path / "q.csv")
    twinrank("import", tmp_path / "out", *files, *options)
    assert '"text": "x and y"' in (tmp_path / "out" / "corpus.jsonl").read_text()


@pytest.mark.parametrize(
    "options",
    [(), ("--from", "zendesk", "--answers", "a.csv"), ("--answers", "a.csv"), ("--from", "jira")],
)
def test_options_that_do_not_go_together_are_refused(tmp_path, options):
    done = twinrank("import", tmp_path / "out", *options, check=False)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    with pytest.raises(DataError):
        import_answers(tmp_path, tmp_path / "nothing.csv")
