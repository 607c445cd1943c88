from hwprune.backend import Capabilities, Layouts
from hwprune.report.lowering import lowering_notes, lowering_rows

ABLE = Capabilities(
    precisions={"Conv": frozenset({"int8"}), "MatMul": frozenset({"int8", "dynamic-int8"})},
    activations={"fp32": frozenset({"Relu", "Clip"}), "int8": frozenset({"Relu"})},
    residual_fused=frozenset({"fp32"}),
    passthrough=frozenset({"MaxPool"}),
    layouts=Layouts(8, 4, frozenset({"Conv"}), frozenset({"Conv"})),
    weight_bits=7,
    bias_fused=frozenset({"dynamic-int8"}),
)


def test_a_row_says_kernels_fusions_and_integers() -> None:
    conv, matmul, pool = lowering_rows(ABLE)
    assert conv[:2] == ("Conv", "int8")
    assert conv[2] == "fp32 + activation + Add, int8 + activation"
    assert matmul == ("MatMul", "int8, dynamic-int8", "bias, but for int8", "scale of its own")
    assert pool == ("MaxPool", "-", "-", "scale of its input, free")


def test_notes_say_what_holds_for_all() -> None:
    notes = list(lowering_notes(ABLE))
    assert "7 bits" in notes[0]
    assert "storage alone" in notes[0]
    assert notes[1:3] == [
        "fp32 activations that fuse: Clip, Relu",
        "int8 activations that fuse: Relu",
    ]
    assert notes[3:] == ["fp32 in blocks of 8 channels: Conv", "int8 with channels last: Conv"]
