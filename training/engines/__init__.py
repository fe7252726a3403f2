"""Engines: programs that train a policy from a recipe."""
