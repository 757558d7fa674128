"""The verbs of the command line: each declares its flags (`add_flags`) and does its work (`run`).

What a verb needs is imported when it runs, so that `crome --help` answers at once.
"""
