"""The encoders, the action heads and the policies for recordings: one list of each.

The memories are in `keras_agalite.layers.catalog`.
"""

import inspect
from typing import Any

from keras_agalite.layers.checks import check_names
from keras_agalite.models.action_heads import (
    ActionHead,
    BoxHead,
    DiscreteHead,
    MultiBinaryHead,
    MultiDiscreteHead,
)
from keras_agalite.models.base import Policy
from keras_agalite.models.encoders import (
    ConvEncoder,
    Encoder,
    GridEncoder,
    MLPEncoder,
    ResNetEncoder,
)
from keras_agalite.models.offline import (
    ELMUR,
    RATE,
    DecisionTransformer,
    DTMem,
    ReturnConditionedPolicy,
)

# By short name.
ENCODERS: dict[str, type[Encoder]] = {
    cls.short_name: cls for cls in (MLPEncoder, GridEncoder, ConvEncoder, ResNetEncoder)
}
ACTION_HEADS: list[type[ActionHead]] = [
    DiscreteHead,
    MultiDiscreteHead,
    MultiBinaryHead,
    BoxHead,
]
# By short name.
OFFLINE_POLICIES: dict[str, type[Policy]] = {
    cls.short_name: cls
    for cls in (DecisionTransformer, RATE, ELMUR, DTMem, ReturnConditionedPolicy)
}


def encoder_class(short_name: str) -> type[Encoder]:
    """The encoder with this short name.

    Raises:
        ValueError: If there is none; the message lists the names.
    """
    if short_name not in ENCODERS:
        raise ValueError(
            f"Expected the name of an encoder: {', '.join(ENCODERS)}. Received: "
            f"encoder={short_name!r}"
        )
    return ENCODERS[short_name]


def register_encoder(cls: type[Encoder]) -> None:
    """Adds an encoder.

    Raises:
        ValueError: If its short name is missing, no lower-case identifier or taken, or
            it does not count its features or its weights.
    """
    if not hasattr(cls, "short_name"):
        raise ValueError(
            f"Expected an encoder with a `short_name`. Received: {cls.__name__}"
        )
    check_names(cls, ENCODERS)
    _check_complete(cls)
    ENCODERS[cls.short_name] = cls


def register_action_head(cls: type[ActionHead]) -> None:
    """Adds an action head.

    Raises:
        ValueError: If an abstract method is not defined.
    """
    _check_complete(cls)
    if cls not in ACTION_HEADS:
        ACTION_HEADS.append(cls)


def _check_complete(cls: type[Any]) -> None:
    if inspect.isabstract(cls):
        missing = ", ".join(f"`{name}`" for name in sorted(cls.__abstractmethods__))
        raise ValueError(
            f"Expected a class that defines {missing}. Received: {cls.__name__}"
        )
