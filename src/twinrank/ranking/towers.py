"""Trained towers as a ranker uses them: features to vectors, and the votes of past queries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float
from scipy import sparse
from scipy.special import erf

from twinrank.recipe import Recipe

Kind = Literal["projection", "residual", "none"]

SHORTEST = 1e-12  # a shorter vector is not scaled to length one; as in torch's `normalize`
BATCH_NORM_EPSILON = 1e-5  # torch's default
ROWS_A_CHUNK = 65_536
NORM_VECTORS = ("weight", "bias", "running_mean", "running_var")


@dataclass(frozen=True)
class FrozenTowers:
    """A tower for queries, one for answers (the same if single), a temperature, a memory.

    They compute what `twinrank.training.tower_modules.Towers` computes in eval mode, from the
    tensors of its `state_dict`, without torch. That class documents the kinds of tower.

    Attributes:
        tensors: the weights, by torch's names.
        dual: whether answers have a tower of their own.
        base: whether a frozen tower comes before the others.
    """

    tensors: Mapping[str, np.ndarray]
    kind: Kind
    dual: bool = False
    base: bool = False

    @classmethod
    def for_recipe(cls, recipe: Recipe, tensors: Mapping[str, np.ndarray]) -> FrozenTowers:
        """Make the towers of a recipe."""
        if recipe.towers is None:
            return cls(tensors, "none")
        base = recipe.pretraining is not None and recipe.pretraining.use == "freeze"
        return cls(tensors, recipe.towers.kind, dual=recipe.towers.dual, base=base)

    @property
    def scale(self) -> np.float32:
        """The inverse temperature, positive."""
        return np.float32(np.exp(self.tensors["log_scale"]))

    def project_queries(self, features: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
        """Map features of queries to vectors."""
        return self._project("query_tower", features)

    def project_answers(self, features: Float[np.ndarray, "v d"]) -> Float[np.ndarray, "v d"]:
        """Map features of answers' passages to vectors."""
        return self._project("answer_tower" if self.dual else "query_tower", features)

    def vote(
        self,
        queries: Float[np.ndarray, "n d"],
        past: Float[np.ndarray, "p d"],
        labels: sparse.csr_array,
    ) -> Float[np.ndarray, "n m"]:
        """Return weight * log(1 + sum of exp(sharpness * (cos(q, p) - 1)) / floor) over labels.

        Args:
            queries: unit vectors.
            past: unit vectors of labelled past queries.
            labels: p x m, 1 where an answer is right.
        """
        names = ("memory.log_sharpness", "memory.log_floor", "memory.weight")
        log_sharpness, log_floor, weight = (self.tensors[name] for name in names)
        similarities = queries @ past.T
        similarities -= 1
        similarities *= np.exp(log_sharpness)
        sums = np.exp(similarities, out=similarities) @ labels
        sums /= np.exp(log_floor)
        votes: np.ndarray = weight * np.log1p(sums, out=sums)
        return votes

    def _project(self, tower: str, features: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
        chunks = []
        for start in range(0, max(1, len(features)), ROWS_A_CHUNK):
            chunk = features[start : start + ROWS_A_CHUNK]
            chunks.append(self._apply(tower, self._apply("base", chunk) if self.base else chunk))
        return np.concatenate(chunks)

    def _apply(self, tower: str, x: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
        if self.kind == "projection":
            hidden = self._standardise(f"{tower}.1", self._multiply(f"{tower}.0", x))
            hidden = self._multiply(f"{tower}.4", np.maximum(hidden, 0))
            return self._standardise(f"{tower}.5", hidden)
        unit = scale_to_unit(x)
        if self.kind == "none":
            return unit
        hidden = self._multiply(f"{tower}.mlp.1", unit * unit.shape[1] ** 0.5)
        hidden *= 0.5 * (1 + erf(hidden * 0.5**0.5))  # GELU
        return scale_to_unit(unit + self._multiply(f"{tower}.mlp.4", hidden))

    def _multiply(self, layer: str, x: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
        product: np.ndarray = x @ self.tensors[f"{layer}.weight"].T + self.tensors[f"{layer}.bias"]
        return product

    def _standardise(self, layer: str, x: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
        weight, bias, mean, variance = (self.tensors[f"{layer}.{name}"] for name in NORM_VECTORS)
        factor = weight / np.sqrt(variance + BATCH_NORM_EPSILON)
        scaled: np.ndarray = x * factor + (bias - mean * factor)
        return scaled


def scale_to_unit(x: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
    """Scale each row to length one."""
    unit: np.ndarray = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), SHORTEST)
    return unit
