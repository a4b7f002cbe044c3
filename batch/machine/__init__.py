"""Properties of this machine: devices, cores, memory.

Input: the operating system. Output: facts. Must not import anything else of batch.
"""
