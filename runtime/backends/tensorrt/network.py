"""ONNX into TensorRT's network, and why where that fails."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from uir.runtime.backends.tensorrt.bindings import Bindings
from uir.runtime.backends.tensorrt.log import Log, explain
from uir.runtime.errors import BackendError

_REMEDIES = {  # by what TensorRT says
    "same input types": "give all of a node's inputs one type: TensorRT converts none by itself",
    "must be of same type": "give all of a node's inputs one type: TensorRT converts none by itself",
    "zero point": "quantize symmetrically: signed integers, all zero points 0",
    "has type Int32 but must have type": "leave biases unquantized, in the type of the convolution's output",
    "has type UInt8 but must have type": "cast frames to a float before anything else is done to them",
    "UNSUPPORTED_NODE": "run this model on another backend (--device cpu)",
}
_REMEDY = "export the package again, or run it on another backend (--device cpu)"


@dataclass(frozen=True)
class ParsedNetwork:
    """A parsed model, with all that must live for as long as it is used.

    Attributes:
        parser: it owns the weights of the network.
    """

    log: Log
    builder: Any
    network: Any
    parser: Any


def parse(bindings: Bindings, log: Log, model: bytes) -> ParsedNetwork:
    """Parse a serialised ONNX model into a strongly typed network: its precision is that of the model's types.

    Raises:
        BackendError: TensorRT cannot be started, or does not take the model; the message says which node and why.
    """
    trt = bindings.module
    try:
        builder = trt.Builder(log.native)
    except (RuntimeError, TypeError) as error:  # TypeError: pybind11's word for a constructor that gave nothing
        raise BackendError(f"{bindings.title} cannot start: {log.reason()} ({error})") from error
    network = builder.create_network(_creation_flags(trt))
    if network is None:
        raise BackendError(f"{bindings.title} cannot make a network: {log.reason()}")
    parser = trt.OnnxParser(network, log.native)
    # Bytes that are no model may parse, into a network of nothing.
    if not parser.parse(model) or not network.num_outputs or not network.num_inputs:
        reason = _reason(parser) or "there is no graph in it"
        remedy = next((remedy for words, remedy in _REMEDIES.items() if words in reason), _REMEDY)
        raise BackendError(f"{bindings.title} cannot take the model: {reason}; {remedy}")
    return ParsedNetwork(log, builder, network, parser)


def _creation_flags(trt: Any) -> int:
    """Strongly typed, where that has to be said: TensorRT 10 has other ways, and newer ones need not have the flag."""
    flag = trt.NetworkDefinitionCreationFlag.__members__.get("STRONGLY_TYPED")
    return 0 if flag is None else 1 << int(flag)


def _reason(parser: Any) -> str:
    reasons = []
    for number in range(parser.num_errors):
        parser_error = parser.get_error(number)
        operator = parser_error.node_operator()
        node = f"{operator} node {parser_error.node_name()}: " if operator else ""
        reasons.append(f"{node}{explain([parser_error.desc()])} ({parser_error.code().name})")
    return "; ".join(reasons)
