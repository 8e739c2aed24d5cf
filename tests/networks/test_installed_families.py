"""Families of installed packages: found by their entry point, loaded when asked for, named where they are broken."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from installed_packages import Install, installing

from edgedistill.base.errors import InputError
from edgedistill.base.source_code import code_version
from edgedistill.documents.build_file import SpaceConfig
from edgedistill.documents.specs import Contract, Format, Precision, StudentSpec, Target
from edgedistill.networks.build import build_student
from edgedistill.networks.families.registry import code_of, families, family
from edgedistill.networks.space import enumerate_space

SOUND = """
from dataclasses import replace
from edgedistill.networks.families.resnet import FAMILY as RESNET
FAMILY = replace(RESNET, name="acmenet", title="Acme's", widths=(0.25,), depths=(0.5,), resolutions=(8, 16))
"""


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    yield from installing(tmp_path, monkeypatch)


def test_an_installed_family_is_one_like_the_others(install: Install) -> None:
    install("acme", SOUND, "acmenet")
    found, resnet = families(["acmenet", "resnet"])
    assert (found.title, resnet.name) == ("Acme's", "resnet")
    target = Target(
        name="test",
        title="Test",
        runtime=Format.ONNX,
        formats=(Format.ONNX,),
        precisions=(Precision.FP32,),
        transport="local",
    )
    candidates = enumerate_space(SpaceConfig(families=("acmenet",)), 10, 8, target).candidates
    assert [c.spec.label for c in candidates] == ["acmenet w0.25 d0.5 @8", "acmenet w0.25 d0.5 @16"]
    contract = Contract(resolution=8, mean=(1.0, 1.0, 1.0), std=(1.0, 1.0, 1.0), labels=("a", "b"))
    assert build_student(candidates[0].spec, contract).network is not None


def test_its_code_belongs_into_the_keys_of_stages(install: Install) -> None:
    install("acme", SOUND, "acmenet")
    assert code_of("resnet") == ()
    assert code_of("acmenet") == ("acme_students",)
    assert len(code_version("acme_students")) == 64


def test_nothing_is_loaded_before_it_is_asked_for(install: Install) -> None:
    install("acme", "raise RuntimeError('loaded')", "acmenet")
    assert [f.name for f in families(["resnet"])] == ["resnet"]
    assert "acme_students" not in sys.modules
    with pytest.raises(InputError, match="did you mean acmenet"):
        family("acmenett")
    assert "acme_students" not in sys.modules


@pytest.mark.parametrize(
    ("code", "name", "told"),
    [
        ("import not_there", "acmenet", "cannot be loaded: ModuleNotFoundError: No module named 'not_there'"),
        ("1/0", "acmenet", "cannot be loaded: ZeroDivisionError: division by zero"),
        ("", "acmenet", "cannot be loaded: AttributeError: .* has no attribute 'FAMILY'"),
        ("FAMILY = 'acmenet'", "acmenet", "acme_students:FAMILY is no Family but str"),
        (SOUND, "other", "acme_students:FAMILY calls itself 'acmenet'"),
    ],
)
def test_a_broken_one_is_named_with_its_distribution(install: Install, code: str, name: str, told: str) -> None:
    install("acme", code, name)
    with pytest.raises(InputError, match=f"family '{name}' of acme 1.2: .*{told}.*uninstall that package"):
        families(["resnet", name])


def test_two_packages_or_one_and_edgedistill_clash(install: Install) -> None:
    install("acme", SOUND, "acmenet", "resnet")
    install("beta", SOUND, "acmenet")
    with pytest.raises(InputError) as caught:
        families(["acmenet", "resnet", "mobileone"])
    assert [problem.what for problem in caught.value.problems] == [
        "several packages provide a family 'acmenet': acme 1.2, beta 1.2",
        "several packages provide a family 'resnet': edgedistill itself, acme 1.2",
    ]


def test_a_spec_of_a_family_that_is_gone_says_so(install: Install) -> None:
    spec = StudentSpec(family="acmenet", width=0.25, depth=0.5, resolution=8)
    with pytest.raises(InputError, match="unknown family 'acmenet'"):
        build_student(spec, Contract(resolution=8, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), labels=("a", "b")))
