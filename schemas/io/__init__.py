"""Files, locks, paths and streams that are safe with damaged or hostile input.

Must not import anything of schemas but errors and printable.
"""
