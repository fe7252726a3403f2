import keras
import numpy as np
import pytest

from keras_agalite.layers import GaLiTe
from tests.helpers import to_numpy
from tests.layers.memories import make_memory
from tests.memories import TINY


def test_size_is_the_papers():
    assert GaLiTe.count_weights(16) == 1_792_736


def test_state_is_a_matrix_and_a_vector_a_head():
    # Each head: head_dim x (eta head_dim), then eta head_dim.
    assert GaLiTe().state_size == [4 * (64 * 128 + 128)] * 4


def test_the_embedding_is_linear():
    layer = make_memory("galite")

    assert layer.cell.blocks[0].embedding.activation is keras.activations.linear
    assert layer.cell.blocks[1].embedding is None


@pytest.mark.parametrize(
    ("name", "width"),
    [
        ("projection", TINY["galite"]["head_dim"]),
        ("expansion", TINY["galite"]["eta"]),
        ("query_projection", None),
        ("query_expansion", None),
    ],
)
def test_kernels_start_orthogonal_head_by_head(name, width):
    layer = GaLiTe(**TINY["galite"])
    layer.build((None, None, 16))

    kernel = to_numpy(getattr(layer.cell.blocks[1], name).kernel)
    heads = np.split(kernel, kernel.shape[-1] // width, axis=1) if width else kernel

    for head in heads:
        product = head.T @ head
        np.testing.assert_allclose(product, 2 * np.eye(len(product)), atol=1e-5)
    assert not np.allclose(heads[0], heads[1])
