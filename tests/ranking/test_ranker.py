import json
import re
from dataclasses import replace
from pathlib import Path

import bm25s
import numpy as np
import polars as pl
import pytest
import Stemmer

from tests.ranker_files import all_files, edit_manifest, version_folder
from twinrank.encoding import Encoder, FeatureStore
from twinrank.errors import ArgumentError, RankerError
from twinrank.ranking import Bm25, Ranker
from twinrank.recipe import Recipe
from twinrank.training import train

TEXTS = ["it wont let me in again", "User: hello\nAgent: hi\nUser: where is my money??"]


def new_answer(ranker, answer_id="new"):
    sections = pl.Series("sections", [[]], dtype=ranker.answers.schema["sections"])
    row = {"id": [answer_id], "title": ["Zeppelins"], "text": ["Moor your zeppelin."]}
    url = pl.Series([None], dtype=pl.String)
    return pl.DataFrame({**row, "url": url, "sections": sections, "metadata": ['{"lang": "da"}']})


def test_saved_and_loaded_it_scores_the_same(ranker, tmp_path):
    ranker.add_answers(new_answer(ranker))
    ranker.add_answers(new_answer(ranker, "bare").drop("metadata"))
    assert ranker.answers["metadata"].tail(2).to_list() == ['{"lang": "da"}', "{}"]
    ranker.save(tmp_path)
    loaded = Ranker.load(tmp_path)
    np.testing.assert_allclose(loaded.scores(TEXTS), ranker.scores(TEXTS), rtol=1e-5)
    assert loaded.recipe == ranker.recipe
    assert loaded.origin == ranker.origin
    assert loaded.answers.equals(ranker.answers)
    assert loaded.fingerprint == ranker.fingerprint
    suffixes = {Path(name).suffix for name in all_files(tmp_path)} - {".md", ""}
    assert suffixes <= {".json", ".jsonl", ".safetensors"}


def test_rank_gives_the_best_first(ranker):
    scores = ranker.scores(TEXTS)
    for row, answers in zip(scores, ranker.rank(TEXTS, k=7), strict=True):
        assert [a.rank for a in answers] == list(range(1, 8))
        np.testing.assert_allclose([a.score for a in answers], np.sort(row)[::-1][:7])
        assert answers[0].id == ranker.answers["id"][int(np.argmax(row))]
    (answers,) = ranker.rank("hello", k=10_000)
    assert sorted(a.id for a in answers) == sorted(ranker.answers["id"])


@pytest.mark.parametrize("text", ["", "  \n"])
def test_an_empty_text_is_refused(ranker, text):
    with pytest.raises(RankerError, match="text 2 of 2 is empty"):
        ranker.rank(["fine", text])


def test_answers_added_replaced_and_removed_leave_no_trace(ranker):
    before, answers = ranker.scores(TEXTS), ranker.answers
    ranker.add_answers(new_answer(ranker))
    assert "new" in {a.id for a in ranker.rank("how do I moor a zeppelin", k=3)[0]}
    ranker.remove_answers(["new"])
    np.testing.assert_allclose(ranker.scores(TEXTS), before, rtol=1e-6)
    rows = answers[[0, 3]]
    ranker.put_answers(rows.reverse().with_columns(text=pl.lit("Moor your zeppelin.")))
    changed = ranker.scores(TEXTS)
    assert not np.allclose(changed[:, [0, 3]], before[:, [0, 3]])
    if not ranker.recipe.words:  # of which every other answer's depend on all
        rest = np.delete(np.arange(len(answers)), [0, 3])
        np.testing.assert_allclose(changed[:, rest], before[:, rest], rtol=1e-5)
    ranker.put_answers(rows)
    assert ranker.answers.equals(answers)
    np.testing.assert_allclose(ranker.scores(TEXTS), before, rtol=1e-5)
    if not ranker.past:  # a removed answer loses its past queries
        ranker.remove_answers(answers["id"][:1])
        ranker.add_answers(answers.head(1))
        np.testing.assert_allclose(ranker.scores(TEXTS), np.roll(before, -1, axis=1), atol=1e-4)


@pytest.mark.parametrize("ranker", ["fused"], indirect=True)
def test_an_answer_put_in_place_of_another_keeps_its_past(ranker):
    labels = ranker.past.labels.toarray()
    both = pl.concat([new_answer(ranker), ranker.answers.head(1)])
    ranker.put_answers(both.with_columns(text=pl.lit("Moor your zeppelin.")))
    past = ranker.past
    np.testing.assert_array_equal(past.labels.toarray()[:, :-1], labels)
    assert past.newcomers.tolist() == [False] * labels.shape[1] + [True]
    assert ranker.answers["id"][-1] == "new"


