"""What the authors' released code computes besides: habits that users do not get."""

import functools

import numpy as np
from keras import ops

from keras_agalite.models import ELMUR, RATE, DecisionTransformer
from keras_agalite.models.offline.dt_mem import GatedMemory
from keras_agalite.ops.relative_attention import distance_encoding
from keras_agalite.ops.segment_attention import distance_scores


def leaky_relu(x):
    """PyTorch's, whose slope is not Keras's."""
    return ops.leaky_relu(x, negative_slope=0.01)


class ReleasedTransformer:
    """The scores of later tokens are those that Transformer-XL's shift leaves there.

    With g how much later a key is and N the number of keys: 0 for g = 1, then those of
    the next query at the distance N + 1 - g. Attributes:

        cached: How many tokens the cache holds now.
    """

    cached = 0

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        for block in self.blocks:
            # LN(2 z + W y) is LN(z + W/2 y) with a quarter of the epsilon.
            block.attention_norm.epsilon /= 4.0
            block.attention.by_distance = functools.partial(shifted_scores, self)


def shifted_scores(policy, query, position, length):
    tokens, length = int(query.shape[1]), int(length)
    keys = np.arange(length)[None, :] - (length - tokens)
    later = keys - np.arange(tokens)[:, None]
    correct = distance_scores(query, position, length)
    following = ops.concatenate([query[:, 1:], ops.zeros_like(query[:, :1])], axis=1)
    scores = ops.einsum("bqhd,whd->bhqw", following, position)
    distance = policy.cached + tokens + 1 - later
    index = np.clip(length - 1 - distance, 0, None)[None, None]
    index = ops.broadcast_to(index, (*scores.shape[:3], length))
    taken = ops.take_along_axis(scores, index, axis=-1)
    return ops.where(later <= 0, correct, ops.where(later == 1, 0.0, taken))


class ReleasedDecisionTransformer(ReleasedTransformer, DecisionTransformer):
    pass


class ReleasedRATE(ReleasedTransformer, RATE):
    pass


class ReleasedELMUR(ELMUR):
    """Time runs backwards in a segment, distances grow with it, all slots are blended.

    Attributes:
        offset: Tokens before the segment.
    """

    offset = 0

    def times(self, count, segments):
        return ops.flip(super().times(count, segments), axis=1)

    def encoding(self, count):
        first = count - 1 + self.offset
        return distance_encoding(first, self.hidden_dim, first - 2 * count + 2)

    def held_slots(self, memory, changed):
        shape = (-1, self.num_layers, self.num_slots, self.hidden_dim)
        return ops.reshape(memory, shape)

    def blended(self, held, update, is_empty):
        return self.blend * update + (1.0 - self.blend) * held


class ReleasedGatedMemory(GatedMemory):
    """The layers of the mlp share one weight.

    Attributes:
        mlp_layers: How many there are.
    """

    mlp_layers = 1

    def mixed(self, slots):
        for _ in range(self.mlp_layers):
            slots = ops.relu(self.mix(slots))
        return slots
