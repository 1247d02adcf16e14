"""Exports of help desks, in the shapes that their public APIs document: see `exports/`."""

import gzip
import json
import logging
import shutil
import zipfile
from pathlib import Path

import pytest

from twinrank.data import Dataset, import_exports
from twinrank.data.article_links import ArticleLinks
from twinrank.data.help_desks import HELP_DESKS
from twinrank.errors import DataError, TwinrankError

HERE = Path(__file__).parent / "exports"
LABELS = {
    "zendesk": [  # a link, one to another host, a macro's reference, a translation, a macro's words
        ("5101", "360001110001-en-us"),
        ("5102", "360001110003"),
        ("5103", "360001110004"),
        ("5104", "360001110001-da"),
        ("5105", "360001110002"),
    ],
    "intercom": [
        ("215001", "9100001-en"),
        ("215002", "9100002"),
        ("215003", "9100003"),
        ("215004", "9100004"),
        ("215005", "9100001-de"),
    ],
    "freshdesk": [
        ("301", "82000400001-en"),
        ("302", "82000400002"),
        ("303", "82000400001-da"),
        ("304", "82000400003"),
    ],
    "zammad": [("81", "11-en-us"), ("82", "13"), ("83", "11-de-de"), ("84", "12")],
    "discourse": [("101", "101"), ("103", "102"), ("104", "104")],
    "confluence": [
        ("1", "98003"),
        ("2", "65601"),
        ("3", "98001"),
        ("4", "65602"),
        ("4", "65601"),
        ("6", "65601"),
    ],
}
MET = {  # what is said of the rest
    "zendesk": ["(draft): 2", "(internal): 1", "messages left out (internal): 1", "answers: 1"],
    "intercom": ["(draft): 1", "messages left out (internal): 1"],
    "freshdesk": ["(draft): 1", "articles left out (internal): 1", "answers: 1"],
    "zammad": ["(archived): 1", "articles left out (internal): 1", "(of the system): 1"],
    "discourse": ["articles left out (internal): 1", "(of the system): 1"],
    "confluence": ["(draft): 1", "(archived): 1", "articles left out (internal): 1"],
}
UNPUBLISHED = {  # answers with drafts, internal and archived articles; and without
    **{"zendesk": (8, 5), "intercom": (6, 5), "freshdesk": (6, 4), "zammad": (6, 4)},
    **{"discourse": (4, 3), "confluence": (7, 4)},
}


def files_of(source):
    return sorted(p for p in (HERE / source).iterdir() if p.suffix in (".json", ".jsonl"))


def imported(out, source, files=None, **options):
    if source == "confluence":
        options = {"queries": HERE / source / "queries.csv", **options}
    return import_exports(out, files or files_of(source), source=source, **options)


def texts(dataset):
    return dict(dataset.queries.select("id", "text").rows())


@pytest.mark.parametrize("source", HELP_DESKS)
def test_an_export_becomes_a_labelled_data_set(tmp_path, caplog, source):
    caplog.set_level(logging.INFO)
    dataset = imported(tmp_path / "out", source)
    assert dataset.labels.select("query", "answer").rows() == LABELS[source]
    assert all(sentence in caplog.text for sentence in MET[source]), caplog.text
    written = "".join((tmp_path / "out" / name).read_text() for name in ("corpus.jsonl",))
    assert not any(sign in written for sign in ("<p>", "<div", "&nbsp;", "&amp;", "CDATA"))
    metadata = [json.loads(text) for text in dataset.answers["metadata"]]
    assert {m["visibility"] for m in metadata} == {"public"}
    assert all(m.get("updated_at") for m in metadata if source != "discourse")
    for id, text in texts(dataset).items():
        kind = dataset.queries.filter(id=id)["type"][0]
        assert (kind == "conversation") == ("\nAgent: " in text), text
        assert (kind == "question") or text.startswith("User: ") or source == "confluence"
    assert Dataset.load(tmp_path / "out", strict=True).fingerprint == dataset.fingerprint


