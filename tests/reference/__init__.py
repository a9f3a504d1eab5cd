"""The model once more, in NumPy float64, written from the formulas of docs/model.md.

It shares no code with the package and is never fast. A file an op, and `decoder` for the whole.
"""
