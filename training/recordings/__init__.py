"""Recorded episodes: written, read in segments, exchanged with Minari."""
