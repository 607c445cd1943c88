"""Random small networks: every structure that couples channels, in a few milliseconds.

`small_networks` is a hypothesis strategy; `build` makes one network of named blocks.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from hwprune.graph.read import canonical

Chw = tuple[int, int, int]


class Builder:
    """Writes an ONNX graph node by node; tensors are strings, weights random of sane scale."""

    def __init__(self, seed: int = 0, shape: Chw = (3, 8, 8)) -> None:
        self.rng = np.random.default_rng(seed)
        self.shape = shape
        self.sizes: dict[str, Chw] = {"x": shape}
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []

    def add(self, op: str, inputs: Sequence[str], size: Chw, /, **attributes: Any) -> str:
        """Appends a node with one output of `size`."""
        return self.add_many(op, inputs, [size], **attributes)[0]

    def add_many(
        self, op: str, inputs: Sequence[str], sizes: Sequence[Chw], /, **attributes: Any
    ) -> list[str]:
        """Appends a node with an output for each of `sizes`."""
        name = f"{op.lower()}{len(self._nodes)}"
        outputs = [f"{name}_{i}" for i in range(len(sizes))]
        self.sizes.update(zip(outputs, sizes, strict=True))
        node = helper.make_node(op, list(inputs), outputs, name=name, **attributes)
        self._nodes.append(node)
        return outputs

    def constant(self, values: NDArray[np.generic] | list[int]) -> str:
        """An initializer; lists of int become int64."""
        name = f"c{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def weight(self, *shape: int) -> str:
        """Normal random values that keep the activations' scale (He et al. 2015)."""
        scale = np.sqrt(2 / max(1, int(np.prod(shape[1:]))))
        return self.constant((self.rng.standard_normal(shape) * scale).astype(np.float32))

    def vector(self, *shape: int, low: float = -0.5, high: float = 0.5) -> str:
        """Uniform random values: biases, slopes, statistics."""
        return self.constant(self.rng.uniform(low, high, shape).astype(np.float32))

    def conv(self, x: str, width: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> str:
        """A padded convolution with bias."""
        c, h, w = self.sizes[x]
        size = (width, -(-h // stride), -(-w // stride))
        weights = [self.weight(width, c // groups, kernel, kernel), self.vector(width)]
        options = {"strides": [stride] * 2, "pads": [kernel // 2] * 4, "group": groups}
        return self.add("Conv", [x, *weights], size, **options)

    def batchnorm(self, x: str) -> str:
        """Batch normalisation with random statistics."""
        c = self.sizes[x][0]
        params = [self.vector(c, low=0.5, high=1.5), self.vector(c), self.vector(c)]
        params.append(self.vector(c, low=0.5, high=1.5))
        return self.add("BatchNormalization", [x, *params], self.sizes[x])

    def relu(self, x: str) -> str:
        """The rectifier."""
        return self.add("Relu", [x], self.sizes[x])

    def sum(self, x: str, y: str) -> str:
        """A residual connection."""
        return self.add("Add", [x, y], self.sizes[x])

    def model(self, output: str, classes: int) -> onnx.ModelProto:
        """The finished model: input `x`, output `y` of 1 x classes."""
        c, h, w = self.shape
        self._nodes.append(helper.make_node("Identity", [output], ["y"], name="output"))
        x = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["N", c, h, w])
        y = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["N", classes])
        graph = helper.make_graph(self._nodes, "small", [x], [y], self._constants)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


Block = Callable[[Builder, str], str]


def plain(b: Builder, x: str) -> str:
    """Conv, BN, Relu to twice the channels at most 16."""
    return b.relu(b.batchnorm(b.conv(x, min(16, 2 * b.sizes[x][0]))))


def residual(b: Builder, x: str) -> str:
    """He et al. 2016: two convolutions beside an identity."""
    c = b.sizes[x][0]
    y = b.conv(b.relu(b.batchnorm(b.conv(x, 8))), c)
    return b.relu(b.sum(b.batchnorm(y), x))


def projection(b: Builder, x: str) -> str:
    """A residual block whose shortcut is a strided 1x1 convolution (option B)."""
    width = b.sizes[x][0] + 4
    y = b.conv(b.relu(b.conv(x, width, stride=2)), width)
    return b.relu(b.sum(y, b.conv(x, width, kernel=1, stride=2)))


def option_a(b: Builder, x: str) -> str:
    """A residual block whose shortcut is subsampled and padded with zero channels (option A)."""
    c, h, w = b.sizes[x]
    width, half = 2 * c, (-(-h // 2), -(-w // 2))
    y = b.conv(b.relu(b.conv(x, width, stride=2)), width)
    cuts = [b.constant(v) for v in ([0, 0], [1 << 60] * 2, [2, 3], [2, 2])]
    thin = b.add("Slice", [x, *cuts], (c, *half))
    front, back = c // 2, c - c // 2
    pads = b.constant([0, front, 0, 0, 0, back, 0, 0])
    return b.relu(b.sum(y, b.add("Pad", [thin, pads], (width, *half))))


def bottleneck(b: Builder, x: str) -> str:
    """1x1, 3x3, 1x1 beside an identity."""
    y = b.relu(b.conv(b.relu(b.conv(x, 4, kernel=1)), 6))
    return b.relu(b.sum(b.conv(y, b.sizes[x][0], kernel=1), x))


def separable(b: Builder, x: str) -> str:
    """Depthwise and pointwise (MobileNet), with Relu6."""
    c = b.sizes[x][0]
    y = b.batchnorm(b.conv(x, c, groups=c))
    low, high = (b.constant(np.array(v, np.float32)) for v in (0, 6))
    return b.relu(b.conv(b.add("Clip", [y, low, high], b.sizes[y]), c + 2, kernel=1))


def shuffled(b: Builder, x: str) -> str:
    """Grouped convolutions with a channel shuffle between them (ShuffleNet)."""
    y = b.relu(b.conv(b.conv(x, 8, kernel=1), 8, groups=2))
    _, h, w = size = b.sizes[y]
    apart = b.add("Reshape", [y, b.constant([-1, 2, 4, h, w])], size)
    turned = b.add("Transpose", [apart], size, perm=[0, 2, 1, 3, 4])
    joined = b.add("Reshape", [turned, b.constant([0, 8, h, w])], size)
    return b.conv(joined, 8, groups=2)


def dense(b: Builder, x: str) -> str:
    """DenseNet: the input is concatenated with what is computed from it."""
    c, h, w = b.sizes[x]
    y = b.conv(b.relu(b.batchnorm(x)), 4)
    return b.add("Concat", [x, y], (c + 4, h, w), axis=1)


def split(b: Builder, x: str) -> str:
    """Half of the channels pass, the other half is convolved."""
    y = b.conv(x, 8, kernel=1)
    _, h, w = b.sizes[y]
    first, second = b.add_many("Split", [y, b.constant([3, 5])], [(3, h, w), (5, h, w)], axis=1)
    return b.relu(b.add("Concat", [b.conv(second, 4), first], (7, h, w), axis=1))


def window(b: Builder, x: str) -> str:
    """Slices and gathers of channels that overlap."""
    y = b.conv(x, 8, kernel=1)
    _, h, w = b.sizes[y]
    cut = b.add("Slice", [y, *(b.constant([v]) for v in (2, -1, 1))], (5, h, w))
    order = b.constant([5, 0, 3, 2])
    taken = b.add("Gather", [y, order], (4, h, w), axis=1)
    return b.add("Concat", [b.conv(cut, 4), taken], (8, h, w), axis=1)


def gated(b: Builder, x: str) -> str:
    """Squeeze and excite: channels multiplied by a gate computed from their means."""
    c = b.sizes[x][0]
    mean = b.add("GlobalAveragePool", [x], (c, 1, 1))
    gate = b.conv(b.relu(b.conv(mean, 4, kernel=1)), c, kernel=1)
    return b.add("Mul", [x, b.add("Sigmoid", [gate], (c, 1, 1))], b.sizes[x])


def scaled(b: Builder, x: str) -> str:
    """Per-channel constants: PRelu, a learnt scale, and a scalar."""
    c = b.sizes[x][0]
    y = b.add("PRelu", [x, b.vector(c, 1, 1)], b.sizes[x])
    y = b.add("Mul", [b.vector(1, c, 1, 1), y], b.sizes[x])
    return b.add("Add", [y, b.vector(1)], b.sizes[x])


def upsampled(b: Builder, x: str) -> str:
    """A transposed convolution, then pooling back to the old size."""
    c, h, w = b.sizes[x]
    inputs = [x, b.weight(c, 6, 2, 2), b.vector(6)]
    y = b.batchnorm(b.add("ConvTranspose", inputs, (6, 2 * h, 2 * w), strides=[2, 2]))
    return b.add("MaxPool", [y], (6, h, w), kernel_shape=[2, 2], strides=[2, 2])


def shuffled_pixels(b: Builder, x: str) -> str:
    """Sub-pixel convolution (Shi et al. 2016): blocks of channels become pixels, and back."""
    c, h, w = b.sizes[x]
    wide = b.conv(x, 12, kernel=1)
    large = b.add("DepthToSpace", [wide], (3, 2 * h, 2 * w), blocksize=2, mode="CRD")
    return b.conv(b.add("SpaceToDepth", [b.relu(large)], (12, h, w), blocksize=2), c)


def attended(b: Builder, x: str) -> str:
    """Self-attention over the pixels, two heads of three, beside an identity."""
    c, h, w = size = b.sizes[x]
    heads, width, pixels = 2, 3, h * w
    flat = b.add("Reshape", [x, b.constant([0, c, pixels])], size)
    tokens = b.add("Transpose", [flat], size, perm=[0, 2, 1])

    def projected(order: list[int]) -> str:
        y = b.add("MatMul", [tokens, b.constant(_matrix(b, c, heads * width))], size)
        y = b.add("Add", [y, b.vector(heads * width)], size)
        y = b.add("Reshape", [y, b.constant([0, pixels, heads, width])], size)
        return b.add("Transpose", [y], size, perm=order)

    query, key, value = map(projected, ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3]))
    weights = b.add("Softmax", [b.add("MatMul", [query, key], size)], size, axis=-1)
    mixed = b.add("Transpose", [b.add("MatMul", [weights, value], size)], size, perm=[0, 2, 1, 3])
    joined = b.add("Reshape", [mixed, b.constant([0, pixels, heads * width])], size)
    y = b.add("MatMul", [joined, b.constant(_matrix(b, heads * width, c))], size)
    y = b.add("Reshape", [b.add("Transpose", [y], size, perm=[0, 2, 1]), _image(b, size)], size)
    return b.sum(y, x)


def layer_normed(b: Builder, x: str) -> str:
    """The block of a ConvNeXt (Liu et al. 2022): LayerNorm over channels, inverse MLP."""
    c, h, w = size = b.sizes[x]
    deep = b.add("Transpose", [b.conv(x, c, groups=c)], (h, w, c), perm=[0, 2, 3, 1])
    scale, shift = b.vector(c, low=0.5, high=1.5), b.vector(c)
    y = b.add("LayerNormalization", [deep, scale, shift], (h, w, c), axis=-1, epsilon=1e-3)
    y = b.relu(b.add("MatMul", [y, b.constant(_matrix(b, c, 2 * c))], (h, w, 2 * c)))
    y = b.add("MatMul", [y, b.constant(_matrix(b, 2 * c, c))], (h, w, c))
    return b.sum(b.add("Transpose", [y], size, perm=[0, 3, 1, 2]), x)


def converted(b: Builder, x: str) -> str:
    """As converters from channels-last frameworks write a layer: there and back, padded apart."""
    c, h, w = b.sizes[x]
    width = min(16, c + 2)
    pads = b.constant([0, 0, 0, 0, 0, 0, 1, 1])
    padded = b.add("Pad", [x, pads], (c, h + 1, w + 1))
    weights = [b.weight(width, c, 2, 2), b.vector(width)]
    y = b.add("Conv", [padded, *weights], (width, h, w), pads=[0, 0, 0, 0])
    y = b.add("Transpose", [y], (h, w, width), perm=[0, 2, 3, 1])
    y = b.relu(b.add("Mul", [y, b.vector(width, low=0.5, high=1.5)], (h, w, width)))
    return b.add("Transpose", [y], (width, h, w), perm=[0, 3, 1, 2])


def group_normed(b: Builder, x: str) -> str:
    """Group normalisation in two groups, as exporters write it; then a scale per channel."""
    c, h, w = size = b.sizes[x]
    y = b.conv(x, c)
    parts = b.add("Reshape", [y, b.constant([0, 2, -1])], (2, c // 2 * h * w, 1))
    ones, zeros = (b.constant(np.full(2, value, np.float32)) for value in (1, 0))
    parts = b.add("InstanceNormalization", [parts, ones, zeros], b.sizes[parts], epsilon=1e-3)
    y = b.add("Mul", [b.add("Reshape", [parts, _image(b, size)], size), b.vector(c, 1, 1)], size)
    return b.relu(y)


def root_mean_square(b: Builder, x: str) -> str:
    """RMS normalisation over the channels in single operators (Zhang and Sennrich 2019)."""
    c, h, w = size = b.sizes[x]
    squares = b.add("Mul", [x, x], size)
    mean = b.add("ReduceMean", [squares], (1, h, w), axes=[1])
    shifted = b.add("Add", [mean, b.constant(np.full(1, 1e-3, np.float32))], (1, h, w))
    return b.conv(b.add("Div", [x, b.add("Sqrt", [shifted], (1, h, w))], size), c)


def pooled_head(b: Builder, x: str) -> str:
    """Global average pooling and a Gemm."""
    c = b.sizes[x][0]
    flat = b.add("Flatten", [b.add("GlobalAveragePool", [x], (c, 1, 1))], (c, 1, 1))
    return b.add("Gemm", [flat, b.weight(5, c), b.vector(5)], (5, 1, 1), transB=1)


def flat_head(b: Builder, x: str) -> str:
    """Flatten: every channel becomes several columns; then a MatMul, a bias and a Gemm."""
    count = int(np.prod(b.sizes[x]))
    flat = b.add("Flatten", [x], (count, 1, 1))
    hidden = b.add("MatMul", [flat, b.constant(_matrix(b, count, 6))], (6, 1, 1))
    hidden = b.relu(b.add("Add", [hidden, b.vector(6)], (6, 1, 1)))
    return b.add("Gemm", [hidden, b.constant(_matrix(b, 6, 5)), b.vector(5)], (5, 1, 1))


def mean_head(b: Builder, x: str) -> str:
    """ReduceMean over space, as PyTorch writes `mean((2, 3))`."""
    c = b.sizes[x][0]
    mean = b.add("ReduceMean", [x], (c, 1, 1), axes=[2, 3], keepdims=0)
    return b.add("Gemm", [mean, b.weight(5, c), b.vector(5)], (5, 1, 1), transB=1)


BLOCKS: tuple[Block, ...] = (
    plain,
    residual,
    projection,
    option_a,
    bottleneck,
    separable,
    shuffled,
    dense,
    split,
    window,
    gated,
    scaled,
    upsampled,
    shuffled_pixels,
    attended,
    layer_normed,
    converted,
    group_normed,
    root_mean_square,
)
HEADS: tuple[Block, ...] = (pooled_head, flat_head, mean_head)


def build(*blocks: Block, head: Block = pooled_head, seed: int = 0, stem: int = 6) -> gs.Graph:
    """The canonical graph of a stem convolution, the blocks in order, and a head of 5 classes."""
    return canonical(build_model(*blocks, head=head, seed=seed, stem=stem))


def build_model(
    *blocks: Block, head: Block = pooled_head, seed: int = 0, stem: int = 6
) -> onnx.ModelProto:
    """The same as it would stand in a file: batch N, BatchNormalization not folded."""
    builder = Builder(seed)
    x = builder.relu(builder.conv("x", stem))
    for block in blocks:
        x = block(builder, x)
    return builder.model(head(builder, x), classes=5)


@st.composite
def small_networks(draw: st.DrawFn, max_blocks: int = 4) -> gs.Graph:
    """Graphs of one to `max_blocks` random blocks; input `x` 1 x 3 x 8 x 8, output `y` 1 x 5."""
    blocks = draw(st.lists(st.sampled_from(BLOCKS), min_size=1, max_size=max_blocks))
    head, stem = draw(st.sampled_from(HEADS)), draw(st.sampled_from((4, 6, 8)))
    return build(*blocks, head=head, seed=draw(st.integers(0, 1000)), stem=stem)


def _image(b: Builder, size: Chw) -> str:
    return b.constant([0, *size])


def _matrix(b: Builder, rows: int, columns: int) -> NDArray[np.float32]:
    values = b.rng.standard_normal((rows, columns)) * np.sqrt(2 / rows)
    return np.asarray(values, np.float32)
