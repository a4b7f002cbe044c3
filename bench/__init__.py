"""Benchmarks and their latest results; a folder for each thing that is measured.

`scoring`: throughput, scale and heads on a CPU. `training`: losses, data sets, memory. `gpu`:
checks and measurements on an NVIDIA GPU. `results`: the numbers as JSON. Must not import `tests`.
"""
