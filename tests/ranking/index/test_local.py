import json

import numpy as np
import pytest

from tests.ranking.index.conftest import DIM, answers, assert_found, best_products
from twinrank.errors import AnswerIndexError, NoAnswerIndexError
from twinrank.ranking import among
from twinrank.ranking.index import LocalIndex, local

QUERIES = np.random.default_rng(3).standard_normal((20, DIM)).astype(np.float32)


@pytest.fixture
def saved(tmp_path):
    index = LocalIndex(tmp_path / "index", "flat", "mine", DIM)
    index.add(*answers([2, 1, 3]))
    index.save()
    return tmp_path / "index"


def test_a_folder_without_an_index(tmp_path):
    with pytest.raises(NoAnswerIndexError, match=r"no index\.json here.*twinrank index RANKER"):
        LocalIndex.open(tmp_path)


@pytest.mark.parametrize("pattern", ["vectors-*.faiss", "rows-*.safetensors"])
def test_a_missing_or_changed_file_is_named_in_a_line(saved, pattern):
    (file,) = saved.glob(pattern)
    whole = file.read_bytes()
    file.write_bytes(whole[:-5] + b"00000")
    with pytest.raises(AnswerIndexError, match=rf"^.*{file.name}: not as index.json says.*fresh$"):
        LocalIndex.open(saved)
    file.unlink()
    with pytest.raises(AnswerIndexError, match=rf"^.*{file.name}: missing.*fresh$"):
        LocalIndex.open(saved)


@pytest.mark.parametrize("text", ["", "{}", '{"format": 2}', "[1]"])
def test_a_damaged_card_is_refused_in_a_line(saved, text):
    (saved / "index.json").write_text(text)
    with pytest.raises(AnswerIndexError, match=r"^.*index\.json: .*--fresh$"):
        LocalIndex.open(saved)


def test_a_card_that_names_no_vectors_is_refused(saved):
    card = json.loads((saved / "index.json").read_text())
    (saved / "index.json").write_text(json.dumps(card | {"files": {}}))
    with pytest.raises(AnswerIndexError, match="--fresh"):
        LocalIndex.open(saved)


def test_saving_leaves_no_file_that_nobody_names(saved):
    (saved / ".tmpA1b2C3").touch()  # of a save that was killed
    index = LocalIndex.open(saved)
    index.remove(["a1"])
    index.save()
    named = json.loads((saved / "index.json").read_text())["files"]
    assert {file.name for file in saved.iterdir()} == {"index.json", ".lock", *named}


def test_a_save_that_is_cut_short_leaves_the_index_that_was(saved, monkeypatch):
    index = LocalIndex.open(saved)
    index.remove(["a1"])
    with monkeypatch.context() as patch, pytest.raises(TypeError):
        patch.setattr(local, "Card", None)  # fails once the files are written
        index.save()
    assert set(LocalIndex.open(saved).held()) == {"a0", "a1", "a2"}


def test_who_has_it_open_keeps_what_was_there(saved):
    reader, writer = LocalIndex.open(saved), LocalIndex.open(saved)
    writer.remove(["a1"])
    writer.save()
    assert set(reader.search(QUERIES[:1], 3)[0].answers) == {"a0", "a1", "a2"}


def test_a_second_writer_is_told_and_harms_nothing(saved, monkeypatch):
    first, second = LocalIndex.open(saved), LocalIndex.open(saved)
    first.remove(["a1"])
    first.save()
    monkeypatch.setattr(local, "FOLDED_AT", 1)
    _, passages = answers([1], seed=5)
    with pytest.raises(AnswerIndexError, match="another process saved it"):
        second.add(["new"], passages)
    assert set(LocalIndex.open(saved).held()) == {"a0", "a2"}


@pytest.mark.parametrize("kind", ["flat", "hnsw"])
def test_new_vectors_are_found_before_and_after_they_are_folded(kind, tmp_path, monkeypatch):
    monkeypatch.setattr(local, "FOLDED_AT", 25)
    ids, passages = answers([2] * 40)
    index = LocalIndex(tmp_path, kind, "mine", DIM)
    for start in range(0, 40, 5):
        places = np.arange(start, start + 5)
        index.add([ids[place] for place in places], among(passages, places))
        known, some = ids[: start + 5], among(passages, np.arange(start + 5))
        for query, found in zip(QUERIES, index.search(QUERIES, 5), strict=True):
            assert_found(found, best_products(known, some, query), 5)


def test_a_graph_finds_nearly_all_also_when_much_was_removed(tmp_path):
    ids, passages = answers([1] * 2000, seed=1)
    index = LocalIndex(tmp_path, "hnsw", "mine", DIM)
    index.add(ids, passages)
    index.save()
    for share in (0.1, 0.5):  # dead vectors stay in the graph; then it is built anew
        index = LocalIndex.open(tmp_path)
        index.remove(ids[: int(share * 2000)])
        index.save()
        index = LocalIndex.open(tmp_path)
        rest = np.arange(int(share * 2000), 2000)
        assert len(index) == len(rest)
        hits = 0
        for query, found in zip(QUERIES, index.search(QUERIES, 10), strict=True):
            right = best_products([ids[i] for i in rest], among_owned(passages, rest), query)
            hits += len(set(found.answers) & set(sorted(right, key=right.get)[-10:]))
        assert hits >= 0.95 * 200


def among_owned(passages, places):
    chosen = among(passages, places)
    return type(chosen)(chosen.rows, np.arange(len(places)), len(places))
