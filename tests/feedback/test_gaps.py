"""Topics that are answered badly: which queries count, how they are grouped, ordered and named."""

import json
import math
from collections import Counter
from contextlib import closing
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.stats import zscore

from tests.test_cli import twinrank
from twinrank.errors import DataError, RankerError
from twinrank.feedback import Verdict
from twinrank.feedback.database import Feedback
from twinrank.feedback.gaps import (
    MIN_BAD_QUERIES,
    TOPIC_DISTANCE,
    find_gaps,
    group_queries,
    read_queries,
)
from twinrank.feedback.labels import ASKED_SCHEMA, judge_texts
from twinrank.ranking import RankedAnswer, Ranker
from twinrank.reports.gaps_report import describe_gaps, gaps_table

NOW = datetime(2026, 1, 31, tzinfo=UTC)
TODAY = NOW.date()
WORDS = ["camera", "lens", "tripod", "invoice", "tax", "receipt", "the", "help", "now"]


class FakeRanker:
    """Features are counts of words; of the word `help` the first answer is sure, and high."""

    recipe = SimpleNamespace(language="english")

    def __init__(self):
        self.dense = SimpleNamespace(reader=self.read)

    def read(self, texts):
        counts = [Counter(text.lower().split()) for text in texts]
        rows = [[c[w] * 1.01**i + 0.01 for i, w in enumerate(WORDS)] for c in counts]
        return np.array(rows, np.float32).reshape(len(texts), len(WORDS))

    def prepare(self, texts):
        pass

    def check_min_confidence(self, below):
        assert 0 <= below <= 1

    def rank(self, texts, k, where=None):
        assert k == 1
        if where == "nothing fits":
            return [[] for _ in texts]
        sure = [0.9 if "help" in text else 0.1 for text in texts]
        return [[RankedAnswer(1, "a", "An answer", 10 * s, None, s)] for s in sure]


def asked(*texts, right=None, day=None):
    rows = [(text, right, day) for text in texts]
    return pl.DataFrame(rows, ASKED_SCHEMA, orient="row")


CAMERA = ["camera lens", "lens camera tripod", "the camera lens now"]
INVOICE = ["invoice tax", "invoice receipt tax", "the tax invoice"]


def verdict(text, answer, right, days_ago=0):
    key = f"{text}{answer}{right}{days_ago}"
    return Verdict(key, text, "", answer, right, at=NOW - timedelta(days_ago))


@pytest.mark.parametrize(
    ("verdicts", "right"),
    [
        ([("a", False)], False),
        ([("a", False), ("b", False)], False),
        ([(None, False)], False),
        ([("a", True)], True),
        ([("a", False), ("b", True)], True),
        ([(None, False), ("a", True)], True),
        ([("a", True), ("a", False)], False),
        ([("a", True), (None, False)], False),
    ],
)
def test_a_query_whose_right_answer_was_named_is_no_gap(verdicts, right):
    given_ones = [verdict("My  camera", *each) for each in verdicts[:-1]]
    judged = judge_texts([*given_ones, verdict("my camera", *verdicts[-1])])
    assert judged.rows() == [("my camera", right, TODAY)]


def test_judged_texts_come_by_the_day_of_their_last_verdict():
    verdicts = [verdict(text, "a", False, ago) for text, ago in [("x", 9), ("y", 5), ("x", 1)]]
    days = [(text, (TODAY - day).days) for text, _, day in judge_texts(verdicts).rows()]
    assert days == [("y", 5), ("x", 1)]
    assert judge_texts([]).schema == pl.Schema(ASKED_SCHEMA)


def test_queries_come_from_a_data_set_without_labels_and_from_a_file(help_centre_folder, tmp_path):
    for name, kept in (("corpus.jsonl", None), ("queries.jsonl", None)):
        lines = (help_centre_folder / name).read_text().splitlines()[:kept]
        (tmp_path / name).write_text("\n".join(lines))
    (tmp_path / "qrels").mkdir()
    rows = (help_centre_folder / "qrels" / "train.tsv").read_text().splitlines()[:4]
    (tmp_path / "qrels" / "train.tsv").write_text("\n".join(rows) + "\n")
    labelled = {row.split("\t")[0] for row in rows[1:]}
    queries = [json.loads(line) for line in (tmp_path / "queries.jsonl").read_text().splitlines()]
    expected = [query["text"] for query in queries if query["_id"] not in labelled]
    read = read_queries(tmp_path)
    assert (read["text"].to_list(), read.schema) == (expected, pl.Schema(ASKED_SCHEMA))
    (tmp_path / "texts.jsonl").write_text('{"text": "one"}\n\n{"text": "two"}\n')
    assert read_queries(tmp_path / "texts.jsonl")["text"].to_list() == ["one", "two"]
    (tmp_path / "queries.jsonl").write_text(
        "\n".join(json.dumps(query) for query in queries if query["_id"] in labelled)
    )
    with pytest.raises(DataError, match="every query has a label"):
        read_queries(tmp_path)


