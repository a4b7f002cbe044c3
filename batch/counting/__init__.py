"""Counts by domain that add up over chunks and fit in a marker file.

Input: decisions of the rows of a chunk. Output: integers. Must not import report or scoring.
"""
