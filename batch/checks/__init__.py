"""Checks of an installation and a bundle, for `batch-classify doctor`.

Input: an installation and a bundle. Output: findings. The command line and the exporter import it.
"""
