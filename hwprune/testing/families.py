"""Small networks of the families people deploy, with random weights: what coverage is judged by.

Convolutional ones are written out here; transformers are built from the `transformers` library's
configurations (a development extra), so that their code is not ours.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Inputs = tuple[Tensor, ...]


@dataclass(frozen=True, slots=True)
class Family:
    """A network in evaluation mode, made by `build`, and example inputs of it."""

    name: str
    build: Callable[[], nn.Module]
    inputs: Callable[[], Inputs]


def image(size: int = 64, channels: int = 3) -> Callable[[], Inputs]:
    """One image of noise."""
    return lambda: (torch.randn(1, channels, size, size),)


def conv(i: int, o: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Convolution, batch normalisation, ReLU."""
    plain = nn.Conv2d(i, o, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(plain, nn.BatchNorm2d(o), nn.ReLU())


def randomize(module: nn.Module, seed: int = 0) -> nn.Module:
    """Random weights of sane scale throughout, in place: nothing dies out, nothing is symmetric.

    The tiny initial weights of many libraries leave outputs that hardly depend on anything.
    """
    generator = torch.Generator().manual_seed(seed)
    for tensor in (*module.parameters(), *module.buffers()):
        if not tensor.is_floating_point():
            continue
        if tensor.ndim < 2:
            tensor.data.uniform_(0.5, 1.5, generator=generator)
        else:
            scale = (2 / tensor[0].numel()) ** 0.5
            tensor.data.normal_(0, scale, generator=generator)
    return module


class DenseNet(nn.Module):
    """Concatenated features (Huang et al. 2017), two dense blocks."""

    def __init__(self, growth: int = 12, layers: int = 4) -> None:
        super().__init__()
        self.stem = conv(3, 24)
        self.first = nn.ModuleList(conv(24 + i * growth, growth) for i in range(layers))
        self.down = conv(24 + layers * growth, 36, 1)
        self.second = nn.ModuleList(conv(36 + i * growth, growth) for i in range(layers))
        self.head = nn.Linear(36 + layers * growth, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        x = self.stem(x)
        for layer in self.first:
            x = torch.cat([x, layer(x)], 1)
        x = F.avg_pool2d(self.down(x), 2)
        for layer in self.second:
            x = torch.cat([x, layer(x)], 1)
        return _answer(self.head, x)


class ShuffleUnit(nn.Module):
    """The basic unit of ShuffleNetV2 (Ma et al. 2018): split, transform one half, shuffle."""

    def __init__(self, width: int) -> None:
        super().__init__()
        half = width // 2
        self.branch = nn.Sequential(
            conv(half, half, 1), conv(half, half, groups=half), conv(half, half, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Channels of both halves, alternating."""
        left, right = x.chunk(2, 1)
        n, c, h, w = x.shape
        joined = torch.cat([left, self.branch(right)], 1)
        return joined.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)


class SqueezeExcite(nn.Module):
    """A residual block gated by its own average (Hu et al. 2018)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(conv(width, width), conv(width, width))
        self.gate = nn.Sequential(
            nn.Linear(width, width // 4), nn.ReLU(), nn.Linear(width // 4, width), nn.Sigmoid()
        )

    def forward(self, x: Tensor) -> Tensor:
        """The block's output plus its input."""
        y = self.body(x)
        gate = self.gate(y.mean((2, 3)))
        return F.relu(x + y * gate[:, :, None, None])


class Inception(nn.Module):
    """Four branches side by side (Szegedy et al. 2015)."""

    def __init__(self, i: int, o: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            [
                conv(i, o, 1),
                nn.Sequential(conv(i, o, 1), conv(o, o, 3)),
                nn.Sequential(conv(i, o, 1), conv(o, o, 5)),
                nn.Sequential(nn.MaxPool2d(3, 1, 1), conv(i, o, 1)),
            ]
        )

    def forward(self, x: Tensor) -> Tensor:
        """All branches concatenated."""
        return torch.cat([branch(x) for branch in self.branches], 1)


class UNet(nn.Module):
    """Encoder, decoder with transposed convolutions, skips by concatenation."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        w = width
        self.down = nn.ModuleList([conv(3, w), conv(w, 2 * w), conv(2 * w, 4 * w)])
        self.up = nn.ModuleList(
            [nn.ConvTranspose2d(4 * w, 2 * w, 2, 2), nn.ConvTranspose2d(2 * w, w, 2, 2)]
        )
        self.join = nn.ModuleList([conv(4 * w, 2 * w), conv(2 * w, w)])
        self.head = nn.Conv2d(w, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        """A map of 5 classes at the size of the input."""
        first = self.down[0](x)
        second = self.down[1](F.max_pool2d(first, 2))
        x = self.down[2](F.max_pool2d(second, 2))
        x = self.join[0](torch.cat([second, self.up[0](x)], 1))
        x = self.join[1](torch.cat([first, self.up[1](x)], 1))
        answer: Tensor = self.head(x)
        return answer


class Detector(nn.Module):
    """A feature pyramid with one head shared by its levels; boxes and scores as flat lists."""

    def __init__(self, width: int = 24, classes: int = 4) -> None:
        super().__init__()
        self.stages = nn.ModuleList([conv(3, 16, 3, 2), conv(16, 32, 3, 2), conv(32, 64, 3, 2)])
        self.lateral = nn.ModuleList(nn.Conv2d(c, width, 1) for c in (16, 32, 64))
        self.tower = nn.Sequential(conv(width, width), conv(width, width))
        self.scores, self.boxes = nn.Conv2d(width, 3 * classes, 1), nn.Conv2d(width, 12, 1)
        self.classes = classes

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Scores (N x anchors x classes) and boxes (N x anchors x 4)."""
        features = []
        for stage, lateral in zip(self.stages, self.lateral, strict=True):
            x = stage(x)
            features.append(lateral(x))
        for i in (1, 0):
            features[i] = features[i] + F.interpolate(features[i + 1], scale_factor=2.0)
        towers = [self.tower(f) for f in features]
        flat = [
            torch.cat([self._flat(head(t), k) for t in towers], 1)
            for head, k in ((self.scores, self.classes), (self.boxes, 4))
        ]
        return flat[0].sigmoid(), flat[1]

    @staticmethod
    def _flat(x: Tensor, k: int) -> Tensor:
        n, _, h, w = x.shape
        return x.view(n, -1, k, h, w).permute(0, 3, 4, 1, 2).reshape(n, -1, k)


class Keywords(nn.Module):
    """One-dimensional convolutions over a sound (as in wav2vec), group normalisation, GELU."""

    def __init__(self, width: int = 24) -> None:
        super().__init__()
        self.stem = nn.Conv1d(1, width, 10, 5)
        self.norm = nn.GroupNorm(width // 4, width)
        self.body = nn.Conv1d(width, 2 * width, 3, 2)
        self.instance = nn.InstanceNorm1d(2 * width, affine=True)
        self.head = nn.Linear(2 * width, 6)

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        x = F.gelu(self.norm(self.stem(x)))
        x = F.relu(self.instance(self.body(x)))
        answer: Tensor = self.head(x.mean(2))
        return answer


class Siamese(nn.Module):
    """Two images through the same weights; their difference is judged."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(conv(3, 16), conv(16, 32, 3, 2))
        self.head = nn.Linear(32, 2)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Logits."""
        return _answer(self.head, (self.body(a) - self.body(b)).abs())


class Classifier(nn.Sequential):
    """Layers, global average pooling, a linear head."""

    def __init__(self, *body: nn.Module, width: int) -> None:
        super().__init__(*body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 10))


def _answer(head: nn.Module, x: Tensor) -> Tensor:
    answer: Tensor = head(x.mean((2, 3)))
    return answer


WRITTEN_OUT = (
    Family("DenseNet", DenseNet, image(16)),
    Family(
        "ShuffleNetV2",
        lambda: Classifier(conv(3, 32), ShuffleUnit(32), ShuffleUnit(32), width=32),
        image(16),
    ),
    Family(
        "SE-ResNet",
        lambda: Classifier(conv(3, 32), SqueezeExcite(32), SqueezeExcite(32), width=32),
        image(16),
    ),
    Family(
        "ResNeXt",
        lambda: Classifier(conv(3, 32), conv(32, 64, 1), conv(64, 64, groups=8), width=64),
        image(16),
    ),
    Family(
        "Inception",
        lambda: Classifier(conv(3, 16), Inception(16, 12), Inception(48, 16), width=64),
        image(16),
    ),
    Family("U-Net", UNet, image(32)),
    Family("FPN detector", Detector, image(64)),
    Family("keyword spotting", Keywords, lambda: (torch.randn(1, 1, 800),)),
    Family("siamese", Siamese, lambda: (*image(16)(), *image(16)())),
)


class _Answers(nn.Module):
    """A model of the `transformers` library as a function of tensors."""

    def __init__(self, model: nn.Module, names: tuple[str, ...], fixed: Mapping[str, Any]) -> None:
        super().__init__()
        self.model, self.names, self.fixed = model, names, dict(fixed)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """What the model answers; hidden states are not among what people deploy."""
        found = self.model(**dict(zip(self.names, inputs, strict=True)), **self.fixed)
        return tuple(found[name] for name in ("logits", "pred_boxes") if name in found)


def from_configuration(
    name: str,
    model: str,
    configuration: str,
    inputs: Mapping[str, Callable[[], Tensor]],
    fixed: Mapping[str, Any] | None = None,
    **options: Any,
) -> Family:
    """A family of `transformers`: the class `model` with random weights under a configuration."""

    def build() -> nn.Module:
        import transformers

        config = getattr(transformers, configuration)(**options)
        built = getattr(transformers, model)._from_config(config, attn_implementation="eager")
        return _Answers(built, tuple(inputs), fixed or {})

    return Family(name, build, lambda: tuple(make() for make in inputs.values()))


def _pixels(size: int) -> Mapping[str, Callable[[], Tensor]]:
    return {"pixel_values": lambda: torch.randn(1, 3, size, size)}


_TOKENS: Mapping[str, Callable[[], Tensor]] = {
    "input_ids": lambda: torch.randint(0, 2, (1, 12)),
    "attention_mask": lambda: torch.ones(1, 12, dtype=torch.int64),
}
_SMALL: Mapping[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
}
_TEXT = {**_SMALL, "vocab_size": 40, "max_position_embeddings": 16}
_CAUSAL = {"use_cache": False}

CONFIGURED = (
    from_configuration(
        "ResNet", "ResNetForImageClassification", "ResNetConfig", _pixels(64),
        embedding_size=16, hidden_sizes=[32, 64], depths=[2, 2], layer_type="bottleneck",
    ),
    from_configuration(
        "RegNet", "RegNetForImageClassification", "RegNetConfig", _pixels(64),
        embedding_size=16, hidden_sizes=[32, 64], depths=[2, 2], groups_width=8, layer_type="y",
    ),
    from_configuration(
        "MobileNetV1", "MobileNetV1ForImageClassification", "MobileNetV1Config", _pixels(64),
        depth_multiplier=0.25, image_size=64,
    ),
    from_configuration(
        "MobileNetV2", "MobileNetV2ForImageClassification", "MobileNetV2Config", _pixels(64),
        depth_multiplier=0.35, image_size=64,
    ),
    from_configuration(
        "EfficientNet", "EfficientNetForImageClassification", "EfficientNetConfig", _pixels(64),
        image_size=64, width_coefficient=0.25, depth_coefficient=0.5, hidden_dim=320,
    ),
    from_configuration(
        "ConvNeXt", "ConvNextForImageClassification", "ConvNextConfig", _pixels(64),
        hidden_sizes=[16, 32], depths=[1, 2], num_stages=2,
    ),
    from_configuration(
        "ConvNeXtV2", "ConvNextV2ForImageClassification", "ConvNextV2Config", _pixels(64),
        hidden_sizes=[16, 32], depths=[1, 2], num_stages=2,
    ),
    from_configuration(
        "MobileViT", "MobileViTForImageClassification", "MobileViTConfig", _pixels(64),
        image_size=64, hidden_sizes=[16, 24, 32], neck_hidden_sizes=[8, 8, 16, 16, 24, 32, 48],
    ),
    from_configuration(
        "ViT", "ViTForImageClassification", "ViTConfig", _pixels(32),
        image_size=32, patch_size=8, **_SMALL,
    ),
    from_configuration(
        "DeiT", "DeiTForImageClassification", "DeiTConfig", _pixels(32),
        image_size=32, patch_size=8, **_SMALL,
    ),
    from_configuration(
        "Swin", "SwinForImageClassification", "SwinConfig", _pixels(32),
        image_size=32, patch_size=2, embed_dim=16, depths=[2, 2], num_heads=[2, 4], window_size=4,
    ),
    from_configuration(
        "SegFormer", "SegformerForSemanticSegmentation", "SegformerConfig", _pixels(64),
        hidden_sizes=[16, 32], depths=[1, 1], num_attention_heads=[1, 2], num_encoder_blocks=2,
        sr_ratios=[4, 2], patch_sizes=[7, 3], strides=[4, 2], mlp_ratios=[2, 2],
        decoder_hidden_size=32,
    ),
    from_configuration(
        "YOLOS", "YolosForObjectDetection", "YolosConfig", _pixels(32),
        image_size=[32, 32], patch_size=8, num_detection_tokens=5, **_SMALL,
    ),
    from_configuration(
        "BERT", "BertForSequenceClassification", "BertConfig", _TOKENS, **_TEXT,
    ),
    from_configuration(
        "DistilBERT", "DistilBertForSequenceClassification", "DistilBertConfig", _TOKENS,
        dim=32, n_layers=2, n_heads=4, hidden_dim=64, vocab_size=40, max_position_embeddings=16,
    ),
    from_configuration(
        "Llama (GQA)", "LlamaForCausalLM", "LlamaConfig", _TOKENS, _CAUSAL,
        num_key_value_heads=2, **_TEXT,
    ),
    from_configuration(
        "Qwen2 (GQA)", "Qwen2ForCausalLM", "Qwen2Config", _TOKENS, _CAUSAL,
        num_key_value_heads=2, **_TEXT,
    ),
    from_configuration(
        "wav2vec2", "Wav2Vec2ForCTC", "Wav2Vec2Config",
        {"input_values": lambda: torch.randn(1, 1600)},
        conv_dim=(16, 16, 16), conv_kernel=(10, 3, 3), conv_stride=(5, 2, 2),
        num_feat_extract_layers=3, num_conv_pos_embeddings=8, num_conv_pos_embedding_groups=4,
        **{**_SMALL, "vocab_size": 20},
    ),
    from_configuration(
        "Whisper encoder", "WhisperForAudioClassification", "WhisperConfig",
        {"input_features": lambda: torch.randn(1, 16, 64)},
        d_model=32, encoder_layers=2, encoder_attention_heads=4, encoder_ffn_dim=64,
        num_mel_bins=16, max_source_positions=32, decoder_layers=1, decoder_attention_heads=4,
        decoder_ffn_dim=32, vocab_size=60, pad_token_id=0,
    ),
)  # fmt: skip
