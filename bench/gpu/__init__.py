"""Checks and benchmarks on an NVIDIA GPU, which run unattended: `python -m bench.gpu --help`.

Input: a bundle with fp16 files. Output: bench/results/gpu.json, written step by step, and
docs/benchmarks/gpu.md.
"""
