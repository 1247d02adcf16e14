"""A ranker's vectors for other tools: a folder of sentence-transformers, ONNX or OpenVINO."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
from safetensors.numpy import save_file
from tokenizers import Tokenizer

from twinrank.arguments import ExportTool
from twinrank.errors import TwinrankError
from twinrank.extras import check_installed
from twinrank.files import new_folder, write_file
from twinrank.ranking import DenseSignal, Ranker
from twinrank.ranking.model_card import markdown
from twinrank.sharing.layers import Layers, list_layers
from twinrank.sharing.package import check_original

MODULES = "sentence_transformers.models"  # the name that all versions of the library know
TEMPLATE = Path(__file__).with_name("export.md")
CODE = {
    "sentence-transformers": """from sentence_transformers import SentenceTransformer

model = SentenceTransformer("FOLDER")
query_vectors = model.encode_query(["what somebody wrote"])
answer_vectors = model.encode_document(["a passage of an answer"])""",
    "onnx": """import numpy as np
from onnxruntime import InferenceSession
from tokenizers import Tokenizer

texts = Tokenizer.from_file("FOLDER/tokenizer.json").encode_batch([$prompt"what somebody wrote"])
inputs = {
    "input_ids": np.array([text.ids for text in texts]),
    "attention_mask": np.array([text.attention_mask for text in texts]),
}
query_vectors = InferenceSession("FOLDER/model.onnx").run(["$output"], inputs)[0]""",
    "openvino": """import numpy as np
import openvino
from tokenizers import Tokenizer

