"""Benchmarks of scoring on a CPU: throughput against other libraries, scale, cost of more tasks.

Input: a bundle. Output: bench/results/*.json and pages in docs/benchmarks/.
"""
