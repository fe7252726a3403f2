"""Environments of a recipe: made, watched, in processes of their own."""
