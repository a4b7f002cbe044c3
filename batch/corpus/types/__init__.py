"""Types of pass-through columns, which predictions copy from the input.

Of `batch.corpus` only `batch.corpus.sources` may be imported.
"""
