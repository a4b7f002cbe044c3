"""Reduced precision: made, measured, and published where it passes its gate.

Input: the graph of a group of tasks. Output: files and facts. Must not import bundle.
"""
