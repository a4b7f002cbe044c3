"""Files, locks, paths and streams that hold under damage and attack.

Must not import anything of schemas but errors and printable.
"""
