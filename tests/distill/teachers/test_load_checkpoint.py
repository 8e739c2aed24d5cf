from __future__ import annotations

import argparse
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from edgedistill.base.errors import InputError
from edgedistill.distill.teachers.checkpoint import load_checkpoint, read_state
from edgedistill.distill.teachers.checkpoint_file import require_whole


def network(classes: int = 3) -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, classes))


def state() -> dict[str, torch.Tensor]:
    return {name: torch.full_like(tensor, 2) for name, tensor in network().state_dict().items()}


def assert_loaded(path: Path) -> None:
    loaded = network()
    load_checkpoint(loaded, path)
    assert all(torch.equal(tensor, state()[name]) for name, tensor in loaded.state_dict().items())


def test_safetensors(tmp_path: Path) -> None:
    save_file(state(), tmp_path / "weights.safetensors")
    assert_loaded(tmp_path / "weights.safetensors")


@pytest.mark.parametrize(
    "wrap",
    [
        lambda s: s,
        lambda s: {"state_dict": s, "epoch": 3, "args": argparse.Namespace(lr=0.1)},
        lambda s: {"model": s, "optimizer": {"state": {}, "param_groups": []}},
        lambda s: {"model_state": s},
        lambda s: {"model": {"state_dict": s}},
        lambda s: {"state_dict": {"0.weight": torch.zeros(1)}, "state_dict_ema": s},
        lambda s: {f"module.{name}": tensor for name, tensor in s.items()},
        lambda s: {"state_dict": {f"_orig_mod.module.{name}": tensor for name, tensor in s.items()}},
    ],
    ids=["plain", "state_dict", "model", "model_state", "nested", "ema first", "parallel", "compiled"],
)
def test_torch_checkpoints(wrap: Any, tmp_path: Path) -> None:
    torch.save(wrap(state()), tmp_path / "weights.pt")
    assert_loaded(tmp_path / "weights.pt")


def test_torch_checkpoint_in_the_old_format(tmp_path: Path) -> None:
    torch.save(state(), tmp_path / "weights.pth", _use_new_zipfile_serialization=False)
    assert_loaded(tmp_path / "weights.pth")


def test_half_precision_and_missing_batch_counts_are_fine(tmp_path: Path) -> None:
    save_file(
        {n: t.half() for n, t in state().items() if not n.endswith("num_batches_tracked")}, tmp_path / "w.safetensors"
    )
    loaded = network()
    load_checkpoint(loaded, tmp_path / "w.safetensors")
    assert loaded[0].weight.dtype == torch.float32
    assert float(loaded[0].weight.detach().max()) == 2


def test_every_key_that_differs_is_listed_with_both_shapes(tmp_path: Path) -> None:
    given = state()
    given["3.weight"] = torch.zeros(1000, 16)
    given["3.bias"] = torch.zeros(1000)
    given["extra.weight"] = torch.zeros(5)
    del given["0.bias"]
    save_file(given, tmp_path / "w.safetensors")
    with pytest.raises(InputError) as caught:
        load_checkpoint(network(), tmp_path / "w.safetensors")
    listed = {problem.where: problem.what for problem in caught.value.problems}
    assert listed.keys() == {"3.weight", "3.bias", "extra.weight", "0.bias"}
    assert "[1000, 16]" in listed["3.weight"]
    assert "[3, 16]" in listed["3.weight"]
    assert listed["0.bias"].startswith("missing")
    assert "unknown to the model" in listed["extra.weight"]
    assert "4 of 10 keys differ" in caught.value.message


class Malicious:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.system, (f"touch {self.path}",))


@pytest.mark.parametrize("zipped", [True, False])
def test_a_malicious_pickle_is_refused_and_not_run(zipped: bool, tmp_path: Path) -> None:
    content = {"state_dict": state(), "extra": Malicious(tmp_path / "owned")}
    torch.save(content, tmp_path / "evil.pt", _use_new_zipfile_serialization=zipped)
    with pytest.raises(InputError, match=r"would run \w+\.system; it is not opened") as caught:
        read_state(tmp_path / "evil.pt")
    assert "safetensors" in caught.value.fix
    assert not (tmp_path / "owned").exists()
    torch.load(tmp_path / "evil.pt", weights_only=False)
    assert (tmp_path / "owned").exists(), "the file would have run code, had it been unpickled"


def test_a_bare_pickle_is_refused_and_not_run(tmp_path: Path) -> None:
    (tmp_path / "evil.pkl").write_bytes(pickle.dumps(Malicious(tmp_path / "owned")))
    with pytest.raises(InputError) as caught:
        read_state(tmp_path / "evil.pkl")
    assert "weights_only" not in str(caught.value), "torch's advice is to run the code"
    assert not (tmp_path / "owned").exists()


def test_a_whole_pickled_module_is_refused(tmp_path: Path) -> None:
    torch.save(network(), tmp_path / "module.pt")
    with pytest.raises(InputError, match="holds more than weights"):
        read_state(tmp_path / "module.pt")


@pytest.mark.parametrize(
    "content", [b"", b"PK", b"\x80\x02", b"hello world, this is no checkpoint", bytes(range(256)) * 8]
)
def test_damaged_files(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "weights.pt").write_bytes(content)
    with pytest.raises(InputError, match=r"weights\.pt"):
        read_state(tmp_path / "weights.pt")


@pytest.mark.parametrize("kind", ["zip", "old", "safetensors"])
def test_truncated_files(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "weights"
    if kind == "safetensors":
        save_file(state(), path)
    else:
        torch.save(state(), path, _use_new_zipfile_serialization=kind == "zip")
    whole = path.read_bytes()
    for share in (0.05, 0.3, 0.6, 0.95):
        path.write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(InputError):
            load_checkpoint(network(), path)


@pytest.mark.parametrize("content", [{}, {"epoch": 3}, [1, 2], {"state_dict": {}}, {"a": torch.zeros(2), "b": 3}])
def test_checkpoints_without_a_state_dict(content: Any, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "weights.pt")
    with pytest.raises(InputError, match=r"no (plain )?state dict"):
        read_state(tmp_path / "weights.pt")


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        read_state(tmp_path / "none.pt")
    with pytest.raises(InputError, match="is a folder"):
        read_state(tmp_path)


def test_what_kind_of_file_a_checkpoint_is_is_told_without_reading_it(tmp_path: Path) -> None:
    save_file(state(), tmp_path / "w.safetensors")
    torch.save(state(), tmp_path / "new.pt")
    torch.save(state(), tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    names = ("w.safetensors", "new.pt", "old.pt")
    assert [require_whole(tmp_path / name) for name in names] == ["safetensors", "torch", "torch"]
    for name in names[:2]:
        path = tmp_path / name
        path.write_bytes(path.read_bytes()[:-200])
        with pytest.raises(InputError, match=rf"{name} is (damaged|neither)") as caught:
            require_whole(path)
        assert "copy it again" in caught.value.fix
