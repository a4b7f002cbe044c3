"""Losses by name, as pure functions of logits and targets.

Must not import anything else of trainer.
"""
