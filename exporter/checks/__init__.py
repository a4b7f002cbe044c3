"""Checks of an exported file: against torch, and in other arrangements of the same texts.

Must not import precision or bundle.
"""
