"""One training run, from a config to a checkpoint, resumable.

Input: a config. Output: a checkpoint folder. Must not import search or crossval.
"""
