"""What a policy is exported to, and by whom."""

from typing import NamedTuple


class Format(NamedTuple):
    """What a format is made with.

    Attributes:
        file: Name of the file, or folder, that is written.
        backend: The backend that owns the format.
        packages: What that backend's process imports.
        extra: The extra of this package that brings them.
    """

    file: str
    backend: str
    packages: tuple[str, ...]
    extra: str


FORMATS = {
    "onnx": Format("policy.onnx", "torch", ("torch", "onnx", "onnxscript"), "onnx"),
    "pt2": Format("policy.pt2", "torch", ("torch",), "torch"),
    "saved_model": Format("saved_model", "tensorflow", ("tensorflow",), "tensorflow"),
    "litert": Format("policy.tflite", "tensorflow", ("tensorflow",), "litert"),
}
DESCRIPTION = "export.json"
