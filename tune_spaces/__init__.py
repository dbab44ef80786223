"""Search spaces: one SPACE a file, plain data.

SPACE maps a setting's dotted name to ("loguniform", low, high), ("uniform", low, high), ("randint", low, high) with
both ends included, or ("choice", [values]). The configuration's own values are always the first trial.
"""
