"""SHERL's merge of frozen layers, in front of the one that is trained."""

from typing import Any

import keras
from keras import ops

from keras_agalite.layers.counting import count_dense
from keras_agalite.layers.initializers import LecunNormal, Ones, Zeros
from keras_agalite.layers.saved_activations import Dense, LayerNormalization
from keras_agalite.ops.layer_merge import layer_weights


@keras.saving.register_keras_serializable(package="keras_agalite")
class SHERLMerge(keras.layers.Layer):
    """Merges the outputs of frozen layers into the input of the next one.

        p_l = LN(A_l f_l)                                 g = p_L
        y = LN(W relu(sum_l w_l p_l + g)) + gate f_L      (sum over l < L)

    with the weights w of `layer_weights`. Diao et al., "SHERL: Synthesizing High
    Accuracy and Efficient Memory for Resource-Limited Transfer Learning", ECCV 2024,
    arXiv 2407.07523.

    Theirs has a gate tanh(10 theta) that starts at 0, which cuts the way that the
    layers were trained with. Ours is a weight that starts at 1, and the scale of the
    last LN starts at 0, so that a new merge gives f_L exactly.

    Args:
        units: Width of the p.
        saved_activations: None, or `"int8"`, as in `SequenceMemory`.

    Call arguments:
        features: List of tensors of shape `(batch, time, width)`, the f: what the
            first layer reads, and what each of the frozen layers gives. Widths may
            differ.

    Returns:
        Tensor of the shape of the last of `features`.
    """

    def __init__(
        self, units: int, saved_activations: str | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.units = units
        self.saved_activations = saved_activations

    def build(self, features_shape: Any) -> None:
        width = features_shape[-1][-1]
        inner = (*features_shape[-1][:-1], self.units)
        self.projections = [
            self._dense(self.units, f"projection_{i}")
            for i in range(len(features_shape))
        ]
        self.norms = [self._norm(f"norm_{i}") for i in range(len(features_shape))]
        for dense, norm, shape in zip(
            self.projections, self.norms, features_shape, strict=True
        ):
            dense.build(shape)
            norm.build(inner)
        self.agreement = self._dense(1, "agreement")
        self.agreement.build(inner)
        self.output_dense = self._dense(width, "output_dense")
        self.output_dense.build(inner)
        self.output_norm = self._norm("output_norm", Zeros())
        self.output_norm.build(features_shape[-1])
        self.gate = self.add_weight(name="gate", shape=(), initializer=Ones())

    def _dense(self, units: int, name: str) -> Any:
        return Dense(
            units,
            kernel_initializer=LecunNormal(),
            bias_initializer=Zeros(),
            name=name,
            dtype=self.dtype_policy,
            saved_activations=self.saved_activations,
        )

    def _norm(self, name: str, scale: Any = None) -> Any:
        return LayerNormalization(
            epsilon=1e-5,
            beta_initializer=Zeros(),
            gamma_initializer=scale or Ones(),
            name=name,
            dtype=self.dtype_policy,
            saved_activations=self.saved_activations,
        )

    @staticmethod
    def count_weights(widths: list[int], units: int) -> int:
        """Number of weights of a merge of layers of these widths."""
        return (
            sum(count_dense(width, units) + 2 * units for width in widths)
            + count_dense(units, 1)
            + count_dense(units, widths[-1])
            + 2 * widths[-1]
            + 1
        )

    def call(self, features: Any) -> Any:
        projected = ops.stack(
            [
                norm(dense(x))
                for norm, dense, x in zip(
                    self.norms, self.projections, features, strict=True
                )
            ],
            axis=-2,
        )
        layers, guide = projected[..., :-1, :], projected[..., -1, :]
        weights = layer_weights(
            layers, guide, self.agreement.kernel, self.agreement.bias
        )
        weights = ops.cast(weights[..., None], layers.dtype)
        merged = ops.sum(weights * layers, axis=-2) + guide
        update = self.output_norm(self.output_dense(ops.relu(merged)))
        last = features[-1]
        return ops.cast(update, last.dtype) + ops.cast(self.gate, last.dtype) * last

    def compute_output_shape(self, features_shape: Any) -> Any:
        return features_shape[-1]

    def get_config(self) -> dict[str, Any]:
        own = {"units": self.units, "saved_activations": self.saved_activations}
        return {**super().get_config(), **own}
