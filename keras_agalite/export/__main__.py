"""The process that exports: `python -m keras_agalite.export PRESET FOLDER FORMAT`."""

import sys

from keras_agalite.export.process import main

if len(sys.argv) != 4:
    sys.exit("error: the command that exports is `python -m keras_agalite export`")
sys.exit(main(*sys.argv[1:]))
