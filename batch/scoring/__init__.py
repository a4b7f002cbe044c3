"""Texts to probabilities and decisions.

Input: model texts and a bundle. Output: one result a text. Must not import corpus or output.
"""
