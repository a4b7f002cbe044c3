"""Scores of decisions on held-out rows, intervals, pictures.

Input: logits or decisions with gold labels. Output: numbers. Must not import training.
"""
