"""Presets: policies as files, which are data, and checked before they are used."""

from keras_agalite.presets.preset import Preset as Preset
from keras_agalite.presets.preset import find_preset as find_preset
from keras_agalite.presets.preset import released_folder as released_folder
from keras_agalite.presets.preset import released_presets as released_presets
from keras_agalite.presets.registration import register as register
