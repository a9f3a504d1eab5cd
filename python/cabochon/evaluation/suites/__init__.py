"""The suites: a module that makes the cases of each, and the file of those that are shipped.

`python -m cabochon.evaluation.suites.NAME --seed 7 --n 100` writes cases of a suite as JSONL; with
the defaults it writes NAME.jsonl again, byte for byte.
"""
