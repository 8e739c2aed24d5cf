"""The names of timm's models are read off its source: that and timm itself must say the same."""

from __future__ import annotations

import sys

import pytest
from timm import list_models
from timm.models import is_model

from edgedistill.base.errors import InputError
from edgedistill.networks import timm_names
from edgedistill.networks.timm_names import require_model


@pytest.fixture
def not_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a process that has not imported timm."""
    monkeypatch.delitem(sys.modules, "timm")


def test_the_source_defines_what_timm_lists() -> None:
    assert set(timm_names._DEFINED.findall(timm_names._source())) == set(list_models())


@pytest.mark.usefixtures("not_imported")
@pytest.mark.parametrize("name", ["resnet18", "resnet18.a1_in1k", "test_vit", "convnext_tiny_in22k"])
def test_a_model_that_there_is(name: str) -> None:
    """A deprecated name too, which the source defines nowhere: timm is asked."""
    require_model(name, "[teacher] model")


@pytest.mark.usefixtures("not_imported")
def test_a_tag_that_the_source_has_is_known_without_timm() -> None:
    require_model("resnet18.a1_in1k", "[teacher] model")
    assert "timm" not in sys.modules


@pytest.mark.usefixtures("not_imported")
@pytest.mark.parametrize(
    ("name", "what", "near", "asked"),
    [
        ("resnet_18.a1_in1k", "timm has no model 'resnet_18'", "resnet18", False),
        ("resnet18.b9_in1k", "resnet18 has no weights tagged 'b9_in1k'", "resnet18.a1_in1k", True),
        ("test_resnet.", "test_resnet has no weights tagged ''", "test_resnet.r160_in1k", True),
    ],
)
def test_what_there_is_not_gets_what_there_is(name: str, what: str, near: str, asked: bool) -> None:
    """timm is `asked` for tags alone."""
    with pytest.raises(InputError) as caught:
        require_model(name, "[space] models")
    assert caught.value.message == f"[space] models: {what}"
    assert near in caught.value.fix
    assert ("timm" in sys.modules) is asked


def test_the_beginning_of_names_gets_those() -> None:
    with pytest.raises(InputError) as caught:
        require_model("vit_tiny", "[teacher] model")
    assert caught.value.fix.startswith("did you mean vit_tiny_")


@pytest.mark.parametrize("name", ["resnet", "efficientnet", "", "hf-hub:timm/resnet18", "head"])
def test_a_word_of_the_source_is_no_model(name: str) -> None:
    assert not is_model(name)
    with pytest.raises(InputError):
        require_model(name, "[space] models")


@pytest.mark.usefixtures("not_imported")
def test_where_the_source_is_not_found_timm_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timm_names, "_source", lambda: "")
    require_model("resnet18", "[teacher] model")
    with pytest.raises(InputError, match="no model 'resnet_18'"):
        require_model("resnet_18", "[teacher] model")
