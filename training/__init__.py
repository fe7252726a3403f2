"""Training, evaluation and plots of memory policies: `python -m training --help`."""

import os

# TF-Agents runs on Keras 2; this must be set before Keras is imported.
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
