"""Corpus stage: turns corpus entries into chunks of rows. Must not import `batch.output`."""
