"""Released policies: folders of zoo/ and their cards."""
