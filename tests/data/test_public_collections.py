"""Public data sets by name; there is no network here: local ones stand for them."""

import json

import pytest

from tests.data.test_odd_collections import CORPUS, QUERIES, TEST, TRAIN, lines
from twinrank.data import Dataset, import_collection
from twinrank.errors import DataError, TwinrankError

CONFIGURATIONS = """---
configs:
- config_name: corpus
  data_files: corpus.jsonl
- config_name: queries
  data_files: queries.jsonl
- config_name: default
  data_files:
  - split: train
    path: train.jsonl
  - split: dev
    path: dev.jsonl
  - split: other
    path: dev.jsonl
---
"""


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A folder as MTEB has its data sets on Hugging Face."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "hub"
    folder.mkdir()
    corpus = [*CORPUS, {"_id": "a5", "title": "", "text": ""}]
    files = {"corpus": corpus, "queries": [{**q, "lang": "en"} for q in QUERIES]}
    for name, pairs in {"train": TRAIN, "dev": [*TEST, ("q3", "a9", 1)]}.items():
        files[name] = [{"query-id": q, "corpus-id": a, "score": s + 1.0} for q, a, s in pairs]
    for name, records in files.items():
        (folder / f"{name}.jsonl").write_text(lines(*records))
    (folder / "README.md").write_text(CONFIGURATIONS)
    return folder


def test_a_data_set_of_hugging_face(hub, tmp_path, caplog):
    dataset = import_collection(tmp_path / "out", f"hf:{hub}")
    assert dataset.answers["id"].to_list() == ["a1", "a2", "a3", "a4"]
    assert dataset.labels.rows() == [
        ("q1", "a1", "train"),
        ("q2", "a2", "train"),
        ("q3", "a3", "validation"),
        ("q4", "a4", "validation"),
    ]
    assert set(dataset.judgements["score"]) == {2.0}
    assert json.loads(dataset.queries["metadata"][0]) == {"lang": "en"}
    for said in (
        "judgements not read of the splits other",
        "answers without title and text left out: 1, the first in line 5",
        "judgements of unknown answer ids left out: 1, the first in line 3",
    ):
        assert said in caplog.text
    assert Dataset.load(tmp_path / "out", strict=True).fingerprint == dataset.fingerprint


@pytest.fixture
def registered(tmp_path, monkeypatch):
    """A collection of ir_datasets, and its splits below it."""
    ir_datasets = pytest.importorskip("ir_datasets")
    monkeypatch.setenv("IR_DATASETS_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(ir_datasets, "registry", ir_datasets.util.Registry())

    def save(name, rows):
        file = tmp_path / name
        file.write_text("".join("\t".join(map(str, row)) + "\n" for row in rows))
        return str(file)

    docs = save("docs.tsv", [(a["_id"], a["text"]) for a in CORPUS])
    for split, pairs in {"train": TRAIN, "dev": TEST}.items():
        asked = [(q["_id"], q["text"]) for q in QUERIES if q["_id"] in {p[0] for p in pairs}]
        part = ir_datasets.create_dataset(
            docs_tsv=docs,
            queries_tsv=save(f"{split}.tsv", asked),
            qrels_trec=save(f"{split}.qrels", [(q, 0, a, score) for q, a, score in pairs]),
        )
        ir_datasets.registry.register(f"mine/{split}", part)
    whole = ir_datasets.create_dataset(docs_tsv=docs)
    ir_datasets.registry.register("mine", whole)


@pytest.mark.usefixtures("registered")
def test_a_collection_of_ir_datasets_and_one_split_of_it(tmp_path):
    dataset = import_collection(tmp_path / "all", "ir_datasets:mine")
    assert dataset.labelled() == {"train": {"query": 2}, "validation": {"query": 2}}
    assert dataset.answers["text"].to_list() == [a["text"] for a in CORPUS]
    part = import_collection(tmp_path / "part", "ir_datasets:mine/train")
    assert part.labels.rows() == [(q, a, "train") for q, a, _ in TRAIN]
    assert part.queries["id"].to_list() == ["q1", "q2"]


@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("beir/scifact", "give ir_datasets:ID or hf:ID"),
        ("hf:", "give ir_datasets:ID or hf:ID"),
        ("kaggle:x", "give ir_datasets:ID or hf:ID"),
        ("ir_datasets:nowhere", "no collection with documents, queries and judgements"),
        ("hf:./nowhere", "check the id, and the connection"),
    ],
)
def test_a_name_that_stands_for_nothing_is_refused(tmp_path, name, what):
    with pytest.raises(TwinrankError, match=what):
        import_collection(tmp_path / "out", name)
    assert not (tmp_path / "out").exists()


def test_a_folder_of_another_layout_is_refused(hub, tmp_path):
    (hub / "README.md").unlink()
    with pytest.raises(TwinrankError, match="no configurations called corpus and queries"):
        import_collection(tmp_path / "out", f"hf:{hub}")


def test_nothing_is_written_over(hub, tmp_path):
    import_collection(tmp_path / "out", f"hf:{hub}")
    with pytest.raises(DataError, match="there is a file or a data set already"):
        import_collection(tmp_path / "out", f"hf:{hub}")
