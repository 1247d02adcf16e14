"""Encoding by encoders of three sizes, and steps of training beside what `twinrank plan` says.

    python benchmarks/gpu.py DATA --gpu h200

reads the training queries of DATA; encoders have random weights, and answers are random vectors.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from scipy import sparse
from transformers import BertConfig, BertModel

from measurements import Run, time_calls
from twinrank import Dataset, Recipe
from twinrank.encoding import Encoder
from twinrank.planning import Shape, Workload, find_machine, plan
from twinrank.ranking import Passages
from twinrank.recipe import TrainingSettings
from twinrank.training import TrainingData
from twinrank.training.tower_modules import Towers
from twinrank.training.tower_training import TowerTrainer
from twinrank.training.training_data import Examples

SHAPES = (Shape(6, 384, 1536), Shape(12, 768, 3072), Shape(24, 1024, 4096))
STEPS = ((1_000, 1, "exact"), (1_000, 6, "exact"), (10_000, 6, "exact"), (100_000, 1, "sampled"))
MAX_TOKENS, BATCH, EPOCHS = 256, 128, 4


def main(
    data: Path,
    gpu: Annotated[str, typer.Option(help="As `twinrank plan` knows it.")] = "h200",
    texts: Annotated[int, typer.Option(help="That are encoded.")] = 20_000,
    queries: Annotated[int, typer.Option(help="That are trained on.")] = 20_000,
    device: str = "cuda",
    out: Path = Path("runs/bench/gpu.json"),
) -> None:
    """Print and write every measurement."""
    run, known = Run(" ".join(sys.argv)), Dataset.load(data).split("train").texts
    many = [known[row % len(known)] for row in range(texts)]
    for shape in SHAPES:
        name = f"{shape.layers} layers, {shape.width} wide"
        seconds, flop = time_encoding(shape, many, device)
        run.add(f"{name}: encoded", "texts/s", texts / seconds, lower_is_better=False)
        run.add(f"{name}: products", "TFLOP/s", flop / seconds / 1e12, lower_is_better=False)
    for answers, sections, index in STEPS:
        name = f"a step, {answers:,} answers, {sections} passages each, {index}"
        steps, recipe = -(-queries // BATCH), Recipe.load("even")
        training = recipe.training and recipe.training.model_copy(update={"index": index})
        recipe = recipe.model_copy(update={"memory": None, "training": training})
        w = Workload(
            *(recipe, SHAPES[0], answers, queries, 0, sections, 119, 74, 683, EPOCHS, "random")
        )
        (planned,) = (s for s in plan(w, find_machine(gpu=gpu)).stages if "training" in s.stage)
        times = time_epochs(answers, sections, queries, index, device)
        run.add(name, "ms", *(1e3 * seconds / steps for seconds in times))
        run.add(f"{name}, planned", "ms", 1e3 * planned.seconds / EPOCHS / steps)
    run.save(out)


def time_encoding(shape: Shape, texts: list[str], device: str) -> tuple[float, float]:
    """Time a pass over the texts in seconds, after a first one, and count its FLOPs."""
    with tempfile.TemporaryDirectory() as home:
        tokenizer = Encoder().files.folder / "tokenizer.json"
        config = BertConfig(
            num_hidden_layers=shape.layers,
            hidden_size=shape.width,
            intermediate_size=shape.inner,
            num_attention_heads=shape.width // 64 if shape.width > SHAPES[0].width else 12,
        )
        torch.manual_seed(0)
        BertModel(config, add_pooling_layer=False).save_pretrained(home)
        (Path(home) / "tokenizer.json").write_bytes(tokenizer.read_bytes())
        encoder = Encoder(home, max_tokens=MAX_TOKENS, device=device, backend="torch")
        (seconds,) = time_calls(lambda: encoder.encode(texts), 1)
        counts = np.minimum(encoder.count_tokens(texts), MAX_TOKENS)
    return seconds, sum(shape.flop(count) for count in counts.tolist())


def time_epochs(answers: int, sections: int, queries: int, index: str, device: str) -> list[float]:
    """Time epochs of `even`'s towers in seconds, but for the first."""
    rng, width = np.random.default_rng(0), SHAPES[0].width
    rows = rng.standard_normal((answers * sections, width), np.float32)
    owner = np.repeat(np.arange(answers), sections) if sections > 1 else None
    places = (np.arange(queries), rng.integers(answers, size=queries))
    labels = sparse.csr_array((np.ones(queries), places), shape=(queries, answers))
    features = rng.standard_normal((queries, width), np.float32)
    data = TrainingData(
        Passages(rows, owner, answers), Examples(features, labels, np.arange(queries))
    )
    towers = Towers("residual", width, dropout=0.5)
    towers.add_offsets(answers)
    settings = {"batch_size": BATCH, "learning_rate": 5e-4, "epochs": EPOCHS, "index": index}
    trainer = TowerTrainer(
        towers.to(device),
        data,
        TrainingSettings.model_validate(settings),
        lambda _: {"loss": 0.0},
        seed=0,
    )
    return [record["seconds"] for record in trainer.run()[2:]]


if __name__ == "__main__":
    typer.run(main)
