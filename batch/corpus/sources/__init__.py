"""Sources: named inputs become files of a known version, each with its footer.

Must not import the rest of `batch.corpus`.
"""
