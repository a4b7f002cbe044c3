"""What `batch-classify doctor` looks at.

Input: an installation and a bundle. Output: findings. Imported by command line and exporter.
"""
