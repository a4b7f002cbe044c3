"""Benchmarks of training: quality on Reuters-21578 and rock news headlines, memory.

Input: the data sets. Output: bench/results/*.json and pages in docs/benchmarks/. Must not import
`bench.scoring` or `bench.gpu`.
"""
