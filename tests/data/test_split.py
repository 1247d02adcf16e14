from collections import Counter, defaultdict

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twinrank.data import Dataset, split
from twinrank.errors import DataError, TwinrankError

LABELS = dict.fromkeys(("query", "answer", "split"), pl.String)
QUERIES = dict.fromkeys(("id", "type", "thread", "text"), pl.String)


def dataset(rows):
    """A data set of rows (query, type, thread, answers)."""
    labels = [(query, answer, "train") for query, _, _, answers in rows for answer in answers]
    answers = sorted({answer for _, answer, _ in labels})
    queries = [(query, kind, thread, f"text of {query}") for query, kind, thread, _ in rows]
    return Dataset(
        name="made",
        answers=pl.DataFrame({"id": answers}, schema={"id": pl.String}),
        queries=pl.DataFrame(queries, schema=QUERIES, orient="row"),
        labels=pl.DataFrame(labels, schema=LABELS, orient="row"),
    )


def one_a_thread(sizes, kinds=("question",)):
    """As many threads of one query as an answer's size says, types in turn."""
    names = [(f"a{a}", i) for a, size in enumerate(sizes) for i in range(size)]
    return dataset(
        [(f"{a}-{i}", kinds[i % len(kinds)], f"t{a}-{i}", [a]) for a, i in names],
    )


def thread_splits(divided):
    threads = dict(divided.queries.select("id", "thread").iter_rows())
    found = defaultdict(set)
    for query, _, name in divided.labels.iter_rows():
        found[threads[query]].add(name)
    return found


def thread_counts(divided):
    return Counter(name for names in thread_splits(divided).values() for name in names)


def answer_counts(divided):
    threads = dict(divided.queries.select("id", "thread").iter_rows())
    rows = {(answer, threads[query], name) for query, answer, name in divided.labels.iter_rows()}
    return Counter((answer, name) for answer, _, name in rows)


def as_set(divided):
    return set(divided.labels.iter_rows())


ROWS = st.lists(
    st.tuples(
        st.sampled_from(["question", "conversation", "email"]),
        st.integers(0, 30),  # thread
        st.sets(st.integers(0, 8), max_size=3),  # answers
    ),
    min_size=1,
    max_size=80,
)


@settings(max_examples=60, deadline=None)
@given(ROWS, st.integers(0, 5), st.randoms(use_true_random=False))
def test_invariants_for_any_data(rows, seed, random):
    rows = [
        (f"q{i}", kind, f"t{t}", [f"a{a}" for a in ans]) for i, (kind, t, ans) in enumerate(rows)
    ]
    made = dataset(rows)
    try:
        divided = split(made, validation=0.2, test=0.2, seed=seed)
    except DataError as error:
        lack = "no thread is left" if made.labels.height else "the data set has no labels"
        assert lack in str(error)
        return
    assert all(len(names) == 1 for names in thread_splits(divided).values())
    assert divided.labels.drop("split").equals(made.labels.drop("split"))
    in_train = {answer for _, answer, name in divided.labels.iter_rows() if name == "train"}
    assert in_train == set(made.labels["answer"])
    shuffled = random.sample(rows, len(rows))
    assert as_set(split(dataset(shuffled), validation=0.2, test=0.2, seed=seed)) == as_set(divided)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(1, 40), min_size=20, max_size=60),
    st.floats(0.05, 0.3),
    st.floats(0.05, 0.3),
)
def test_shares_hold_over_all_threads_and_within_answers(sizes, validation, test):
    sizes = [*sizes, 40, 40, 40, 40]  # enough to spare for what single threads cannot give
    divided = split(one_a_thread(sizes), validation=validation, test=test)
    counts, total = thread_counts(divided), sum(sizes)
    free = total - len(sizes)
    wanted = min(round(total * (validation + test)), free)
    assert abs(counts["validation"] + counts["test"] - wanted) <= 1
    assert abs(counts["test"] - wanted * test / (validation + test)) <= 2
    per_answer = answer_counts(divided)
    rates = [
        (per_answer[f"a{a}", "validation"] + per_answer[f"a{a}", "test"]) / size
        for a, size in enumerate(sizes)
        if size == 40
    ]
    assert max(rates) - min(rates) <= 1 / 40 + 1e-9


def test_rare_answers_give_their_part_and_a_single_thread_stays_in_train():
    divided = split(one_a_thread([1] * 50 + [2] * 100 + [3] * 100 + [20] * 50))
    per_answer = answer_counts(divided)
    assert all(per_answer[f"a{a}", "train"] == 1 for a in range(50))
    pairs = sum(
        per_answer[f"a{a}", name] for a in range(50, 150) for name in ("validation", "test")
    )
    assert 60 <= pairs <= 64  # 30 % of their 200 threads, and a little for the single ones
    assert thread_counts(divided) == {"train": 1085, "validation": 232, "test": 233}


def test_types_are_divided_alike():
    divided = split(one_a_thread([40] * 20, kinds=("question", "conversation")))
    kinds = dict(divided.queries.select("id", "type").iter_rows())
    counts = Counter((kinds[query], name) for query, _, name in divided.labels.iter_rows())
    for kind in ("question", "conversation"):
        assert counts[kind, "validation"] + counts[kind, "test"] == pytest.approx(120, abs=20)


def test_the_outcome_depends_on_the_seed_and_not_on_splits_before():
    made = one_a_thread([10] * 10)
    assert as_set(split(made, seed=0)) == as_set(split(split(made, seed=3), seed=0))
    assert as_set(split(made, seed=0)) != as_set(split(made, seed=1))


def test_the_division_is_the_same_in_every_release():
    divided = split(one_a_thread([4, 4, 4]), validation=0.25, test=0.25, seed=7)
    out = {q: name for q, _, name in divided.labels.iter_rows() if name != "train"}
    assert out == {
        **{"a0-0": "test", "a0-3": "validation", "a1-0": "test"},
        **{"a1-3": "validation", "a2-0": "validation", "a2-3": "test"},
    }


def test_shares_that_cannot_be_are_refused_and_shortage_is_said(caplog):
    for shares in ((0.5, 0.5), (-0.1, 0.2), (1.0, 0.0), (float("nan"), 0.1)):
        with pytest.raises(TwinrankError, match="leave nothing for train"):
            split(one_a_thread([10]), validation=shares[0], test=shares[1])
    for sizes in ([1, 1, 1], [2]):
        with pytest.raises(DataError, match=f"no thread is left for .*{sum(sizes)} are labelled"):
            split(one_a_thread(sizes))
    mend = r"--column query_answer=NAME\) or from a table of labels \(--labels FILE"
    for shares in ((0.15, 0.15), (0.0, 0.0)):
        with pytest.raises(DataError, match=f"made: the data set has no labels; .*{mend}"):
            split(one_a_thread([]), validation=shares[0], test=shares[1])
    assert set(thread_counts(split(one_a_thread([10] * 10), test=0.0))) == {"train", "validation"}
    everything = split(one_a_thread([10] * 10), validation=0.0, test=0.0)
    assert thread_counts(everything) == {"train": 100}
    split(one_a_thread([1] * 90 + [2] * 10))
    assert "validation got 5 of 110 labelled threads" in caplog.text
