"""A corpus looked at before it is trained on: input is Parquet, output is one page with pictures.

Must not import training, search or cross-validation.
"""

from __future__ import annotations

from trainer.exploration.corpus import Columns
from trainer.exploration.explore import ExplorationSettings, explore

__all__ = ["Columns", "ExplorationSettings", "explore"]
