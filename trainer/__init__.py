"""Training: labelled data and one config in, a checkpoint folder out.

May import `schemas`; knows nothing of `batch` or `exporter`.
"""
