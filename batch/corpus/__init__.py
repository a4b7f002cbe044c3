"""Corpus stage: named inputs become chunks of rows. Must not import `batch.output`."""