def test_topics_are_named_counted_and_described():
    days = [TODAY, TODAY - timedelta(29), TODAY - timedelta(30), TODAY - timedelta(60)]
    camera = [asked(text, right=False, day=day) for text, day in zip(CAMERA, days, strict=False)]
    well = asked("camera lens help", right=True, day=days[3])
    gaps = find_gaps(FakeRanker(), pl.concat([*camera, well, asked("receipt", right=False)]))
    (topic,) = gaps.topics
    assert (gaps.queries, gaps.bad, gaps.single, gaps.left_out, gaps.total) == (5, 4, 1, 0, 1)
    assert (topic.queries, topic.bad, topic.recent, topic.before) == (4, 3, 2, 1)
    assert topic.words == ["camera", "lens"]  # of two texts or more, and no stop word
    assert topic.title == topic.examples[0] == "camera lens"
    assert sorted(topic.examples) == sorted(CAMERA)
    assert topic.nearest.model_dump() == {"id": "a", "title": "An answer", "confidence": 0.1}


def test_a_long_central_query_makes_a_short_draft():
    texts = [f"User: camera lens{' camera lens' * n} now" for n in (98, 99, 100)]
    (topic,) = find_gaps(FakeRanker(), asked(*texts)).topics
    assert topic.title.startswith("camera lens") and len(topic.title) == 60
    assert {len(example) for example in topic.examples} == {200}
    assert (topic.recent, topic.before) == (None, None)


def test_a_verdict_counts_more_than_confidence():
    unjudged = asked(*CAMERA, *(f"{text} help" for text in INVOICE))
    (topic,) = find_gaps(FakeRanker(), unjudged).topics
    assert topic.words[0] == "camera"
    wrong = asked(*(f"{text} help" for text in INVOICE), right=False)
    right = asked(*CAMERA, right=True)
    gaps = find_gaps(FakeRanker(), pl.concat([unjudged, wrong, right]))
    assert (gaps.queries, gaps.bad) == (6, 3)  # of a text the last row counts
    assert set(gaps.topics[0].words) == {"invoice", "tax", "help"}
    assert find_gaps(FakeRanker(), unjudged, below=0).bad == 0


def test_the_lower_scores_come_first_and_no_more_than_k():
    texts = [*(f"{text} help" for text in CAMERA), *INVOICE]
    gaps = find_gaps(FakeRanker(), asked(*texts, right=False))
    assert [topic.nearest.confidence for topic in gaps.topics] == [0.1, 0.9]
    fewer = find_gaps(FakeRanker(), asked(*texts, right=False), 1)
    assert (fewer.topics, fewer.total) == (gaps.topics[:1], 2)
    assert "Topics shown: 1 of 2" in describe_gaps(fewer)


def test_only_the_newest_are_looked_at_and_the_others_counted():
    gaps = find_gaps(FakeRanker(), asked(*CAMERA, *INVOICE, "INVOICE  tax"), most=3)
    assert (gaps.queries, gaps.left_out) == (3, 3)
    assert "; 3 older ones were left out" in describe_gaps(gaps)


@pytest.mark.parametrize("texts", [[], ["camera"], ["camera", "lens"]])
def test_few_queries_make_no_topic(texts):
    gaps = find_gaps(FakeRanker(), asked(*texts))
    assert (gaps.topics, gaps.bad, gaps.single) == ([], len(texts), len(texts))


def test_where_no_answer_fits_all_is_bad_and_nothing_near():
    gaps = find_gaps(FakeRanker(), asked(*CAMERA), where="nothing fits")
    assert (gaps.bad, gaps.topics[0].nearest) == (3, None)


TEXTS = st.lists(st.lists(st.sampled_from(WORDS), min_size=1, max_size=4).map(" ".join))
JUDGED = st.tuples(TEXTS, st.lists(st.sampled_from([True, False, None]), min_size=1))


