"""Encoders ranked before anyone fine-tunes: input is labelled rows, output is a table of encoders.

Must not import training, search or cross-validation.
"""

from __future__ import annotations

from trainer.ranking.rank import rank_encoders
from trainer.ranking.report import RankedEncoder, Ranking, ranking_table, write_report

__all__ = ["RankedEncoder", "Ranking", "rank_encoders", "ranking_table", "write_report"]
