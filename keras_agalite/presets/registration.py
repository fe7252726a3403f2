"""The door for memories, encoders and action heads of one's own."""

from typing import TypeVar

import keras

from keras_agalite.layers.catalog import register_memory
from keras_agalite.layers.memory_rnn import MemoryRNN
from keras_agalite.models.action_heads import ActionHead
from keras_agalite.models.catalog import register_action_head, register_encoder
from keras_agalite.models.encoders import Encoder
from keras_agalite.presets.config import argument_forms, argument_names

Class = TypeVar("Class", bound=type)


def register(cls: Class) -> Class:
    """Lets presets hold a memory, an encoder or an action head of your own.

    A policy with a registered part can be saved to a preset, and loaded from one in any
    program that registers the class first. A memory or an encoder can be named in the
    zoo and in recipes by its `short_name`, too.

    A preset is data: it names the class, and says the arguments of its constructor.
    Each of these has a type, one of bool, int, float, str (the name of an activation),
    `Literal[...]` and `Sequence[int]`; ints are sizes, but for one named `seed`.

    Args:
        cls: A class that `keras.saving.register_keras_serializable` has registered:
            a subclass of `MemoryRNN` (most simply of
            `keras_agalite.layers.ConfiguredMemory`) with `short_name`,
            `count_weights`, `zoo_config` and an argument `hidden_dim`; of
            `keras_agalite.models.Encoder` with `short_name`, `count_features` and
            `count_weights`; or of `keras_agalite.models.ActionHead`.

    Returns:
        The class, so that this is a decorator.

    Raises:
        ValueError: If the class is of another kind, is not registered with Keras, has
            no short name of its own, or an argument that presets cannot hold.

    Example:

    >>> @keras_agalite.register
    ... @keras.saving.register_keras_serializable(package="my_package")
    ... class MyEncoder(keras_agalite.models.Encoder):
    ...     short_name = "mine"
    ...     ...
    >>> policy = keras_agalite.MemoryPolicy(
    ...     MyEncoder(env.observation_space), keras_agalite.GRU(), env.action_space
    ... )
    >>> policy.save_to_preset("my_policy")
    """
    kinds = {
        MemoryRNN: register_memory,
        Encoder: register_encoder,
        ActionHead: register_action_head,
    }
    add = next(
        (kinds[k] for k in kinds if isinstance(cls, type) and issubclass(cls, k)), None
    )
    if add is None:
        raise ValueError(
            "Expected a subclass of MemoryRNN, Encoder or ActionHead. Received: "
            f"cls={cls!r}"
        )
    if keras.saving.get_registered_name(cls) == cls.__name__:
        raise ValueError(
            "Expected a class that Keras knows: decorate it with "
            "@keras.saving.register_keras_serializable(package=...) first. Received: "
            f"cls={cls.__name__}"
        )
    if issubclass(cls, MemoryRNN) and "hidden_dim" not in argument_names(cls):
        raise ValueError(
            "Expected a memory with the argument `hidden_dim`, the width of its "
            f"output. Received: {cls.__name__}({', '.join(argument_names(cls))})"
        )
    try:
        argument_forms(cls)
    except ValueError as error:
        raise ValueError(f"{cls.__name__}: {error}") from error
    add(cls)
    return cls
