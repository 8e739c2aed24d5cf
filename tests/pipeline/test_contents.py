"""What a package tells of its build: settings, without where a user keeps files."""

from __future__ import annotations

import json
from pathlib import Path

from edgedistill.documents.build_file import BuildConfig
from edgedistill.documents.fields import read_in
from edgedistill.pipeline.contents import settings_of


def test_settings_are_those_that_are_not_the_defaults_and_no_path_is_whole(tmp_path: Path) -> None:
    content = {
        "budget": "20%",
        "target": "./board.toml",
        "teacher": {"model": f"onnx:{tmp_path}/teacher.onnx", "checkpoint": "weights.safetensors"},
        "data": {"source": "folder", "path": "pictures"},
        "export": {"formats": ["onnx"]},
        "space": {"models": ["timm:resnet18"], "checkpoints": {"timm:resnet18": "start.safetensors"}},
    }
    config = BuildConfig.model_validate(content, context=read_in(tmp_path))
    settings = settings_of(config)
    assert settings["target"] == "board.toml"
    assert settings["teacher"] == {"model": "onnx:teacher.onnx", "checkpoint": "weights.safetensors"}
    assert settings["data"] == {"source": "folder", "path": "pictures"}
    assert settings["export"] == {"formats": ["onnx"]}
    assert settings["space"] == {"models": ["timm:resnet18"], "checkpoints": {"timm:resnet18": "start.safetensors"}}
    assert set(settings) == {*content}
    assert str(tmp_path) not in json.dumps(settings)
