"""Who may see what: metadata of answers, filters of requests, of keys and of the whole service."""

import json
from dataclasses import replace

import polars as pl
import pytest

from tests.service.test_api import NEW, TEXT, rank
from tests.service.test_guard import bearer
from twinrank.errors import ServeError, TwinrankError
from twinrank.ranking import Filter, Ranker
from twinrank.ranking.past_queries import SignalOfPast
from twinrank.service.access import Keys
from twinrank.service.app import check_files

ADMIN, ACME, GLOBEX = "a" * 20, "b" * 20, "c" * 20
CANARY = "canary"  # in all that is Globex's alone
MINE = {**NEW, "metadata": {"brand": "acme"}}
VERDICT = {"key": "mine", "text": TEXT, "right": False}


@pytest.fixture
def tenants(folder):
    """The folder of a ranker whose answers are Acme's, Globex's, or both's, in turn."""
    ranker = Ranker.load(folder)
    brands = [["acme"], ["globex"], ["acme", "globex"]]
    column = [json.dumps({"brand": brands[row % 3]}) for row in range(ranker.answers.height)]
    ranker.answers = ranker.answers.with_columns(metadata=pl.Series(column))
    theirs = pl.col("metadata") == '{"brand": ["globex"]}'
    marked = [
        pl.when(theirs).then(pl.lit(f"{CANARY} ") + pl.col(name)).otherwise(name).alias(name)
        for name in ("id", "title", "text", "url")
    ]
    section = pl.struct(title=pl.lit(CANARY), text=pl.lit(f"The {CANARY} sings. It sings all day."))
    sections = pl.when(theirs).then(pl.concat_list(section)).otherwise("sections")
    ranker.answers = ranker.answers.with_columns(*marked[:1])
    ranker.put_answers(ranker.answers.filter(theirs).with_columns(*marked[1:], sections=sections))
    hidden = ranker.past.labels @ ranker.answers["metadata"].str.contains("globex").to_numpy() > 0
    pairs = zip(ranker.past.texts, hidden, strict=True)
    past = replace(ranker.past, texts=[f"{CANARY} {t}" if hides else t for t, hides in pairs])
    signals = {
        name: signal.with_past(past) if isinstance(signal, SignalOfPast) else signal
        for name, signal in ranker.scoring.signals.items()
    }
    ranker.scoring = replace(ranker.scoring, signals=signals)
    ranker.save(folder)
    return folder


@pytest.fixture
def keys(tmp_path):
    file = tmp_path / "keys"
    file.write_text(
        f"write {ADMIN} admin\nwrite {ACME} acme brand=acme\nwrite {GLOBEX} brand=globex  # B\n"
    )
    return file


@pytest.fixture
def desk(service, settings, tenants, keys):  # noqa: ARG001 (the ranker is in the settings)
    """Asks the service by a key."""
    options = {"keys": keys, "show_past_queries": True}
    client = service(settings.model_copy(update=options))

    def ask(key, method, path, body=None):
        return client.request(method, path, json=body, headers=bearer(key))

    ask.client = client
    return ask


def ids_of(folder, brand):
    answers = Ranker.load(folder).answers
    return answers.filter(pl.col("metadata").str.contains(brand))["id"].to_list()


def only(folder, brand):
    answers = Ranker.load(folder).answers
    return answers.filter(pl.col("metadata") == f'{{"brand": ["{brand}"]}}')["id"].to_list()


def test_a_key_ranks_what_it_may_see_and_no_request_widens_that(desk, tenants):
    ranker = Ranker.load(tenants)
    for where in (None, {"brand": "globex"}, {"brand": ["globex", "acme"]}, {"other": "x"}):
        wanted = Filter.of(where) & Filter.of({"brand": "acme"})
        body = {"text": TEXT, "k": 100, "explain": False, "where": where or {}}
        reply = desk(ACME, "POST", "/v1/rank", body).json()
        (expected,) = ranker.rank(TEXT, 100, where=wanted)
        assert [a["id"] for a in reply["answers"]] == [a.id for a in expected]
        assert reply["withheld"] is False
    assert reply["answers"] == []
    assert reply["confidence"] is None
    everything = {"text": TEXT, "k": 100, "explain": False}
    assert (
        len(desk(ADMIN, "POST", "/v1/rank", everything).json()["answers"]) == ranker.answers.height
    )


