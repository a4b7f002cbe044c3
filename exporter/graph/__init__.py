"""Torch to ONNX.

Input: an encoder with its heads. Output: one graph, and the files cut from it.
"""
