"""A bundle: exported, recalibrated, inspected, verified, signed.

Input: a checkpoint or a bundle. Output: a bundle folder. Nothing but the command line imports it.
"""
