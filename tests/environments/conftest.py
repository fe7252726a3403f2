import keras
import pytest

# Programs in JAX, whatever Keras runs on: once is enough, and once in full.
collect_ignore = []
if keras.backend.backend() != "jax":
    collect_ignore += ["test_functional.py"]


@pytest.fixture
def make():
    """`keras_agalite.environments.make`, closing what it made."""
    from keras_agalite import environments

    made = []

    def make(name, **arguments):
        made.append(environments.make(name, **arguments))
        return made[-1]

    yield make
    for env in made:
        env.close()
