"""What the three command lines share: commands, parameter types and options of click.

Input: arguments. Output: values, or a message and an exit code. Only `*/cli.py` may import it.
"""
