"""Labelled rows: read, split, tokenized, batched.

Input: files of a config. Output: rows of a task. Must not import model, losses or training.
"""
