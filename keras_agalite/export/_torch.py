"""ONNX and `.pt2`, by PyTorch."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import torch
from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode

from keras_agalite.export.step import Step, Tensor


class _Module(torch.nn.Module):
    """A step whose weights are named as Keras names them."""

    def __init__(self, step: Step) -> None:
        super().__init__()
        self.step = step
        self.variables = step.policy.variables
        for variable in self.variables:
            value = variable.value.detach().cpu()
            self.register_buffer(variable.path.replace("/", "_"), value)

    def forward(self, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        mapping = list(zip(self.variables, self.buffers(), strict=True))
        with keras.StatelessScope(mapping):
            return self.step(inputs)


def _trace(step: Step) -> Any:
    """The step as an exported program, of any batch size."""
    # Of a batch of one, PyTorch would make a constant.
    example = {k: torch.from_numpy(x.copy()) for k, x in step.sample(2).items()}
    batch = torch.export.Dim("batch", min=1)
    try:
        with torch.no_grad():
            program = torch.export.export(
                _Module(step).eval(),
                (example,),
                dynamic_shapes={"inputs": {name: {0: batch} for name in example}},
                strict=False,
            )
    except GuardOnDataDependentSymNode as error:
        memory = getattr(step.policy, "memory", step.policy)
        raise ValueError(
            "PyTorch cannot export this policy: in it a size depends on numbers. A "
            "SavedModel or LiteRT may hold it. Received: memory="
            f"{type(memory).__name__}"
        ) from error
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # paths of this machine
    return program


def _outputs(program: Any) -> list[Tensor]:
    (node,) = (n for n in program.graph.nodes if n.op == "output")
    values = [x.meta["val"] for x in node.args[0]]
    names = program.call_spec.out_spec.unflatten(list(range(len(values))))
    return [
        Tensor(name, tuple(values[i].shape[1:]), str(values[i].dtype).split(".")[1])
        for name, i in names.items()
    ]


def write_pt2(step: Step, path: Path) -> list[Tensor]:
    with _quiet():
        program = _trace(step)
        torch.export.save(program, str(path))
    return _outputs(program)


def write_onnx(step: Step, path: Path) -> list[Tensor]:
    with _quiet():
        program = _trace(step)
        outputs = _outputs(program)
        model = torch.onnx.export(
            program,
            dynamo=True,
            input_names=[x.name for x in step.inputs],
            output_names=[x.name for x in outputs],
            optimize=False,  # it takes an epsilon of 1e-10 for nothing
            verbose=False,
        )
        for node in model.model.graph:
            node.metadata_props.clear()
        model.save(str(path), external_data=False)
    return outputs


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without PyTorch's remarks on its own exporter."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


WRITERS = {"onnx": write_onnx, "pt2": write_pt2}