@given(JUDGED)
def test_groups_and_their_order_are_those_of_scipy(judged):
    texts, right = judged
    texts = list(dict.fromkeys(texts))
    rows = pl.DataFrame({"text": texts, "right": (right * len(texts))[: len(texts)]})
    rows = rows.with_columns(day=None).cast(ASKED_SCHEMA)
    ranker = FakeRanker()
    grouped = group_queries(ranker, rows)
    bad = [
        not said if said is not None else "help" not in text
        for text, said in rows.select("text", "right").rows()
    ]
    assert grouped.bad.tolist() == bad
    gaps = find_gaps(ranker, rows, len(texts) + 1)
    assert gaps.bad == gaps.single + sum(topic.bad for topic in gaps.topics)
    if len(texts) < MIN_BAD_QUERIES:
        return
    tree = linkage(ranker.read(texts).astype(np.float64), "average", "cosine")
    clusters = fcluster(tree, TOPIC_DISTANCE, "distance")
    members = [frozenset(np.flatnonzero(clusters == c).tolist()) for c in set(clusters)]
    expected = {m for m in members if sum(bad[row] for row in m) >= MIN_BAD_QUERIES}
    assert {frozenset(topic.tolist()) for topic in grouped.topics} == expected
    scores = np.array([9.0 if "help" in text else 1.0 for text in texts])
    worth = sum(sign * zscore(v) for v, sign in ((bad, 1), (scores, -1)) if len(set(v)) > 1)
    worth = np.broadcast_to(worth, len(texts))
    sums = [worth[topic].sum() for topic in grouped.topics]
    assert sums == pytest.approx(sorted(sums, reverse=True), abs=1e-6)


def test_words_are_those_of_class_tf_idf():
    texts = [*CAMERA, *INVOICE, "tripod the tax"]
    gaps = find_gaps(FakeRanker(), asked(*texts))
    words = [set(text.split()) - {"the", "now"} for text in texts]
    everywhere = Counter(word for each in words for word in each)
    for topic in gaps.topics:
        rows = [words[texts.index(t)] for t in texts if topic.words[0] in t]
        counts = Counter(word for each in rows for word in each)
        average = sum(everywhere.values()) / len(gaps.topics)
        worth = {w: n * math.log(1 + average / everywhere[w]) for w, n in counts.items() if n > 1}
        best = sorted(worth, key=lambda word: (-worth[word], word))
        assert topic.words == best[:4]


def test_a_ranker_without_an_encoder_or_confidence_says_so(trained):
    ranker = FakeRanker()
    ranker.dense = None
    with pytest.raises(RankerError, match="goes by words alone"):
        find_gaps(ranker, asked(*CAMERA))
    loaded = Ranker.load(trained)
    loaded.confidence = None
    with pytest.raises(RankerError, match="knows no confidence"):
        find_gaps(loaded, asked(*CAMERA))
    assert find_gaps(loaded, asked(*CAMERA, right=False)).bad == 3


HOSTILE = "[bold]\x1b[2J"


@pytest.fixture
def judged_folder(folder):
    with closing(Feedback.open(f"{folder}.feedback.db")) as feedback:
        for number in range(4):
            text = f"{HOSTILE} why is my camera number {number} not sold, and so very far away?"
            feedback.add(verdict(text, None, False, days_ago=20 * number))
    return folder


def test_the_command_prints_a_table_of_80_columns_and_json(judged_folder, tmp_path):
    (tmp_path / "more.jsonl").write_text('{"text": "the refund"}\n')
    args = ("gaps", judged_folder, "--queries", tmp_path / "more.jsonl")
    printed = twinrank(*args, COLUMNS="80").stdout
    assert max(map(len, printed.splitlines())) <= 80
    assert "nearest" in printed and "\x1b" not in printed
    gaps = json.loads(twinrank(*args, "--json").stdout)
    assert (gaps["queries"], gaps["topics"][0]["bad"]) == (5, 5)
    assert (gaps["topics"][0]["recent"], gaps["topics"][0]["before"]) == (2, 1)


def test_no_topics_are_a_line():
    assert "Topics shown: 0 of 0" in gaps_table(find_gaps(FakeRanker(), asked())).plain


def test_without_verdicts_or_queries_it_says_what_to_do(folder):
    failed = twinrank("gaps", folder, check=False)
    assert failed.returncode == 2
    assert "no verdicts yet; serve the ranker, or give --queries" in failed.stderr
