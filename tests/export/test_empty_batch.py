"""An exported policy takes a batch without rows."""

import keras
import numpy as np
import pytest
from gymnasium import spaces

from keras_agalite.export import export_policy
from keras_agalite.layers import GTrXL
from keras_agalite.models import MemoryPolicy, MLPEncoder


@pytest.mark.process
@pytest.mark.skipif(keras.backend.backend() != "torch", reason="ONNX is torch's format")
def test_onnx_runtime_takes_no_row_of_gtrxl(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    policy = MemoryPolicy(
        MLPEncoder(spaces.Box(-1, 1, (5,), np.float32)),
        GTrXL(hidden_dim=16, num_layers=1, num_heads=2, head_dim=8, memory_length=4),
        spaces.Discrete(3),
    )
    session = onnxruntime.InferenceSession(
        export_policy(policy, tmp_path / "gtrxl", "onnx")
    )
    inputs = {
        x.name: np.zeros((0, *x.shape[1:]), bool if x.name == "start" else "float32")
        for x in session.get_inputs()
    }
    shapes = [x.shape for x in session.run(None, inputs)]
    assert shapes == [(0,), (0, 3), (0,), (0, 65)]
