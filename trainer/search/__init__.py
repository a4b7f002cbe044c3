"""Hyperparameter search: many training runs, a table, a report.

Input: a config and a search space. Output: a folder of trials. Only the command
line imports it.
"""
