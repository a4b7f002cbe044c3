"""From an article to model text, and from that to token ids.

Must not import tasks, decision or bundle.
"""