def test_a_batch_with_many_filters_is_what_each_alone_gives(desk):
    wheres = [{}, {"brand": "acme"}, {"brand": "nobody"}, {"brand": "globex"}, {}]
    batch = [{"text": TEXT, "k": k, "where": where} for k, where in enumerate(wheres, 2)]
    together = desk(ADMIN, "POST", "/v1/rank", batch).json()
    for query, got in zip(batch, together, strict=True):
        alone = desk(ADMIN, "POST", "/v1/rank", query).json()
        assert [a["id"] for a in got["answers"]] == [a["id"] for a in alone["answers"]]
        assert got["confidence"] == pytest.approx(alone["confidence"])


# The bodies that a tenant sends to every route; a route that is not here fails the test.
BODIES = {
    ("POST", "/v1/rank"): [
        {"text": TEXT, "k": 100, "ask_below": 1},
        {"text": TEXT, "k": 100, "passage": "answer"},
        {"text": TEXT, "k": 100, "passage": "section"},
        [{"text": CANARY, "k": 100, "where": {"brand": ["globex", "acme"]}}],
    ],
    ("POST", "/v1/rerank"): [{"query": CANARY, "documents": [TEXT]}],
    ("POST", "/v2/rerank"): [{"query": CANARY, "documents": [TEXT], "return_documents": True}],
    ("POST", "/v1/embeddings"): [{"input": CANARY, "model": "query"}],
    ("GET", "/v1/answers"): [None],
    ("GET", "/v1/answers/{id}"): [None],
    ("PUT", "/v1/answers/{id}"): [MINE, NEW],
    ("DELETE", "/v1/answers/{id}"): [None],
    ("POST", "/v1/answers/{id}/restore"): [None],
    ("POST", "/v1/feedback"): [
        {**VERDICT, "key": "theirs"},
        {**VERDICT, "answer": "ID"},
        {**VERDICT, "shown": ["ID"]},
    ],
    ("GET", "/v1/feedback"): [None],
    ("DELETE", "/v1/feedback/{key}"): [None],
    ("GET", "/v1/stats"): [None],
    ("GET", "/v1/rules"): [None],
    ("PUT", "/v1/rules"): [{"text": "", "digest": "x"}],
    ("GET", "/v1/misses"): [None],
    ("GET", "/v1/learning"): [None],
    ("GET", "/v1/shadow"): [None],
    ("POST", "/v1/learning/rollback"): [None],
    ("GET", "/v1/gaps"): [None],
    ("GET", "/healthz"): [None],
    ("GET", "/readyz"): [None],
    ("GET", "/metrics"): [None],
}


def test_no_route_says_a_word_of_what_is_anothers(desk, tenants):
    theirs, gone, mine = [*only(tenants, "globex")[:2], only(tenants, "acme")[0]]
    assert desk(GLOBEX, "DELETE", f"/v1/answers/{gone}").status_code == 204
    said = {"text": f"{CANARY} {TEXT}", "right": True, "answer": theirs, "key": "theirs"}
    assert desk(GLOBEX, "POST", "/v1/feedback", said).status_code == 201
    before = desk(GLOBEX, "GET", f"/v1/answers/{theirs}").json()
    walked = 0
    paths = desk.client.app.openapi()["paths"].items()
    routes = [(method.upper(), path) for path, methods in paths for method in methods]
    for method, route in [*routes, ("GET", "/metrics")]:
        for id_ in (theirs, gone, mine, f"{theirs}/restore"):
            path = route.replace("{id}", id_).replace("{key}", "theirs")
            for body in BODIES[method, route]:
                sent = json.dumps(body).replace("ID", id_)
                reply = desk(ACME, method, path, json.loads(sent))
                told = reply.text.replace(id_, "").replace(json.dumps(id_)[1:-1], "")
                assert CANARY not in told, (method, path, body, reply.text)
                assert reply.status_code < 500
                walked += 1
    assert walked > 40
    assert desk(GLOBEX, "GET", f"/v1/answers/{theirs}").json() == before
    assert desk(GLOBEX, "GET", "/v1/feedback").json()["total"] == 1
    assert desk(GLOBEX, "POST", f"/v1/answers/{gone}/restore").status_code == 200


