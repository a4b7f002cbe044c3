"""Sentence vectors: equal to those of sentence-transformers, and pictures of them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from bench.paths import CONFIGS
from bench.systems.pictures import draw_space
from bench.systems.pipeline import export, score, train
from bench.systems.results import Run, run_of
from bench.systems.tables import TEXT_LABEL, Tables, news
from schemas.arrays import Float32Array
from schemas.config.files import load_config
from trainer.model.encoders import locate

TASK = "embedding"
COMPARED_TEXTS = 500
POOLINGS = ("mean", "cls", "max")


@dataclass(frozen=True)
class EmbeddingSystem:
    """Vectors of texts by three poolings, scored by `batch-classify` and compared with a peer."""

    title: str
    config: str
    picture = "systems-embeddings.png"
    runs = 1
    name = "embeddings"
    first_data = "embeddings, mean"
    result_names = ("embeddings",)
    results = ()

    @property
    def how(self) -> str:
        """Config and what is compared, as Markdown."""
        return (
            f"[configs/{self.config}](../../configs/{self.config}); how far the vectors of "
            f"{COMPARED_TEXTS} texts are from those of sentence-transformers, and with 64 "
            "principal components the share of the ten nearest neighbours that stay. "
            f"![Map and similarities]({self.picture})"
        )

    def measure(
        self, data: Path, number: int, folder: Path, settings: Sequence[str], pages: Path
    ) -> list[Run]:
        """Export each pooling and the projection, score the texts, and compare."""
        tables = news(data)
        texts = tables[TASK].sample(COMPARED_TEXTS, seed=0)
        runs, vectors = [], {}
        for variant, changes in (
            *((pooling, (f"tasks.{TASK}.pooling={pooling}",)) for pooling in POOLINGS),
            ("projected", (f"tasks.{TASK}.dimension=64",)),
        ):
            started = time.monotonic()
            scored = self._vectors(tables, texts, folder / variant, [*changes, *settings])
            vectors[variant] = scored
            if variant in POOLINGS:
                difference = np.abs(scored - self._peer(texts, variant)).max()
                scores = {"largest_difference": float(difference)}
            else:
                scores = {"neighbours_kept": _neighbours_kept(vectors["mean"], scored)}
            minutes = (time.monotonic() - started) / 60
            runs.append(
                run_of(
                    self.name,
                    f"embeddings, {variant}",
                    number,
                    (scores, dict.fromkeys(scores, 0.0)),
                    same_tests=True,
                    tested=len(texts),
                    minutes=minutes,
                    digits=8,
                )
            )
        draw_space(vectors["mean"], texts[TEXT_LABEL].to_list(), pages / self.picture)
        return runs

    def keep(self, data: Path, folder: Path, settings: Sequence[str]) -> Path:
        """Export the vectors of the config."""
        return self._export(news(data), folder, settings)

    def _vectors(
        self, tables: Tables, texts: pl.DataFrame, folder: Path, settings: Sequence[str]
    ) -> Float32Array:
        bundle = self._export(tables, folder, settings)
        scored = score(bundle, {TASK: texts}, folder)[TASK]
        return np.array(scored["embedding"].to_list(), np.float32)

    def _export(self, tables: Tables, folder: Path, settings: Sequence[str]) -> Path:
        checkpoint, _ = train(CONFIGS / self.config, tables, folder, settings)
        return export(checkpoint, folder)

    def _peer(self, texts: pl.DataFrame, pooling: str) -> Float32Array:
        from sentence_transformers import SentenceTransformer
        from sentence_transformers.models import Normalize, Pooling, Transformer

        config = load_config(CONFIGS / self.config, ())
        layers = Transformer(
            locate(config.encoder.source), max_seq_length=config.encoder.max_tokens
        )
        pooled = Pooling(layers.get_word_embedding_dimension(), pooling_mode=pooling)
        peer = SentenceTransformer(modules=[layers, pooled, Normalize()], device="cpu")
        return np.asarray(peer.encode(texts["text"].to_list(), show_progress_bar=False), np.float32)


def _neighbours_kept(before: Float32Array, after: Float32Array, nearest: int = 10) -> float:
    """Share of the nearest texts of each text that are the same in both."""

    def places(vectors: Float32Array) -> np.ndarray:
        cosines = vectors @ vectors.T
        np.fill_diagonal(cosines, -np.inf)
        return np.argsort(-cosines, axis=1)[:, :nearest]

    same = [
        len(set(one) & set(other)) for one, other in zip(places(before), places(after), strict=True)
    ]
    return float(np.mean(same)) / nearest
