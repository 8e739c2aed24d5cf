"""Small teachers with random weights, on disk as transformers and open_clip write them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from edgedistill.base.quiet import quiet

NAMES = tuple("0123456789")
MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)


def saved(folder: Path, kind: str = "vit", names: tuple[str, ...] = NAMES, processor: Any = None) -> Any:
    """A small classifier in `folder`, and itself."""
    import transformers

    labels = {"id2label": dict(enumerate(names)), "label2id": {name: index for index, name in enumerate(names)}}
    config = {
        "vit": lambda: transformers.ViTConfig(
            hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, image_size=32, **labels
        ),
        "convnext": lambda: transformers.ConvNextConfig(hidden_sizes=[8, 8, 16, 24], depths=[1] * 4, **labels),
        "swin": lambda: transformers.SwinConfig(
            embed_dim=16, depths=[1, 1], num_heads=[2, 2], window_size=4, image_size=32, patch_size=4, **labels
        ),
        "dinov2": lambda: transformers.Dinov2Config(
            hidden_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=32, patch_size=8, **labels
        ),
    }[kind]()
    if kind == "vit":
        config.patch_size = 8
    with quiet(), torch.random.fork_rng():
        torch.manual_seed(3)
        model = transformers.AutoModelForImageClassification.from_config(config).eval()
        for parameter in model.parameters():  # biases of zero and heads of 0.02 would tell little
            torch.nn.init.normal_(parameter, std=0.2)
        model.save_pretrained(folder)
    said = {"size": {"height": 32, "width": 32}, "do_normalize": True, "image_mean": MEAN, "image_std": STD}
    (folder / "preprocessor_config.json").write_text(json.dumps(said if processor is None else processor))
    return model


SMALL = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 8, "vocab_size": 64, "width": 16, "heads": 2, "layers": 1},
}


def saved_clip(folder: Path, model: dict[str, Any] = SMALL) -> Any:
    import open_clip

    folder.mkdir()
    document = {"model_cfg": model, "preprocess_cfg": {"mean": MEAN, "std": STD, "size": 32}}
    (folder / "open_clip_config.json").write_text(json.dumps(document))
    with quiet(), torch.random.fork_rng():
        torch.manual_seed(4)
        clip = open_clip.create_model(f"local-dir:{folder}", load_weights=False).eval()
    save_file(clip.state_dict(), folder / "open_clip_model.safetensors")
    return clip


def vectors(path: Path, rows: int = 10, width: int = 16) -> np.ndarray:
    found = np.random.default_rng(0).normal(size=(rows, width)).astype(np.float32)
    np.save(path, found)
    return found
