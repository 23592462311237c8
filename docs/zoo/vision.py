"""Networks for images of torchvision, timm and Transformers."""

from __future__ import annotations

import timm
import transformers
from torch import nn
from torchvision import models
from torchvision.models.convnext import CNBlockConfig
from torchvision.models.vision_transformer import VisionTransformer

from zoo.common import Entry, images


def _vgg() -> nn.Module:
    network = models.vgg11_bn(num_classes=5)
    network.classifier = nn.Sequential(nn.Linear(512 * 49, 32), nn.ReLU(), nn.Linear(32, 5))  # 120M weights less
    return network


def _vit() -> nn.Module:
    return VisionTransformer(32, 8, num_layers=12, num_heads=3, hidden_dim=48, mlp_dim=96, num_classes=5)


def _swin() -> nn.Module:
    return models.SwinTransformer([2, 2], 24, [2, 2, 2], [2, 3, 4], [4, 4], num_classes=5)


def _convnext() -> nn.Module:
    settings = [CNBlockConfig(16, 32, 2), CNBlockConfig(32, 48, 2), CNBlockConfig(48, None, 2)]
    return models.ConvNeXt(settings, num_classes=5)


def _timm(name: str, **settings: object) -> nn.Module:
    return timm.create_model(name, pretrained=False, num_classes=5, **settings)  # pyright: ignore[reportArgumentType]


def _mixer() -> nn.Module:
    return timm.models.MlpMixer(num_classes=5, img_size=32, patch_size=8, num_blocks=4, embed_dim=48)


def _hugging_face() -> nn.Module:
    settings = transformers.ViTConfig(
        hidden_size=48,
        num_hidden_layers=3,
        num_attention_heads=3,
        intermediate_size=96,
        image_size=32,
        patch_size=8,
        num_labels=5,
    )
    return transformers.ViTForImageClassification(settings)


_OWN = "torchvision"
_SMALL = {"img_size": 32, "patch_size": 8, "embed_dim": 48, "num_heads": 3}
VISION = (
    Entry("resnet18", _OWN, lambda: models.resnet18(num_classes=5), images(64)),
    Entry("vgg11_bn", _OWN, _vgg, images(32)),
    Entry("convnext", _OWN, _convnext, images(64)),
    Entry("efficientnet_b0", _OWN, lambda: models.efficientnet_b0(num_classes=5), images(64)),
    Entry("mobilenet_v3_small", _OWN, lambda: models.mobilenet_v3_small(num_classes=5), images(64)),
    Entry("vision_transformer", _OWN, _vit, images(32)),
    Entry("swin_transformer", _OWN, _swin, images(32)),
    Entry("vit_tiny", "timm", lambda: _timm("vit_tiny_patch16_224", **_SMALL), images(32)),
    Entry("deit_tiny", "timm", lambda: _timm("deit_tiny_patch16_224", **_SMALL), images(32)),
    Entry("MlpMixer", "timm", _mixer, images(32)),
    Entry("convnextv2_atto", "timm", lambda: _timm("convnextv2_atto"), images(64)),
    Entry("resnet10t", "timm", lambda: _timm("resnet10t"), images(64)),
    Entry("ViTForImageClassification", "transformers", _hugging_face, images(32, positions="first")),
)
"""All look at images and return one logit a token."""
