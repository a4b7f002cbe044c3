"""What a task is, and which labels it has.

Must not import decision or bundle.
"""
