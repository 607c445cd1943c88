"""Families from configurations of the `transformers` library (a development extra)."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from hwprune.testing.families import Family


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
