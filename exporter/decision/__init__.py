"""Calibration and thresholds, fitted to held-out rows.

Input: logits and gold labels. Output: what turns logits into decisions. Must not import checks.
"""