def test_the_owner_sees_the_canary_by_each_of_these_ways(desk):
    """The walk above would notice it."""
    asked = {"text": TEXT, "k": 100, "passage": "answer"}
    for path, body in (("/v1/answers", None), ("/v1/rank", asked)):
        reply = desk(GLOBEX, "POST" if body else "GET", path, body)
        assert CANARY in reply.text
    answers = reply.json()["answers"]
    assert CANARY in {answer["section"] for answer in answers}
    assert any(answer["passage"].startswith(f"{CANARY} ") for answer in answers)


def test_titles_are_found_and_counted_among_what_may_be_seen(desk, tenants):
    found = desk(ACME, "GET", "/v1/answers?limit=100").json()
    expected = ids_of(tenants, "acme")
    assert [answer["id"] for answer in found["answers"]] == expected
    assert found["total"] == len(expected)
    assert desk(ACME, "GET", f"/v1/answers?search={CANARY}").json()["total"] == 0


@pytest.mark.parametrize(
    ("metadata", "status"),
    [
        ({"brand": "acme", "locale": "da"}, 201),
        ({"brand": ["acme"]}, 201),
        ({}, 403),
        (None, 403),
        ({"brand": "globex"}, 403),
        ({"brand": ["acme", "globex"]}, 403),  # would stand in Globex's rankings
    ],
)
def test_a_key_writes_answers_alone_that_are_its_own(desk, metadata, status):
    reply = desk(ACME, "PUT", "/v1/answers/new", {**NEW, "metadata": metadata})
    assert reply.status_code == status
    assert (desk(ADMIN, "GET", "/v1/answers/new").status_code == 200) == (status == 201)
    if status == 403:
        assert 'metadata have "brand": ["acme"]' in reply.json()["detail"]
    else:
        again = desk(ACME, "PUT", "/v1/answers/new", {**NEW, "metadata": {}})
        assert again.status_code == 403
        again = desk(ACME, "PUT", "/v1/answers/new", NEW)  # which says nothing of its metadata
        assert (again.status_code, again.json()["metadata"]) == (200, metadata)
        assert desk(ACME, "DELETE", "/v1/answers/new").status_code == 204
        assert desk(GLOBEX, "POST", "/v1/answers/new/restore").status_code == 404
        assert desk(ACME, "POST", "/v1/answers/new/restore").json()["metadata"] == metadata


def test_a_key_changes_nothing_that_others_see_or_had(desk, tenants):
    theirs, both = only(tenants, "globex")[0], ids_of(tenants, "acme.*globex")[0]
    for id_ in (theirs, both):
        assert desk(ACME, "PUT", f"/v1/answers/{id_}", MINE).status_code == 403
        assert desk(ACME, "DELETE", f"/v1/answers/{id_}").status_code == 404
    assert desk(ACME, "GET", f"/v1/answers/{both}").status_code == 200
    assert desk(ADMIN, "DELETE", f"/v1/answers/{theirs}").status_code == 204
    # Its past queries would come back with whatever has its id.
    assert desk(ACME, "PUT", f"/v1/answers/{theirs}", MINE).status_code == 403
    assert desk(ACME, "POST", f"/v1/answers/{theirs}/restore").status_code == 404
    assert desk(GLOBEX, "POST", f"/v1/answers/{theirs}/restore").status_code == 200


