"""The training config: one TOML file, checked whole before any data is read.

Input: a TOML file, and values that replace some of its own. Output: a validated `TrainingRun`.
"""
