"""The encoder with a head for each task.

Input: an encoder by name. Output: a torch module. Must not import data, losses or training.
"""