def test_verdicts_are_on_what_may_be_seen_and_by_whom_may_see_as_much(desk, tenants):
    theirs, mine = only(tenants, "globex")[0], only(tenants, "acme")[0]
    for body, status in [
        ({"answer": mine, "shown": [mine]}, 201),
        ({"key": "hidden", "answer": theirs}, 404),
        ({"key": "hidden", "shown": [mine, theirs]}, 404),
        ({"key": "hidden", "answer": "nobody"}, 404),
        ({"key": "none", "text": "another one"}, 201),
        ({"answer": mine, "shown": [mine]}, 200),
    ]:
        assert desk(ACME, "POST", "/v1/feedback", {**VERDICT, **body}).status_code == status, body
    both = ids_of(tenants, "acme.*globex")[0]  # whoever gave it: Globex's customer wrote it
    for key, sent, answer in [(ADMIN, "x", mine), (GLOBEX, "y", both), (GLOBEX, "z", None)]:
        body = {**VERDICT, "key": sent, "answer": answer}
        assert desk(key, "POST", "/v1/feedback", body).status_code == 201
    listed = desk(ACME, "GET", "/v1/feedback?limit=1").json()
    assert ([v["key"] for v in listed["verdicts"]], listed["total"]) == (["none"], 2)
    assert desk(ACME, "GET", "/v1/feedback?offset=1").json()["verdicts"][0]["key"] == "mine"
    assert desk(ADMIN, "GET", "/v1/feedback").json()["total"] == 5
    desk(ADMIN, "POST", "/v1/rank", {"text": TEXT})
    stats = desk(ACME, "GET", "/v1/stats").json()
    assert (stats["verdicts"], [miss["id"] for miss in stats["misses"]]) == (2, [mine])
    assert sum(day["requests"] for day in stats["days"]) == 0
    queries = desk(ACME, "GET", "/v1/misses").json()
    assert {query["text"] for query in queries["misses"]} == {TEXT, "another one"}
    assert [*queries["titles"]] == [mine]
    for key, total in [(ACME, 1), (GLOBEX, 0)]:
        assert desk(key, "GET", f"/v1/misses?answer={mine}").json()["total"] == total
    for key in "xyz":
        assert desk(ACME, "DELETE", f"/v1/feedback/{key}").status_code == 404
    assert desk(ACME, "DELETE", "/v1/feedback/mine").status_code == 204


def test_the_ranker_is_rolled_back_by_none_who_sees_a_part(desk, tenants):
    Ranker.load(tenants).save(tenants, keep=True)
    for method, path in [("GET", "learning"), ("POST", "learning/rollback?version=x")]:
        assert desk(ACME, method, f"/v1/{path}").status_code == 403
    assert desk(ADMIN, "GET", "/v1/learning").status_code == 200


def test_gaps_are_of_verdicts_with_the_same_filter_and_near_answers_that_may_be_seen(desk, tenants):
    for key, word in ((ACME, "mine"), (GLOBEX, CANARY), (ADMIN, "admin's")):
        for n in range(3):
            body = {"key": f"{word}{n}", "text": f"{word} of {n}: {TEXT}", "right": False}
            assert desk(key, "POST", "/v1/feedback", body).status_code == 201
    gaps = desk(ACME, "GET", "/v1/gaps").json()
    (topic,) = gaps["topics"]
    assert (gaps["queries"], topic["bad"], topic["recent"], topic["before"]) == (3, 3, 3, 0)
    assert all("mine" in text for text in topic["examples"])
    assert topic["nearest"]["id"] in ids_of(tenants, "acme")
    assert desk(ADMIN, "GET", "/v1/gaps").json()["queries"] == 9


def test_which_past_queries_an_answer_solved_is_told_to_those_without_a_filter_alone(desk):
    """They have no metadata, and one may have led to answers of both, or to one that is gone."""
    for key in (ADMIN, ACME):
        answers = desk(key, "POST", "/v1/rank", {"text": TEXT, "k": 100}).json()["answers"]
        past = [query for answer in answers for query in answer["past_queries"]]
        assert len(past) > 20
        assert all((query["text"] is None) == (key == ACME) for query in past)
        assert all((query["id"] is None) == (key == ACME) for query in past)


