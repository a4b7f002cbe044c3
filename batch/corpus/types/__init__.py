"""Types: the columns that predictions take over, and the one type that each has.

Must not import `batch.corpus` but for `batch.corpus.sources`.
"""
