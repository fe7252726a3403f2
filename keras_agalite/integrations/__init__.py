"""Bridges to other frameworks; each imports its framework when it is imported."""
