"""The checkpoint folder, written and read.

Input and output: files. Must not import training.
"""
