"""Sources: resolves corpus entries to files, and records the version and footer of each.

Must not import the rest of `batch.corpus`.
"""
