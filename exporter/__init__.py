"""Export: a checkpoint folder in, a bundle of self-describing ONNX files out.

May import `trainer`, `batch` and `schemas`: it tokenizes, packs and runs with batch's own code, so
that what was checked is what will run.
"""
