"""Output stage: scored rows become parts, markers, report and run.json.

Must not import `batch.pipeline.run`.
"""
