"""Policies at play: their scores and videos of them."""