def test_a_copy_changes_by_itself(ranker):
    before, answers = ranker.scores(TEXTS), ranker.answers
    copy = ranker.copy()
    copy.put_answers(new_answer(ranker))
    copy.put_answers(new_answer(ranker, answers["id"][0]))
    copy.remove_answers(answers["id"][1:3])
    np.testing.assert_array_equal(ranker.scores(TEXTS), before)
    assert ranker.answers.equals(answers)
    ranker.put_answers(new_answer(ranker))
    ranker.put_answers(new_answer(ranker, answers["id"][0]))
    ranker.remove_answers(answers["id"][1:3])
    np.testing.assert_array_equal(ranker.scores(TEXTS), copy.scores(TEXTS))


def test_answers_matched_are_those_given(ranker):
    wanted = pl.concat([new_answer(ranker), ranker.answers[3:]])
    edited = wanted.with_columns(
        text=pl.when(pl.col("id") == wanted["id"][5]).then(pl.lit("Other.")).otherwise("text")
    )
    ranker.match_answers(edited)
    assert ranker.answers.sort("id").equals(edited.sort("id"))
    assert ranker.scores(TEXTS).shape[1] == edited.height
    before = ranker.scores(TEXTS)
    ranker.match_answers(edited.reverse())
    np.testing.assert_array_equal(ranker.scores(TEXTS), before)
    with pytest.raises(RankerError, match="at least one"):
        ranker.match_answers(edited.clear())


def test_bad_changes_leave_the_ranker_alone(ranker):
    before = ranker.answers
    with pytest.raises(RankerError, match="is already there"):
        ranker.add_answers(ranker.answers.head(2))
    with pytest.raises(RankerError, match="no answer 'nonsense'"):
        ranker.remove_answers(["nonsense", before["id"][0]])
    with pytest.raises(RankerError, match="needs an answer"):
        ranker.remove_answers(before["id"])
    with pytest.raises(RankerError, match="'new' stands twice"):
        ranker.put_answers(pl.concat([new_answer(ranker)] * 2))
    assert ranker.answers.equals(before)
    assert ranker.scores(TEXTS).shape[1] == before.height


def test_bm25_equals_the_textbook(help_centre):
    """Okapi's term frequencies and Lucene's idf, in float64 over the same words."""
    texts = help_centre.answer_texts()
    stop_words, stemmer = set(bm25s.stopwords.STOPWORDS_EN), Stemmer.Stemmer("english")

    def words_of(text):
        words = re.findall(r"\b\w\w+\b", text.lower())
        return stemmer.stemWords([word for word in words if word not in stop_words])

    words = [words_of(text) for text in texts]
    mean = np.mean([len(w) for w in words])
    expected = np.zeros(len(texts))
    for word in words_of(TEXTS[1]):
        having = sum(word in w for w in words)
        idf = np.log(1 + (len(words) - having + 0.5) / (having + 0.5))
        for j, w in enumerate(words):
            tf = w.count(word)
            expected[j] += idf * tf / (tf + 1.5 * (1 - 0.75 + 0.75 * len(w) / mean))
    index = Bm25(texts, language="english")
    np.testing.assert_allclose(index.score_texts([TEXTS[1]])[0], expected, rtol=1e-4, atol=1e-5)
    assert not index.score_texts(["", "xyzzy"]).any()


def test_words_score_texts_that_are_not_there_as_though_they_were(help_centre):
    texts = help_centre.answer_texts()
    index = Bm25(texts, language="english", scale=0.5)
    query = f"{TEXTS[1]} {TEXTS[1]} xyzzy"
    (expected,) = index.score_texts([query])
    np.testing.assert_allclose(index.score_documents(query, texts), expected, rtol=1e-4, atol=1e-5)
    assert index.score_documents("xyzzy", ["xyzzy", "", "invoice"])[0] > 0
    assert not index.score_documents("xyzzy", ["", "invoice"]).any()


@pytest.fixture
def saved(fitted, tmp_path):
    fitted("towers").save(tmp_path / "ranker")
    return tmp_path / "ranker"


@pytest.mark.parametrize("name", ["towers.safetensors", "vectors.safetensors", "corpus.jsonl"])
def test_a_missing_or_changed_file_is_named(saved, name):
    file = version_folder(saved) / name
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(RankerError, match=rf"{file.name}: not as it was written"):
        Ranker.load(saved)
    file.unlink()
    with pytest.raises(RankerError, match=rf"{file.name}: missing"):
        Ranker.load(saved)


def test_another_format_version_is_refused(saved):
    file = saved / "current.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"format": 3}))
    with pytest.raises(RankerError, match=r"format: .*reads format 4: train again"):
        Ranker.load(saved)


def test_another_encoder_is_refused(saved):
    edit_manifest(saved, encoder_identity="0" * 64)
    with pytest.raises(RankerError, match="whose weights or tokenizer differ"):
        Ranker.load(saved)


def test_an_encoder_that_is_gone_is_refused(saved):
    recipe = json.loads((version_folder(saved) / "manifest.json").read_text())["recipe"]
    recipe["encoder"]["name"] = "./gone"
    edit_manifest(saved, recipe=recipe)
    with pytest.raises(RankerError, match="its encoder cannot be opened"):
        Ranker.load(saved)


