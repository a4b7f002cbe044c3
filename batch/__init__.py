"""Scoring: a bundle and a Parquet corpus in, predictions and a report out.

May import `schemas`; knows nothing of `trainer` or `exporter`, and needs neither torch nor
transformers.
"""
