"""The process that exports: `python -m keras_agalite.export PRESET FOLDER FORMAT`."""

import sys

from keras_agalite.export.process import main

sys.exit(main(*sys.argv[1:]))