@pytest.fixture(scope="module")
def words(help_centre, tmp_path_factory):
    """By names and paths alone."""
    out = str(tmp_path_factory.mktemp("words") / "run")
    train(help_centre, "bm25", out=out)
    return Ranker.load(out)


@pytest.mark.parametrize("texts", [pl.Series(TEXTS), np.array(TEXTS), tuple(TEXTS), iter(TEXTS)])
def test_texts_come_in_any_iterable(words, texts):
    assert words.rank(texts) == words.rank(TEXTS)


@pytest.mark.parametrize(
    "call",
    [
        lambda words, data: words.rank(["a", None]),
        lambda words, data: words.rank([float("nan")]),
        lambda words, data: words.rank({"q": "hello"}),
        lambda words, data: words.rank(pl.DataFrame({"text": TEXTS})),
        lambda words, data: words.add_answers(pl.DataFrame({"id": ["z"], "title": ["t"]})),
        lambda words, data: words.put_answers(data.answers.with_columns(id=pl.lit(""))),
        lambda words, data: words.put_answers(data.answers.with_columns(sections=pl.lit("one"))),
        lambda words, data: words.save(None),
        lambda words, data: Ranker.load(None),
        lambda words, data: Recipe.load(None),
        lambda words, data: Encoder(None),
        lambda words, data: Encoder(max_tokens="128"),
        lambda words, data: Encoder().encode(None),
    ],
)
def test_a_wrong_argument_is_an_error_that_says_what_to_give(words, help_centre, call):
    with pytest.raises(ArgumentError, match="give"):
        call(words.copy(), help_centre)


def test_answers_may_lack_what_they_need_not_have(words):
    one = words.copy()
    one.remove_answers("nw-101")  # an id, and not six letters
    assert one.answers.height == words.answers.height - 1
    one.add_answers(pl.DataFrame({"id": [7], "title": [None], "text": ["Moor your zeppelin."]}))
    assert one.rank("zeppelin", k=1)[0][0].id == "7"
    one.put_answers(one.answers.clear())
    assert one.answers.height == words.answers.height


def test_a_ranker_whose_numbers_are_not_finite_does_not_rank(recipes, help_centre):
    ranker = train(help_centre, recipes["towers"], store=FeatureStore())
    ranker.dense.towers.tensors["log_scale"].fill(np.nan)
    for refused in (ranker.rank, ranker.scores):
        with pytest.raises(RankerError, match="scores that are not finite"):
            refused(TEXTS)


@pytest.mark.parametrize("saved", [False, True])
def test_an_answer_that_was_set_aside_comes_back_as_it_was(ranker, tmp_path, saved):
    before = ranker.scores(TEXTS)
    row, id_ = 3, ranker.answers["id"][3]
    answer = ranker.answers.row(row, named=True)
    ranker.set_aside(id_)
    assert id_ not in ranker.answers["id"]
    if saved:
        ranker.save(tmp_path)
        ranker = Ranker.load(tmp_path)
    ranker.restore_answer(id_)
    assert ranker.answers.row(-1, named=True) == answer
    order = [*range(row), *range(row + 1, before.shape[1]), row]
    # What its own text taught the classifier of words of other answers is not taught again.
    np.testing.assert_allclose(ranker.scores(TEXTS), before[:, order], atol=0.1)
    assert ranker.removed == ()
    with pytest.raises(RankerError, match="no answer"):
        ranker.restore_answer(id_)


def test_past_queries_come_back_to_a_ranker_that_lacks_them(fused, recipes, help_centre):
    ranker = fused
    id_, before = ranker.answers["id"][3], ranker.scores(TEXTS)
    solved = ranker.past.solved_by(3)
    assert solved
    ranker.set_aside(id_)
    theirs = help_centre.labels.filter(pl.col("answer") == id_)["query"]
    labels = help_centre.labels.filter(~pl.col("query").is_in(theirs.implode()))
    other = train(replace(help_centre, labels=labels), recipes["fused"], store=FeatureStore())
    other.match_answers(ranker.answers)
    other.removed = ranker.removed
    assert not set(solved) & set(other.past.texts)
    other.restore_answer(id_)
    assert sorted(other.past.solved_by(other.answers.height - 1)) == sorted(solved)
    best = [ranking[0].id for ranking in other.rank(solved, k=1)]
    assert best.count(id_) > len(solved) / 2
    assert before.shape == other.scores(TEXTS).shape


def test_what_was_put_and_removed_again_comes_back_with_the_first_ones_past(fused):
    ranker = fused
    id_, solved = ranker.answers["id"][3], ranker.past.solved_by(3)
    ranker.set_aside(id_)
    ranker.put_answers(new_answer(ranker, id_))
    ranker.set_aside(id_)
    ranker.restore_answer(id_)
    assert ranker.answers["title"][-1] == "Zeppelins"
    assert ranker.past.solved_by(ranker.answers.height - 1) == solved
