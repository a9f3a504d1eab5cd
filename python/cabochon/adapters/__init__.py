"""Harnesses that run a `Model`: one module each, imported by name, each with its own extra."""