@pytest.mark.parametrize("source", HELP_DESKS)
def test_unpublished_articles_come_if_asked_for(tmp_path, source):
    every = imported(tmp_path / "every", source, include_unpublished=True)
    counts = (every.answers.height, imported(tmp_path / "some", source).answers.height)
    assert counts == UNPUBLISHED[source]
    states = {json.loads(text)["visibility"] for text in every.answers["metadata"]}
    assert states > {"public"}


@pytest.mark.parametrize("source", HELP_DESKS)
def test_pages_may_come_in_any_order_packed_and_split(tmp_path, source):
    """A page a file or all in one, JSON or JSONL, packed or not: the same data set."""
    files = files_of(source)[::-1]
    parts = []
    for number, file in enumerate(files):
        match number % 3:
            case 0:
                part = tmp_path / f"{file.name}.gz"
                part.write_bytes(gzip.compress(file.read_bytes()))
            case 1:
                part = tmp_path / f"{file.stem}.zip"
                with zipfile.ZipFile(part, "w") as archive:
                    archive.write(file, file.name)
            case _:
                part = shutil.copy(file, tmp_path)
        parts.append(part)
    whole, packed = imported(tmp_path / "a", source), imported(tmp_path / "b", source, parts)
    assert sorted(packed.answers.rows(), key=str) == sorted(whole.answers.rows(), key=str)
    assert sorted(packed.labels.rows()) == sorted(whole.labels.rows())
    assert texts(packed) == texts(whole)


def test_a_conversation_has_roles_and_neither_notes_nor_what_solved_it(tmp_path):
    zendesk = texts(imported(tmp_path / "zendesk", "zendesk"))
    assert zendesk["5101"] == (
        "User: lock wont open\nI scan the code on bike 4417 and nothing happens, the app just "
        "spins.\nAgent: Hi! Please try the travel card as [article] says.\nIda\n"
        "User: that worked, thanks"
    )
    assert zendesk["5106"].endswith(
        "see https://help.veloby.example/hc/en-us/articles/360001110005"
    )
    discourse = imported(tmp_path / "discourse", "discourse")
    assert (
        texts(discourse)["104"] == "The bag had two lengths and no note."
    )  # not the answer's title
    assert "102" not in texts(discourse)  # a topic that others lead to is an answer
    assert discourse.answers.filter(id="102")["sections"][0][0]["title"] == "Sealer"
    assert "5521" not in "".join(discourse.answers["text"])  # of a private message


def test_metadata_names_places_languages_and_dates(tmp_path):
    def metadata(source, id):
        dataset = imported(tmp_path / source, source)
        return json.loads(dataset.answers.filter(id=id)["metadata"][0])

    zendesk = metadata("zendesk", "360001110001-da")
    assert zendesk["locale"] == "da"
    assert (zendesk["section"], zendesk["category"]) == ("Riding", "City bikes")
    assert zendesk["labels"] == ["lock", "app"]
    intercom = metadata("intercom", "9100002")
    assert (intercom["collection"], intercom["created_at"][:10]) == (
        "Account and data",
        "2025-01-01",
    )
    assert metadata("freshdesk", "82000400002")["folder"] == "Garden"
    assert metadata("zammad", "13")["category"] == ["From home"]
    confluence = metadata("confluence", "98001")
    assert (confluence["space"], confluence["labels"]) == ("People", ["leave", "family"])


def test_queries_may_come_from_a_table(tmp_path):
    table = tmp_path / "q.csv"
    table.write_text(
        "text,answer\nno light,https://elsewhere.example/hc/da/articles/360001110001-x\n"
        "paid twice,360001110003\nwrong,https://help.veloby.example/hc/articles/9\n"
    )
    with pytest.raises(DataError, match=r"q.csv:4: unknown answer id 'https://help"):
        imported(tmp_path / "out", "zendesk", queries=table)
    dataset = imported(tmp_path / "out", "zendesk", queries=table, skip_faulty=True)
    assert dataset.labels["answer"].to_list() == ["360001110001-da", "360001110003"]


