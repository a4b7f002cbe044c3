"""The bundle folder, and what its files say of themselves.

Input and output: files. Must not import config.
"""
