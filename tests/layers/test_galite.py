import keras
import numpy as np
import pytest

from keras_agalite.layers import GaLiTe
from tests.helpers import to_numpy
from tests.layers.memories import GALITE, make_memory


def test_size_is_the_papers():
    layer = GaLiTe()
    with keras.StatelessScope():  # counts weights without drawing them
        layer.build((None, None, 16))

    assert layer.count_params() == 1_792_736


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
        ("projection", GALITE["head_dim"]),
        ("expansion", GALITE["eta"]),
        ("query_projection", None),
        ("query_expansion", None),
    ],
)
def test_kernels_start_orthogonal_head_by_head(name, width):
    layer = GaLiTe(**GALITE)
    layer.build((None, None, 16))

    kernel = to_numpy(getattr(layer.cell.blocks[1], name).kernel)
    heads = np.split(kernel, kernel.shape[-1] // width, axis=1) if width else kernel

    for head in heads:
        product = head.T @ head
        np.testing.assert_allclose(product, 2 * np.eye(len(product)), atol=1e-5)
    assert not np.allclose(heads[0], heads[1])
