"""What networks of frames are made of: the operators that a package's ONNX models may have, and what each may ask for.

All are of ONNX's own set. There is no control flow, no random number, no sequence and no text among them, and nothing
whose result's size depends on values of the frame. A base that needs another adds it here.
"""

from __future__ import annotations

_ELEMENTWISE = (
    *("Abs", "Acos", "Add", "And", "Asin", "Atan", "Cast", "Ceil", "Celu", "Clip", "Cos", "Cosh", "Div", "Elu"),
    *("Equal", "Erf", "Exp", "Floor", "Gelu", "Greater", "GreaterOrEqual", "HardSigmoid", "HardSwish", "Identity"),
    *("IsInf", "IsNaN", "LeakyRelu", "Less", "LessOrEqual", "Log", "Max", "Mean", "Min", "Mish", "Mod", "Mul", "Neg"),
    *("Not", "Or", "PRelu", "Pow", "Reciprocal", "Relu", "Round", "Selu", "Sigmoid", "Sign", "Sin", "Sinh"),
    *("Softplus", "Softsign", "Sqrt", "Sub", "Sum", "Tan", "Tanh", "ThresholdedRelu", "Where", "Xor"),
)
_PRODUCTS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_POOLS = ("AveragePool", "GlobalAveragePool", "GlobalMaxPool", "MaxPool")
_NORMALISATIONS = (
    *("BatchNormalization", "GroupNormalization", "InstanceNormalization", "LayerNormalization", "LogSoftmax"),
    *("LpNormalization", "MeanVarianceNormalization", "Softmax"),
)
_REDUCTIONS = (
    *(
        "ArgMax",
        "ArgMin",
        "CumSum",
        "ReduceL1",
        "ReduceL2",
        "ReduceLogSum",
        "ReduceLogSumExp",
        "ReduceMax",
        "ReduceMean",
    ),
    *("ReduceMin", "ReduceProd", "ReduceSum", "ReduceSumSquare", "TopK"),
)
_MOVES = (
    *(
        "Concat",
        "Constant",
        "ConstantOfShape",
        "DepthToSpace",
        "Expand",
        "Flatten",
        "Gather",
        "Pad",
        "Range",
        "Reshape",
    ),
    *(
        "Resize",
        "Shape",
        "Size",
        "Slice",
        "SpaceToDepth",
        "Split",
        "Squeeze",
        "Tile",
        "Transpose",
        "Trilu",
        "Unsqueeze",
    ),
)
_CODES = ("DequantizeLinear", "QuantizeLinear")

OPERATORS = frozenset((*_ELEMENTWISE, *_PRODUCTS, *_POOLS, *_NORMALISATIONS, *_REDUCTIONS, *_MOVES, *_CODES))

SIZES = {
    **dict.fromkeys(("Reshape", "Expand", "Tile", "Split", "Squeeze", "Unsqueeze", "TopK", "CumSum", "Gather"), (1,)),
    **dict.fromkeys((name for name in _REDUCTIONS if name.startswith("Reduce")), (1,)),
    "ConstantOfShape": (0,),
    "Range": (0, 1, 2),
    "Slice": (1, 2, 3, 4),
    "Pad": (1, 3),
    "Resize": (1, 2, 3),
    "Trilu": (1,),
}
"""The inputs, by operator, that say how large its result is, or where it takes it from: they are known beforehand."""

_WINDOW = 1024
INTEGERS = {
    "group": (1, 2**16),
    **dict.fromkeys(("kernel_shape", "strides", "dilations"), (1, _WINDOW)),
    **dict.fromkeys(("pads", "output_padding"), (0, _WINDOW)),
    "output_shape": (1, 2**16),
    **dict.fromkeys(("axis", "axes"), (-8, 8)),
    "perm": (0, 8),
    "blocksize": (1, 64),
    "num_groups": (1, 2**16),
    **dict.fromkeys(("value_int", "value_ints"), (-(2**63), 2**63 - 1)),
}
"""The least and the most that an attribute's whole numbers may be, by its name."""
OTHER_INTEGERS = (-(2**20), 2**20)
