"""Statistics that add up over chunks, and the report made of them.

Input: decisions of the rows of a chunk. Output: report.html, report.json. Must not import scoring.
"""