def test_a_filter_of_the_service_holds_for_all(service, settings, tenants, keys):
    options = {"where": ("brand=acme",)}
    client = service(settings.model_copy(update=options))
    found = client.get("/v1/answers").json()
    assert found["total"] == len(ids_of(tenants, "acme"))
    assert {a["id"] for a in rank(client, {"text": TEXT, "k": 100})["answers"]} == set(
        ids_of(tenants, "acme")
    )
    with_keys = service(settings.model_copy(update={**options, "keys": keys}))
    found = with_keys.get("/v1/answers", headers=bearer(GLOBEX)).json()
    assert found["total"] == len(ids_of(tenants, "acme.*globex"))
    with pytest.raises(TwinrankError, match="'brand' is no filter"):
        check_files(settings.model_copy(update={"where": ("brand",)}))


def test_metadata_is_stored_and_given_back(client, folder):
    metadata = {"locale": "da", "brands": ["a", "b,c"], "public": True, "level": 3, "price": 1.5}
    put = client.put("/v1/answers/new", json={**NEW, "metadata": metadata})
    assert put.json()["metadata"] == client.get("/v1/answers/new").json()["metadata"] == metadata
    assert json.loads(Ranker.load(folder).answers["metadata"][-1]) == metadata
    for where in ({"brands": ["x", "b,c"]}, {"public": True, "level": "3"}, {"price": 1.5}):
        (best,) = rank(client, {"text": TEXT, "where": where})["answers"]
        assert best["id"] == "new"


@pytest.mark.parametrize(
    ("metadata", "detail"),
    [
        ({"url": "https://example.org"}, "'url' has a field of its own"),
        ({"x": None}, "metadata.x: give a text of up to 1,000 characters"),
        ({"x": {"y": "z"}}, "metadata.x: give a text"),
        ({"x": "y" * 1_001}, "metadata.x: give a text"),
        ({"x": "y\0"}, "metadata.x: give a text"),
        ({"x": ["y"] * 101}, "list of up to 100"),
        ({"x": ["y", ["z"]]}, "metadata.x: give a text"),
        ({"x": 2**60}, "number of up to 2^53"),
        ({"x" * 65: "y"}, "metadata"),
        ({f"x{i}": "y" for i in range(51)}, "at most 50"),
    ],
)
def test_metadata_beyond_its_limits_is_refused(reader, metadata, detail):
    reply = reader.put("/v1/answers/new", json={**NEW, "metadata": metadata})
    assert reply.status_code == 422
    assert detail in reply.json()["detail"]


@pytest.mark.parametrize("where", [{"": "x"}, {"x": None}, {f"x{i}": "y" for i in range(11)}, "x"])
def test_a_request_with_a_faulty_filter_is_refused(reader, where):
    reply = reader.post("/v1/rank", json={"text": TEXT, "where": where})
    assert reply.status_code == 422
    assert "where" in reply.json()["detail"]


def test_a_line_of_the_keys_may_have_a_filter(tmp_path):
    lines = [
        f"read {'a' * 20} brand=acme",
        f'read {"b" * 20} anna "brand=Acme Labs,b\\,c" level=3  # two',
        f"read {'c' * 20} ben",
        f"read {'d' * 19}= brand='x=y'",
    ]
    (tmp_path / "keys").write_text("\n".join(lines))
    keys = Keys(tmp_path / "keys")
    wheres = [{"brand": "acme"}, {"brand": ["Acme Labs", "b,c"], "level": 3}, {}, {"brand": "x=y"}]
    for key, where in zip(("a" * 20, "b" * 20, "c" * 20, "d" * 19 + "="), wheres, strict=True):
        assert keys.find(key).visible == Filter.of(where)
    assert keys.find("b" * 20).name == "anna"


@pytest.mark.parametrize(
    ("filter", "fault"),
    [
        ("brand=", "'brand=' is no filter"),
        ("anna brand=a public", "'public' is no filter"),
        ("anna ben brand=a", "'ben' is no filter"),
        ("'brand=a", "No closing quotation"),
        ("brand:acme", "not a role and a key"),
    ],
)
def test_a_faulty_filter_of_a_key_is_named_by_its_line(tmp_path, filter, fault):
    (tmp_path / "keys").write_text(f"read {'a' * 20}\nread {'b' * 20} {filter}")
    with pytest.raises(ServeError, match=f"keys:2: {fault}"):
        Keys(tmp_path / "keys")