def test_articles_alone_are_imported_and_what_makes_queries_is_named(tmp_path, caplog):
    dataset = imported(tmp_path / "out", "confluence", queries=None)
    assert dataset.queries.is_empty()
    assert "no queries; `twinrank bootstrap` makes some" in caplog.text
    with pytest.raises(DataError, match=r"queries.jsonl: holds no query"):
        Dataset.load(tmp_path / "out")
    alone = Dataset.load(tmp_path / "out", needs_queries=False)
    assert alone.answers.equals(dataset.answers)
    cleaned = imported(tmp_path / "cleaned", "confluence", queries=None, clean=["mail"])
    assert cleaned.answers.equals(dataset.answers)


def test_what_is_no_export_is_named(tmp_path):
    other = tmp_path / "other.json"
    other.write_text('{"hello": [1, 2, {"x": null}]}')
    with pytest.raises(DataError, match=r"other.json: holds nothing that .* documents; compare it"):
        imported(tmp_path / "out", "zendesk", [*files_of("zendesk"), other])
    with pytest.raises(DataError, match=r"zendesk: no articles that are published"):
        imported(tmp_path / "out", "zendesk", [HERE / "zendesk" / "tickets.json"])
    other.write_text('{"articles": [')
    with pytest.raises(DataError, match=r"other.json: not readable as JSON"):
        imported(tmp_path / "out", "zendesk", [other])
    with pytest.raises(TwinrankError, match="give one of zendesk, intercom"):
        imported(tmp_path / "out", "jira", [other])
    assert not (tmp_path / "out").exists()


def test_markup_stays_if_asked_for(tmp_path):
    dataset = imported(tmp_path / "out", "zammad", keep_markup=True)
    assert dataset.answers.filter(id="12")["text"][0].startswith("<div>Choose <i>Colour</i>")


URLS = [
    "https://help.example.org/hc/en-us/articles/1-first",
    "http://OTHER.zendesk.com/hc/articles/1",
    "https://help.example.org/hc/da/articles/1-noget-andet?utm_source=mail#top",
    "/hc/en-gb/articles/1",
    "https://safelinks.example/?url=https%3A%2F%2Fhelp.example.org%2Fhc%2Fen-us%2Farticles%2F1",
    "https://x.example/pages/viewpage.action?pageId=1",
    "https://x.example/support/solutions/articles/1",
    "https://x.example/help/en-us/7-cat/1-slug",
    "https://x.example/t/some-slug/1/4",
    "https://x.example/t/1",
]


@pytest.mark.parametrize("url", URLS)
def test_a_url_names_an_article_on_any_host(url):
    links = ArticleLinks()
    links.add("1", "https://help.example.org/hc/en-us/articles/1-first")
    links.add("2", "https://help.example.org/faq?id=2")
    for text in (f"see {url} now", f'see <a class="x" href="{url}">The <b>title</b></a> now'):
        assert links.take_out(text) == ("see [article] now", ["1"])
    assert links.take_out(f"[The title]({url})") == ("[article]", ["1"])
    assert links.find("https://help.example.org/faq?id=2") == "2"
    for other in ("https://help.example.org/faq?id=3", "https://help.example.org/faq", "11", "/x"):
        assert links.find(other) is None
    assert links.unknown == 0
    assert links.take_out("https://help.example.org/hc/articles/77")[1] == []
    assert links.unknown == 1


@pytest.mark.parametrize(
    "text", ["<a href=" * 25_000, "<a href=x>" * 20_000, "[" * 200_000, "/articles/" * 20_000]
)
def test_hostile_messages_take_time_in_proportion(text):
    ArticleLinks().take_out(text)