texts = Tokenizer.from_file("FOLDER/tokenizer.json").encode_batch([$prompt"what somebody wrote"])
inputs = {
    "input_ids": np.array([text.ids for text in texts]),
    "attention_mask": np.array([text.attention_mask for text in texts]),
}
exact = {"INFERENCE_PRECISION_HINT": "f32"}  # without it, vectors differ in the third digit
query_vectors = openvino.compile_model("FOLDER/model.xml", "CPU", exact)(inputs)["$output"]""",
}


def export(ranker: Ranker, tool: ExportTool, out: Path) -> list[str]:
    """Write a ranker's encoder and towers as another tool reads them, with the answers' vectors.

    Returns:
        What the tool lacks of the ranker, a line each.

    Raises:
        TwinrankError: if the ranker has not just one encoder, a library is missing, or something
            is at `out`.
    """
    dense = ranker.dense
    if dense is None:
        raise TwinrankError(f"{ranker.recipe.name}: ranks by words alone, so it has no vectors")
    if dense.reader.others:
        names = " and ".join(encoder.name for encoder in dense.reader.encoders)
        raise TwinrankError(f"{names}: several encoders cannot be exported; train with one")
    check_original(ranker)
    if out.exists():
        raise TwinrankError(f"{out}: is there already; give the name of a new folder")
    if tool != "sentence-transformers":
        check_installed("exported networks", "train", "torch", "transformers")
    if tool == "onnx":
        check_installed("networks for ONNX", "export", "onnx")
    if tool == "openvino":
        check_installed("networks for OpenVINO", "openvino", "openvino")
    limits = list_limits(ranker, dense)
    with new_folder(out) as folder:
        _write_tokenizer(dense, folder)
        if tool == "sentence-transformers":
            _write_sentence_transformer(dense, folder)
        else:
            from twinrank.sharing.network import write_onnx, write_openvino  # imports torch

            (write_onnx if tool == "onnx" else write_openvino)(dense, folder)
        _write_answers(ranker, dense, folder)
        write_file(folder / "README.md", _describe(ranker, dense, tool, limits))
    return limits


def list_limits(ranker: Ranker, dense: DenseSignal) -> list[str]:
    """Say what vectors of texts lack of a ranker, a line each."""
    lines = []
    if others := [name for name in ranker.scoring.signals if name != "dense"]:
        lines.append(f"The ranker's other signals ({', '.join(others)}) and its confidence.")
    if dense.offsets is not None:
        lines.append(
            "What was learned of each answer beside its text: `answers.safetensors` has it, a "
            "vector of the text alone has not, and ranks worse."
        )
    if dense.reader.selection:
        lines.append(
            "The choice of sentences where a text is too long: other tools read its beginning."
        )
    return lines


def _describe(ranker: Ranker, dense: DenseSignal, tool: ExportTool, limits: list[str]) -> str:
    """Return the text of README.md."""
    about = ["library_name: " + tool]
    if tool == "sentence-transformers":
        about.append("pipeline_tag: sentence-similarity")
    prompt = f"{json.dumps(dense.reader.query_prompt)} + " if dense.reader.query_prompt else ""
    output = "query_vector" if dense.towers.dual else "vector"
    vectors = dense.vectors
    passages = "Each answer has one vector."
    if vectors.owner is not None:
        passages = "An answer has a vector for each section: its score is that of its best section."
    if tool != "sentence-transformers":  # which knows prompts and towers itself
        output_of_new = "answer_vector" if dense.towers.dual else "vector"
        passages += f" A new answer's is `{output_of_new}`"
        before = dense.reader.document_prompt
        passages += f", with {json.dumps(before)} before its text." if before else "."
    values = {
        "metadata": "\n".join(about),
        "name": markdown(ranker.recipe.name),
        "tool": tool,
        "data": markdown(ranker.origin.data),
        "code": Template(CODE[tool]).substitute(prompt=prompt, output=output),
        "limits": "\n".join(f"- {line}" for line in limits)
        or "Nothing: it ranks as the ranker does.",
        "width": f"{vectors.rows.shape[1]:,}",
        "lengths": "of any length" if dense.towers.kind == "projection" else "of length one",
        "vectors": f"{len(vectors.rows):,}",
        "answers": f"{vectors.answers:,}",
        "passages": passages,
    }
    return Template(TEMPLATE.read_text(encoding="utf-8")).substitute(values)


def _write_tokenizer(dense: DenseSignal, folder: Path) -> None:
    """Write the tokenizer as the ranker reads it, with padding, and as transformers loads it."""
    encoder = dense.reader.encoder
    tokenizer, pad = Tokenizer.from_str(encoder.tokenizer.to_str()), encoder.files.pad
    pad_token = tokenizer.id_to_token(pad)
    tokenizer.enable_padding(pad_id=pad, pad_token=pad_token)
    write_file(folder / "tokenizer.json", tokenizer.to_str(pretty=True))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": encoder.max_tokens,
        "pad_token": pad_token,
        "model_input_names": ["input_ids", "attention_mask"],
    }
    _write_json(folder / "tokenizer_config.json", settings)


def _write_sentence_transformer(dense: DenseSignal, folder: Path) -> None:
    """Write modules.json, and the folders that it names, as sentence-transformers reads them."""
    reader, files = dense.reader, dense.reader.encoder.files
    for file in (*files.weights, files.folder / "config.json"):
        shutil.copyfile(file, folder / file.name)
    _write_json(folder / "sentence_bert_config.json", {"max_seq_length": reader.encoder.max_tokens})
    pooling = {
        "word_embedding_dimension": files.dim,
        "pooling_mode_cls_token": reader.pooling == "cls",
        "pooling_mode_mean_tokens": reader.pooling == "mean",
    }
    _write_json(folder / "1_Pooling" / "config.json", pooling)
    modules = [("", "Transformer"), ("1_Pooling", "Pooling")]
    query_layers = list_layers(dense, answers=False)
    if dense.towers.dual:
        routes = {"query": query_layers, "document": list_layers(dense, answers=True)}
        structure: dict[str, list[str]] = {}
        types: dict[str, str] = {}
        for route, layers in routes.items():
            names = _write_layers(layers, folder / "2_Router", f"{route}_")
            structure[route] = list(names)
            types |= {name: f"{MODULES}.{kind}" for name, kind in names.items()}
        parameters = {"default_route": "document", "allow_empty_key": True}
        router = {"types": types, "structure": structure, "parameters": parameters}
        _write_json(folder / "2_Router" / "router_config.json", router)
        modules.append(("2_Router", "Router"))
    else:
        modules += _write_layers(query_layers, folder, "", start=2).items()
    entries = [
        {"idx": i, "name": str(i), "path": path, "type": f"{MODULES}.{kind}"}
        for i, (path, kind) in enumerate(modules)
    ]
    _write_json(folder / "modules.json", entries)
    prompts = {"query": reader.query_prompt, "document": reader.document_prompt}
    about = {"prompts": prompts, "default_prompt_name": None, "similarity_fn_name": "dot"}
    _write_json(folder / "config_sentence_transformers.json", about)


def _write_layers(layers: Layers, folder: Path, prefix: str, start: int = 0) -> dict[str, str]:
    """Write a folder for each layer, and return the kind of module by its name."""
    names = {}
    for number, layer in enumerate(layers, start):
        kind = "Dense" if layer else "Normalize"
        names[name := f"{prefix}{number}_{kind}"] = kind
        config: dict[str, Any] = {}
        if layer:
            width, dim = layer.weight.shape
            config = {"in_features": dim, "out_features": width, "bias": True}
            config["activation_function"] = layer.activation
            tensors = {"linear.weight": layer.weight, "linear.bias": layer.bias}
            _write_tensors(folder / name / "model.safetensors", tensors)
        _write_json(folder / name / "config.json", config)
    return names


def _write_answers(ranker: Ranker, dense: DenseSignal, folder: Path) -> None:
    """Write the vectors of the known answers, with offsets, and which answer each belongs to."""
    tensors = {"vectors": dense.vectors.rows, "owner": dense.vectors.owners.astype(np.int64)}
    _write_tensors(folder / "answers.safetensors", tensors)
    answers = ranker.answers.select("id", "title", "url")
    write_file(folder / "answers.jsonl", answers.write_ndjson)


def _write_tensors(file: Path, tensors: Mapping[str, np.ndarray]) -> None:
    contiguous = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
    write_file(file, lambda path: save_file(contiguous, path))


def _write_json(file: Path, content: Any) -> None:  # noqa: ANN401 (any JSON)
    write_file(file, json.dumps(content, indent=2) + "\n")
