"""One run of batch-classify, from its options to a published output folder.

Input: options and a plan of the corpus. Output: an output folder. Imported by the command line and
the exporter only.
"""
