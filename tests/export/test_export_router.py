"""A package's router: which prototypes it gets, and what is said of adapters without one."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from uir.export.cli import main as export
from uir.export.package_writer import ExportRouter
from uir.export.router import choose_prototypes, load_router, save_prototype, save_router
from uir.runtime import Package, Restorer
from uir.runtime.decision import CLEAN_NAME
from uir.runtime.errors import AdapterError, BaseModelError, MissingFileError
from uir.runtime.router import Router

pytestmark = pytest.mark.usefixtures("use_zoo")

NEW = np.array([0.6, 0.8, 0], np.float32)


@pytest.fixture
def fog(zoo: Path, tmp_path: Path) -> Path:
    """An adapter that the zoo does not have."""
    return Path(shutil.copytree(zoo / "adapters" / "haze", tmp_path / "fog"))


@pytest.fixture
def router(colour_router: Path) -> ExportRouter:
    return load_router(colour_router)


def test_a_package_has_the_prototypes_of_its_adapters_alone(colour_router: Path, tmp_path: Path) -> None:
    path = tmp_path / "restore.uir"
    export(["--adapters", "rain,haze", "--router", str(colour_router), "-o", str(path)])
    prototypes = safetensors.numpy.load_file(path / "prototypes.safetensors")
    assert prototypes.keys() == {"rain", "haze", CLEAN_NAME}
    assert (path / "router.onnx").read_bytes() == (colour_router / "router.onnx").read_bytes()
    assert Router(Package(path)).adapters == ["haze", "rain"]
    Package(path).verify()
    assert Restorer(path)(np.zeros((16, 16, 3), np.uint8)).shape == (16, 16, 3)


def test_without_a_router_in_the_zoo_there_is_none_in_the_package(
    zoo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert not (zoo / "router").exists()
    export(["--adapters", "rain", "-o", str(tmp_path / "restore.uir")])
    assert Package(tmp_path / "restore.uir").manifest.router is None
    assert capsys.readouterr().err == ""


def test_an_adapter_without_prototype_is_named(
    fog: Path, colour_router: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "restore.uir"
    export(["--adapters", f"rain,{fog}", "--router", str(colour_router), "-o", str(path)])
    assert Router(Package(path)).adapters == ["rain"]
    assert "uir-export: fog has no prototype, so automatic choice cannot pick it" in capsys.readouterr().err


def test_a_package_where_no_adapter_has_a_prototype_has_no_router(
    fog: Path, colour_router: Path, tmp_path: Path
) -> None:
    export(["--adapters", str(fog), "--router", str(colour_router), "-o", str(tmp_path / "fog.uir")])
    assert Package(tmp_path / "fog.uir").manifest.router is None


def test_an_adapters_own_prototype_is_taken(fog: Path, router: ExportRouter, zoo: Path) -> None:
    save_prototype(fog, NEW, router)
    chosen, without = choose_prototypes(router, {"mist": fog, "wet": zoo / "adapters" / "rain"})
    assert chosen is not None
    assert without == {}
    np.testing.assert_array_equal(chosen.prototypes["mist"], NEW)
    np.testing.assert_array_equal(chosen.prototypes["wet"], router.prototypes["rain"])


def test_a_prototype_for_another_router_is_not(fog: Path, router: ExportRouter) -> None:
    other = ExportRouter(router.model + b"\0", router.settings, router.prototypes)
    save_prototype(fog, NEW, other)
    chosen, without = choose_prototypes(router, {"fog": fog})
    assert chosen is None
    assert without == {"fog": "has a prototype for another router"}
    with pytest.raises(AdapterError, match=r"prototype\.safetensors: holds no prototype of this router"):
        save_prototype(fog, NEW[:2], router)
        choose_prototypes(router, {"fog": fog})
    (fog / "prototype.safetensors").write_bytes(b"nothing")
    with pytest.raises(AdapterError, match=r"prototype\.safetensors: not a whole safetensors file"):
        choose_prototypes(router, {"fog": fog})


def test_no_adapter_may_pass_for_the_clean_picture(fog: Path, router: ExportRouter) -> None:
    save_prototype(fog, NEW, router)
    assert choose_prototypes(router, {CLEAN_NAME: fog}) == (None, {CLEAN_NAME: "is called clean"})


def test_routers_that_are_not_whole(colour_router: Path, router: ExportRouter, tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match=r"not a router's folder: it has no router\.onnx"):
        load_router(tmp_path)
    shutil.copytree(colour_router, tmp_path, dirs_exist_ok=True)
    assert load_router(tmp_path).digest == router.digest
    save_router(tmp_path, ExportRouter(router.model, router.settings, {"rain": NEW}))
    with pytest.raises(BaseModelError, match=r"not the prototypes of router\.onnx beside it"):
        load_router(tmp_path)
    (tmp_path / "router.json").write_text('{"threshold": 2}')
    with pytest.raises(BaseModelError, match=r"router\.json: not the settings of a router"):
        load_router(tmp_path)
    (tmp_path / "router.onnx").write_bytes(b"nothing")
    with pytest.raises(BaseModelError, match=r"router\.onnx: damaged"):
        load_router(tmp_path)
