"""Synthetic questions: of what they are made, which of them stay, and what a model adds."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import polars as pl
import pytest

from twinrank import Dataset, train
from twinrank.encoding import FeatureStore
from twinrank.errors import TwinrankError
from twinrank.training import LanguageModel, bootstrap
from twinrank.training.bootstrap import ROUND_TRIP_DEPTH


@pytest.fixture
def started(help_centre, recipes):
    return lambda data=help_centre, **options: bootstrap(
        data, recipe=recipes["towers"], store=FeatureStore(), **options
    )


def synthetic(dataset):
    labelled = dataset.labels.join(dataset.queries, left_on="query", right_on="id")
    return labelled.filter(pl.col("type") == "synthetic")


def test_questions_are_marked_and_labelled_with_what_they_are_made_of(help_centre, started):
    result = started()
    rows = synthetic(result.dataset)
    sources = [json.loads(text)["source"] for text in rows["metadata"]]
    assert {name: sources.count(name) for name in result.used} == result.used
    assert set(result.made) == {"title", "heading", "passage"}
    assert all(result.used[name] <= count for name, count in result.made.items())
    assert result.made["title"] == help_centre.answers.height
    titles = dict(help_centre.answers.select("title", "id").iter_rows())
    for row, source in zip(rows.iter_rows(named=True), sources, strict=True):
        if source == "title":
            assert titles[row["text"]] == row["answer"]
    assert rows["text"].str.to_lowercase().is_unique().all()
    texts = dict(help_centre.answers.select("id", "text").iter_rows())
    words = [
        (row["text"].split(), texts[row["answer"]].split())
        for row, source in zip(rows.iter_rows(named=True), sources, strict=True)
        if source == "passage"
    ]
    assert all(set(part) <= set(whole) for part, whole in words)
    assert result.dataset.queries.filter(pl.col("type") != "synthetic").equals(help_centre.queries)


def test_those_stay_whose_answer_the_encoder_ranks_high(help_centre, started, recipes):
    kept = synthetic(started().dataset)
    ranker = train(help_centre, recipes["zero-shot"])
    rankings = ranker.rank(kept["text"].to_list(), ROUND_TRIP_DEPTH)
    found = [
        answer in {a.id for a in ranking}
        for answer, ranking in zip(kept["answer"], rankings, strict=True)
    ]
    assert sum(found) >= len(found) - 2  # but for ties


def test_a_ranker_chosen_by_synthetic_queries_knows_no_confidence(help_centre, started, recipes):
    assert train(started().dataset, recipes["towers"]).confidence
    unlabelled = Dataset(
        help_centre.name, help_centre.answers, help_centre.queries, help_centre.labels.head(0)
    )
    ranker = train(started(unlabelled).dataset, recipes["towers"])
    assert ranker.confidence is None
    assert ranker.rank("refund")[0][0].confidence is None


@pytest.mark.parametrize("without", [[], ["validation"]])
def test_a_fifth_is_held_back_where_validation_has_no_labels(help_centre, started, without):
    labels = help_centre.labels.filter(~pl.col("split").is_in(without))
    data = Dataset(help_centre.name, help_centre.answers, help_centre.queries, labels)
    rows = synthetic(started(data).dataset)
    held = (rows["split"] == "validation").sum()
    assert held == (-(-rows.height // 5) if without else 0)
    assert (rows["split"] == "test").sum() == 0


def test_a_second_call_replaces_the_first_and_a_seed_repeats_it(started):
    first = started(seed=1).dataset
    again = started(first, seed=1).dataset
    assert again.queries.equals(first.queries)
    assert again.labels.equals(first.labels)
    assert not started(seed=2).dataset.queries.equals(first.queries)


def test_articles_alone_are_enough(help_centre, started, tmp_path):
    help_centre.save(tmp_path)
    (tmp_path / "queries.jsonl").unlink()
    for file in (tmp_path / "qrels").iterdir():
        file.unlink()
    alone = Dataset.load(tmp_path, needs_queries=False)
    result = started(alone)
    result.dataset.save(tmp_path)
    assert Dataset.load(tmp_path).split("validation").texts
    with pytest.raises(TwinrankError, match="no labels"):
        Dataset.load(tmp_path).split("test")


def test_ids_of_ones_own_are_not_taken_twice(help_centre, started):
    queries = help_centre.queries.with_columns(
        id=pl.when(pl.int_range(pl.len()) == 0).then(pl.lit("synthetic-0")).otherwise("id")
    )
    data = Dataset(help_centre.name, help_centre.answers, queries, help_centre.labels.head(0))
    with pytest.raises(TwinrankError, match="has a query 'synthetic-0' of its own"):
        started(data)


class Stub(BaseHTTPRequestHandler):
    """Speaks as OpenAI's API does; fails after some replies."""

    asked: list[dict] = []  # noqa: RUF012 (one server a test)
    left = 10_000

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        Stub.asked.append(body | {"path": self.path, "key": self.headers["Authorization"]})
        Stub.left -= 1
        text = body["messages"][1]["content"]
        content = f'1. how does "{text[:30]}" work\n- {text[:40]} broken?\n\n???'
        reply = {"id": "1", "object": "chat.completion", "created": 1, "model": "m"}
        message = {"role": "assistant", "content": content}
        reply["choices"] = [{"index": 0, "finish_reason": "stop", "message": message}]
        sent = json.dumps(reply if Stub.left >= 0 else {"error": {"message": "no credit"}}).encode()
        self.send_response(200 if Stub.left >= 0 else 402)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(sent)))
        self.end_headers()
        self.wfile.write(sent)

    def log_message(self, *_):
        pass


@pytest.fixture
def endpoint(monkeypatch):
    pytest.importorskip("openai")
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    Stub.asked, Stub.left = [], 10_000
    server = ThreadingHTTPServer(("127.0.0.1", 0), Stub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()


def test_a_language_model_writes_questions_too(help_centre, started, endpoint, tmp_path):
    model = LanguageModel("tiny", endpoint, tmp_path / "out" / "replies.jsonl")
    result = started(model=model)
    count = help_centre.answers.height
    assert len(Stub.asked) == count
    assert {(call["path"], call["key"], call["model"]) for call in Stub.asked} == {
        ("/v1/chat/completions", "Bearer secret", "tiny")
    }
    assert result.made["model"] > 1.5 * count
    texts = synthetic(result.dataset)["text"].to_list()
    assert any(text.startswith("how does") for text in texts)  # without its number
    assert not any(text.startswith(("1.", "-", "???")) for text in texts)
    assert "secret" not in model.file.read_text()
    assert started(model=model).made == result.made  # nothing is asked twice
    assert len(Stub.asked) == count


def test_what_a_model_wrote_before_it_failed_is_kept(help_centre, started, endpoint, tmp_path):
    model = LanguageModel("tiny", endpoint, tmp_path / "replies.jsonl")
    Stub.left = 20
    with pytest.raises(TwinrankError, match=r"the model 'tiny' at http.*no credit"):
        started(model=model)
    known = len(model.file.read_text().splitlines())
    assert known
    model.file.write_text(f'{model.file.read_text()}{{"key": "cut sh')
    Stub.left, Stub.asked = 10_000, []
    made = started(model=model).made
    assert len(Stub.asked) == help_centre.answers.height - known
    assert started(model=model).made == made  # the cut line has spoiled no other
    assert len(Stub.asked) == help_centre.answers.height - known
