"""What is exported, opened by the tools that it is for."""

import json
import re
import sys

import numpy as np
import pytest
from safetensors.numpy import load_file
from tokenizers import Tokenizer

from tests.sharing.conftest import KINDS
from twinrank import cli
from twinrank.encoding import FeatureStore
from twinrank.errors import TwinrankError
from twinrank.ranking import Ranker
from twinrank.recipe import Recipe
from twinrank.sharing.export import export
from twinrank.training import train

QUERIES = ["reset my password", "Where is the INVOICE of last month?", "refund " * 50]
PASSAGES = ["Reset your password\nby a link", "Invoices", "a calendar, a booking " * 30]


def assert_same_direction(vectors, expected):
    norms = np.linalg.norm(vectors, axis=1) * np.linalg.norm(expected, axis=1)
    assert ((vectors * expected).sum(axis=1) / norms).min() > 0.9999
    np.testing.assert_allclose(vectors, expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())


def assert_same_scores(queries, passages, dense):
    """The dot products are the dense signal's, so that they rank alike."""
    expected = dense.embed_queries(QUERIES) @ dense.embed_passages(PASSAGES).T
    np.testing.assert_allclose(queries @ passages.T, expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("kind", KINDS)
def test_sentence_transformers_gives_the_vectors_of_every_kind_of_tower(
    make_ranker, tmp_path, kind
):
    from sentence_transformers import SentenceTransformer

    ranker = make_ranker(kind, query_prompt="query: ", document_prompt="passage: ")
    export(ranker, "sentence-transformers", tmp_path / "out")
    model = SentenceTransformer(str(tmp_path / "out"), device="cpu", local_files_only=True)
    queries, passages = model.encode_query(QUERIES), model.encode_document(PASSAGES)
    assert_same_direction(queries, ranker.dense.embed_queries(QUERIES))
    assert_same_direction(passages, ranker.dense.embed_passages(PASSAGES))
    assert_same_scores(queries, passages, ranker.dense)
    assert model.similarity_fn_name == "dot"


@pytest.mark.parametrize("settings", [{"base": True}, {"pooling": "cls"}], ids=["base", "cls"])
def test_sentence_transformers_pools_and_stands_as_the_ranker_does(make_ranker, tmp_path, settings):
    from sentence_transformers import SentenceTransformer

    ranker = make_ranker("projection", **settings)
    export(ranker, "sentence-transformers", tmp_path / "out")
    model = SentenceTransformer(str(tmp_path / "out"), device="cpu", local_files_only=True)
    assert_same_direction(model.encode_query(QUERIES), ranker.dense.embed_queries(QUERIES))


@pytest.mark.parametrize("tool", ["onnx", "openvino"])
@pytest.mark.parametrize("kind", ["none", "residual", "projection-dual"])
def test_a_network_gives_the_vectors_of_its_tokens(make_ranker, tmp_path, tool, kind):
    ranker = make_ranker(kind)
    out = tmp_path / "out"
    export(ranker, tool, out)
    tokenizer = Tokenizer.from_file(str(out / "tokenizer.json"))

    def run(texts, output):
        encodings = tokenizer.encode_batch(texts)
        inputs = {
            "input_ids": np.array([text.ids for text in encodings]),
            "attention_mask": np.array([text.attention_mask for text in encodings]),
        }
        if tool == "onnx":
            from onnxruntime import InferenceSession

            return InferenceSession(out / "model.onnx").run([output], inputs)[0]
        from twinrank.encoding.openvino_backend import load_openvino

        exact = {"INFERENCE_PRECISION_HINT": "f32"}
        return load_openvino().compile_model(out / "model.xml", "CPU", exact)(inputs)[output]

    dual = kind.endswith("-dual")
    queries = run(QUERIES, "query_vector" if dual else "vector")
    passages = run(PASSAGES, "answer_vector" if dual else "vector")
    assert_same_direction(queries, ranker.dense.embed_queries(QUERIES))
    assert_same_scores(queries, passages, ranker.dense)


@pytest.mark.parametrize("tool", ["sentence-transformers", "onnx", "openvino"])
def test_the_code_of_the_readme_ranks_as_the_ranker_does(make_ranker, tmp_path, tool):
    prompts = {"query_prompt": "query: ", "document_prompt": "passage: "}
    ranker = make_ranker("residual", offsets=True, answers="sections", **prompts)
    out = tmp_path / "out"
    export(ranker, tool, out)
    new = 'A new answer\'s is `vector`, with "passage: " before its text.'
    assert (new in (out / "README.md").read_text()) == (tool != "sentence-transformers")
    code = "\n".join(re.findall("```python\n(.*?)```", (out / "README.md").read_text(), re.DOTALL))
    names = {}
    exec(compile(code.replace("FOLDER", str(out)), "README.md", "exec"), names)  # noqa: S102
    vectors = ranker.dense.vectors
    products = vectors.rows @ ranker.dense.embed_queries(["what somebody wrote"])[0]
    expected = [products[vectors.owners == row].max() for row in range(9)]
    np.testing.assert_allclose(names["scores"], expected, atol=1e-4)
    ids = [json.loads(line)["id"] for line in (out / "answers.jsonl").read_text().splitlines()]
    assert ids == ranker.answers["id"].to_list()
    assert load_file(out / "answers.safetensors")["vectors"].shape[0] > len(ids)
    assert "learned of each answer" in (out / "README.md").read_text()


def test_what_cannot_be_exported_is_refused_in_a_line(
    make_ranker, help_centre, recipes, tmp_path, tiny_model
):
    with pytest.raises(TwinrankError, match="words alone"):
        export(train(help_centre, recipes["bm25"]), "onnx", tmp_path / "out")
    several = make_ranker(others=(str(tiny_model),))
    with pytest.raises(TwinrankError, match="several encoders cannot"):
        export(several, "onnx", tmp_path / "out")
    with pytest.raises(TwinrankError, match="is there already"):
        export(make_ranker(), "onnx", tmp_path)
    assert not any(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["even", "handover-dual"])
def test_what_was_trained_ranks_alike_elsewhere(help_centre, tmp_path, name):
    from sentence_transformers import SentenceTransformer

    recipe = Recipe.load(name)
    encoder = recipe.encoder.model_copy(update={"precision": "fp32"})  # bf16 differs by rounding
    recipe = recipe.model_copy(update={"encoder": encoder})
    ranker = train(help_centre, recipe, store=FeatureStore())
    dense = ranker.dense
    export(ranker, "sentence-transformers", tmp_path / "out")
    model = SentenceTransformer(str(tmp_path / "out"), device="cpu", local_files_only=True)
    texts = help_centre.split("test").texts
    assert_same_direction(model.encode_query(texts), dense.embed_queries(texts))
    answers = load_file(tmp_path / "out" / "answers.safetensors")["vectors"]
    np.testing.assert_array_equal(answers, dense.vectors.rows)
    passages = dense.reader.passages(help_centre.answers).rows
    offsets = 0 if dense.offsets is None else dense.offsets[dense.vectors.owners]
    assert_same_direction(model.encode_document(passages) + offsets, answers)


def test_the_command_says_what_is_not_in_it(trained, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    tool = ["--to", "sentence-transformers", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", ["twinrank", "export", str(trained), *tool])
    with pytest.raises(SystemExit, match="0"):
        cli.main()
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == f"written: {out}"
    assert "past, prior, classifier, words" in lines[1]
    assert "`answers.safetensors` has it" in lines[2]
    files = b"".join(file.read_bytes() for file in out.rglob("*") if file.is_file())
    for text in Ranker.load(trained).past.texts:
        assert text.encode() not in files
