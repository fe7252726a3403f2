"""Finished runs: their scores, compared and drawn."""
