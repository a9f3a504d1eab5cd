"""Sequences, their pages, who runs next, and the loop that runs them."""
