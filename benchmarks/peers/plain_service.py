"""The service that a team would write in an afternoon: FastAPI, SentenceTransformer and numpy.

Run it as `python benchmarks/peers/plain_service.py DATA --port 8001`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import typer
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel
from sentence_transformers import SentenceTransformer

from twinrank import Dataset
from twinrank.encoding.model_files import resolve


class Query(BaseModel):
    """What is asked."""

    text: str
    k: int = 5


def main(data: Path, port: int = 8001, encoder: str = "all-MiniLM-L6-v2") -> None:
    """Rank the answers of a data set by the cosine of untrained vectors."""
    dataset = Dataset.load(data)
    model = SentenceTransformer(str(resolve(encoder).folder))
    model.max_seq_length = 128
    vectors = model.encode(dataset.answer_texts(), normalize_embeddings=True)
    ids, titles = dataset.answers["id"].to_list(), dataset.answers["title"].to_list()
    app = FastAPI()

    @app.post("/v1/rank")
    def rank(query: Query) -> dict[str, Any]:
        scores = vectors @ model.encode(query.text, normalize_embeddings=True)
        best = np.argsort(-scores)[: query.k]
        return {
            "answers": [
                {"id": ids[j], "title": titles[j], "score": float(scores[j])} for j in best.tolist()
            ]
        }

    uvicorn.run(app, port=port, log_level="warning")


if __name__ == "__main__":
    typer.run(main)
