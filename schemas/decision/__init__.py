"""What a logit means: calibration, thresholds, and scores of decisions.

Must not import bundle.
"""
