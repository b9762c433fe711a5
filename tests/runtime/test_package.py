"""Packages that are missing, damaged, old, new or hostile: each is refused in words that name the file."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import safetensors.numpy
from numpy.typing import NDArray

from uir.runtime.composition import Composition
from uir.runtime.errors import BackendError, MissingFileError, PackageError, UirError, UsageError
from uir.runtime.factors import Adapter, DenseDelta, Factors
from uir.runtime.manifest import SCHEMA
from uir.runtime.manifest_file import MANIFEST
from uir.runtime.merge import merge_package
from uir.runtime.package import Package
from uir.runtime.restorer import Restorer
from uir.runtime.updates import decode_updates, encode_updates

EditManifest = Callable[[Callable[[dict[str, Any]], None]], None]
ReplaceFile = Callable[[str, bytes], None]
RAIN = "adapters/rain.safetensors"
INT8 = "compositions/rain/int8.onnx"


def test_a_package_holds_what_its_manifest_says(shared_package: Path) -> None:
    package = Package(shared_package)
    manifest = package.manifest
    assert manifest.schema == SCHEMA
    assert sorted(manifest.adapters) == ["haze", "noise", "rain"]
    assert manifest.default == "haze=0.3333,noise=0.3333,rain=0.3333"
    assert manifest.base.parameters == sum(weight.size for weight in package.base_weights.values())
    there = {file.relative_to(shared_package).as_posix() for file in shared_package.rglob("*") if file.is_file()}
    assert there == {MANIFEST, *manifest.files}
    package.verify()


def test_a_missing_package_is_answered_with_how_to_make_it(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match=r"restore\.uir: no such package; make it with: uir-export"):
        Package(tmp_path / "restore.uir")


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_what_is_no_package_is_said(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "restore.uir"
    path.mkdir() if kind == "folder" else path.write_bytes(b"x")
    with pytest.raises(PackageError, match=r"not a package: it has no manifest\.json"):
        Package(path)


@pytest.mark.parametrize(
    "text", [b"", b"{", b"null", b"[]", b'{"schema": "1"}', b"\xff\xfe", b'{"schema": 1, "x": ' + b"[" * 10**6]
)
def test_a_damaged_manifest_is_refused(package: Path, text: bytes) -> None:
    (package / MANIFEST).write_bytes(text)
    with pytest.raises(PackageError, match=r"manifest\.json: damaged"):
        Package(package)


@pytest.mark.parametrize("field", ["base", "graphs", "adapters", "compositions", "default", "frame", "files"])
def test_a_missing_field_is_named(package: Path, edit_manifest: EditManifest, field: str) -> None:
    edit_manifest(lambda manifest: manifest.pop(field))
    with pytest.raises(PackageError, match=f"`{field}`"):
        Package(package)


@pytest.mark.parametrize(
    ("field", "value"),
    [("multiple_of", 0), ("overlap", -4), ("overlap", 25), ("bytes_per_pixel", 0), ("exact_tiles", "yes")],
)
def test_an_impossible_frame_contract_is_refused(
    package: Path, edit_manifest: EditManifest, field: str, value: object
) -> None:
    edit_manifest(lambda manifest: manifest["frame"].update({field: value}))
    with pytest.raises(PackageError, match=field):
        Package(package)


@pytest.mark.parametrize(("schema", "remedy"), [(SCHEMA + 1, "upgrade uir-edge"), (SCHEMA - 1, "export it again")])
def test_another_schema_is_refused_with_the_remedy(
    package: Path, edit_manifest: EditManifest, schema: int, remedy: str
) -> None:
    def change(manifest: dict[str, Any]) -> None:
        manifest["schema"] = schema
        del manifest["frame"]  # another schema has other fields: they are not what is complained of

    edit_manifest(change)
    with pytest.raises(PackageError, match=rf"schema {schema}, and this version reads schema {SCHEMA}; .*{remedy}"):
        Package(package)


@pytest.mark.parametrize("name", ["base.safetensors", "graphs/fp32.onnx", RAIN])
def test_a_changed_byte_is_found(package: Path, name: str) -> None:
    content = bytearray((package / name).read_bytes())
    content[len(content) // 2] ^= 1
    (package / name).write_bytes(content)
    with pytest.raises(PackageError, match=rf"{re.escape(name)}: is not the file that was exported") as caught:
        Restorer(package, "rain")
    assert str(caught.value).count("export the package again") == 1
    with pytest.raises(PackageError, match=re.escape(name)):
        Package(package).verify()


def test_a_mix_of_adapters_in_use_needs_the_disk_no_more(
    package: Path, shared_package: Path, frame: NDArray[np.uint8]
) -> None:
    restorer = Restorer(package, "rain")
    restorer.compose("haze")
    shutil.rmtree(package)
    mix = "haze=0.4,rain=0.6"
    restorer.compose(mix)
    assert np.array_equal(restorer(frame), Restorer(shared_package, mix)(frame))
    with pytest.raises(PackageError, match=r"noise\.safetensors: cannot be read: No such file"):
        restorer.compose("haze,noise")
    assert restorer.composition.key == mix


def test_verifying_reads_the_disk_again(package: Path) -> None:
    opened = Package(package)
    opened.graph()
    opened.adapter("rain")
    (package / RAIN).write_bytes(b"")
    assert opened.adapter("rain").updates
    with pytest.raises(PackageError, match=RAIN):
        opened.verify()


@pytest.mark.parametrize("name", ["base.safetensors", "graphs/fp32.onnx", RAIN])
def test_a_missing_file_is_named(package: Path, name: str) -> None:
    (package / name).unlink()
    with pytest.raises(PackageError, match=rf"{re.escape(name)}: cannot be read: No such file"):
        Restorer(package, "rain")


def test_other_adapters_still_work_where_one_is_damaged(package: Path) -> None:
    (package / RAIN).write_bytes(b"")
    restorer = Restorer(package, "haze")
    with pytest.raises(PackageError, match="rain"):
        restorer.compose("rain")
    assert restorer.composition.key == "haze"


@pytest.mark.parametrize("name", ["../outside", "a/../../outside", "/etc/hostname", "..\\outside", "a\0b"])
def test_a_path_that_leaves_the_package_is_refused(package: Path, edit_manifest: EditManifest, name: str) -> None:
    (package.parent / "outside").write_bytes(b"x")
    edit_manifest(lambda manifest: manifest["files"].update({name: {"size": 1, "sha256": "0" * 64}}))
    with pytest.raises(PackageError, match="outside the package"):
        Package(package)


def test_a_link_that_leaves_the_package_is_refused(package: Path) -> None:
    outside = package.parent / "outside"
    outside.write_bytes((package / RAIN).read_bytes())
    (package / RAIN).unlink()
    (package / RAIN).symlink_to(outside)
    with pytest.raises(PackageError, match="outside the package"):
        Package(package)


def test_a_folder_that_is_a_link_out_of_the_package_is_refused_even_after_opening(package: Path) -> None:
    opened = Package(package)
    (package / "adapters").rename(package.parent / "adapters")
    (package / "adapters").symlink_to(package.parent / "adapters")
    with pytest.raises(PackageError, match="outside the package"):
        opened.adapter("rain")


def test_links_inside_the_package_and_to_it_are_followed(package: Path) -> None:
    (package / "adapters").rename(package / "loras")
    (package / "adapters").symlink_to("loras")
    link = package.with_name("link.uir")
    link.symlink_to(package)
    Package(link).verify()


def test_a_link_to_itself_is_refused(package: Path) -> None:
    (package / RAIN).unlink()
    (package / RAIN).symlink_to("rain.safetensors")
    with pytest.raises(PackageError, match=r"rain\.safetensors"):
        Package(package).adapter("rain")


def test_a_pipe_is_not_waited_for(package: Path) -> None:
    (package / RAIN).unlink()
    os.mkfifo(package / RAIN)
    with pytest.raises(PackageError, match="is not a file"):
        Package(package).adapter("rain")


def test_a_file_without_a_hash_is_refused(package: Path, edit_manifest: EditManifest) -> None:
    edit_manifest(lambda manifest: manifest["files"].pop(RAIN))
    with pytest.raises(PackageError, match=f"names {RAIN}, but has no hash of it"):
        Package(package)


@pytest.mark.parametrize("key", ["rain,,", "fog", "rain=-1"])
def test_a_default_that_is_no_composition_is_refused(package: Path, edit_manifest: EditManifest, key: str) -> None:
    edit_manifest(lambda manifest: manifest.update(default=key))
    with pytest.raises(PackageError, match=rf"composition '{re.escape(key)}'"):
        Package(package)


@pytest.mark.parametrize("name", ["../rain", "rain,haze", "base", ""])
def test_an_adapters_name_that_no_key_can_carry_is_refused(
    package: Path, edit_manifest: EditManifest, name: str
) -> None:
    edit_manifest(lambda manifest: manifest["adapters"].update({name: manifest["adapters"]["rain"]}))
    with pytest.raises(PackageError, match="no name for an adapter"):
        Package(package)


def test_a_precision_that_was_not_exported_is_said(shared_package: Path) -> None:
    with pytest.raises(PackageError, match=r"has no int8 graph \(it has fp32\)"):
        Package(shared_package).graph("int8")


def add_precisions(manifest: dict[str, Any], passed: bool = True) -> None:
    """What export writes where rain was calibrated; its int8 graph is a copy of the float32 one."""
    manifest["graphs"]["fp16"] = "graphs/fp32.onnx"
    manifest["files"][INT8] = manifest["files"]["graphs/fp32.onnx"]
    manifest["compositions"]["rain"] = {
        "recommended": "int8" if passed else "fp16",
        "precisions": {
            "fp16": {"passed": True, "psnr": 66.5, "restoration": 0.0},
            "int8": {
                "passed": passed,
                "psnr": 45.1,
                "restoration": -0.11,
                "graph": INT8,
                "method": "entropy",
                "returned": ["ending.weight"],
            },
        },
    }


@pytest.fixture
def narrow(package: Path, edit_manifest: EditManifest) -> Path:
    (package / INT8).parent.mkdir(parents=True)
    shutil.copy(package / "graphs/fp32.onnx", package / INT8)
    edit_manifest(add_precisions)
    return package


def test_precisions_are_those_that_passed(narrow: Path, edit_manifest: EditManifest) -> None:
    rain, haze = Composition.parse("rain"), Composition.parse("haze")
    package = Package(narrow)
    package.verify()
    assert package.precisions(rain) == ["int8", "fp16", "fp32"]
    assert package.precisions(haze) == ["fp16", "fp32"]  # which was not calibrated
    assert package.precisions(Composition.parse("rain=0.5")) == ["fp16", "fp32"]
    assert package.manifest.compositions["rain"].precisions["int8"].returned == ["ending.weight"]
    edit_manifest(lambda manifest: add_precisions(manifest, passed=False))
    assert Package(narrow).precisions(rain) == ["fp16", "fp32"]
    edit_manifest(lambda manifest: manifest["compositions"]["rain"]["precisions"]["fp16"].update(passed=False))
    assert Package(narrow).precisions(rain) == ["fp32"]


def test_a_package_without_narrow_precisions_has_float32(shared_package: Path) -> None:
    assert Package(shared_package).precisions(Composition.parse("rain")) == ["fp32"]


def test_int8_is_of_one_composition(narrow: Path) -> None:
    package, rain = Package(narrow), Composition.parse("rain")
    assert package.graph("int8", rain) == package.graph("fp32", rain) == package.graph()
    with pytest.raises(PackageError, match=r"has no int8 graph \(it has fp32, fp16\)"):
        package.graph("int8")
    with pytest.raises(
        PackageError, match=r"not calibrated for haze \(it has fp32, fp16\); .* --precision int8 --compose haze"
    ):
        package.graph("int8", Composition.parse("haze"))


def test_identity_is_of_contents(narrow: Path, tmp_path: Path) -> None:
    package = Package(narrow)
    files = package.manifest.files
    mix = Composition.parse("rain=0.25,haze=1")
    identity = package.identity(mix)
    assert identity == {
        "base": files["base.safetensors"].sha256,
        "adapters": sorted([(files["adapters/haze.safetensors"].sha256, "1"), (files[RAIN].sha256, "0.25")]),
        "graph": files["graphs/fp32.onnx"].sha256,
    }
    assert Package(shutil.copytree(narrow, tmp_path / "copy.uir")).identity(mix) == identity
    others = [package.identity(Composition.parse(text)) for text in ("rain=0.2501,haze=1", "rain=0.25", "haze", "base")]
    assert not [other for other in others if other == identity]
    assert package.identity(Composition.parse("rain"), "int8")["graph"] == files[INT8].sha256
    json.dumps(identity)
    with pytest.raises(UsageError, match="rian: no such adapter"):
        package.identity(Composition.parse("rian"))
    with pytest.raises(PackageError, match="not calibrated for haze"):
        package.identity(Composition.parse("haze"), "int8")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda m: m["files"].pop(INT8), f"names {INT8}, but has no hash of it"),
        (lambda m: m["compositions"]["rain"]["precisions"]["int8"].update(graph="../x.onnx"), "has no hash of it"),
        (lambda m: m["compositions"]["rain"]["precisions"]["int8"].pop("passed"), "`passed`"),
        (lambda m: m["compositions"]["rain"]["precisions"]["int8"].update(returned="all"), "returned"),
        (lambda m: m["compositions"]["rain"]["precisions"].update(int4={"passed": True, "psnr": 1}), "int4"),
        (lambda m: m["compositions"]["rain"].update(recommended="fp8"), "fp8"),
        (lambda m: m["graphs"].update(fp8="graphs/fp32.onnx"), "fp8"),
        (lambda m: m["compositions"].update({"rain,,": {}}), "composition 'rain,,'"),
        (lambda m: m.update(compositions=["rain"]), "compositions"),
    ],
)
def test_damaged_precisions_are_refused(
    narrow: Path, edit_manifest: EditManifest, change: Callable[[dict[str, Any]], object], words: str
) -> None:
    edit_manifest(change)
    with pytest.raises(PackageError, match=re.escape(words)):
        Package(narrow)


def test_a_changed_graph_of_a_composition_is_found(narrow: Path) -> None:
    (narrow / INT8).write_bytes((narrow / INT8).read_bytes()[:-1])
    with pytest.raises(PackageError, match="is not the file that was exported"):
        Package(narrow).graph("int8", Composition.parse("rain"))


def test_an_unknown_adapter_is_answered_with_near_names(shared_package: Path) -> None:
    with pytest.raises(UsageError, match=r"rian: no such adapter; did you mean rain\?"):
        merge_package(Package(shared_package), Composition.parse("rian"))


# What follows has the right hash: a whole package that someone made badly, or with bad intent.


@pytest.mark.parametrize("name", ["base.safetensors", RAIN])
@pytest.mark.parametrize("keep", [0, 7, 60, -1])
def test_truncated_weights_are_refused(package: Path, replace_file: ReplaceFile, name: str, keep: int) -> None:
    replace_file(name, (package / name).read_bytes()[:keep])
    with pytest.raises(PackageError, match=rf"{re.escape(name)}: not a whole safetensors file"):
        Restorer(package, "rain")


@pytest.mark.parametrize("content", [b"", b"garbage", b"\x08\x0a" + b"\xff" * 99, None])
def test_a_graph_that_is_none_is_refused(package: Path, replace_file: ReplaceFile, content: bytes | None) -> None:
    whole = (package / "graphs/fp32.onnx").read_bytes()
    replace_file("graphs/fp32.onnx", whole[: len(whole) // 2] if content is None else content)
    with pytest.raises((PackageError, BackendError)) as caught:
        Restorer(package, "rain")
    assert isinstance(caught.value, UirError)


@pytest.mark.parametrize("place", ["attribute", "branch", "sparse", "function"])
def test_a_graph_that_would_read_other_files_is_refused(package: Path, replace_file: ReplaceFile, place: str) -> None:
    """ONNX Runtime opens what a constant of a graph in memory names, relative to wherever the user stands."""
    secret = onnx.TensorProto(name="secret", data_type=onnx.TensorProto.FLOAT, dims=[4])
    secret.data_location = onnx.TensorProto.EXTERNAL
    secret.external_data.add(key="location", value="../secret.bin")
    constant = onnx.helper.make_node("Constant", [], ["secret"], value=secret)
    model = onnx.load(package / "graphs/fp32.onnx", load_external_data=False)
    if place == "attribute":
        model.graph.node.append(constant)
    elif place == "branch":
        branch = onnx.helper.make_graph([constant], "branch", [], [])
        model.graph.node.append(onnx.helper.make_node("If", ["yes"], ["x"], then_branch=branch, else_branch=branch))
    elif place == "sparse":
        model.graph.sparse_initializer.add().values.CopyFrom(secret)
    else:
        model.functions.append(onnx.helper.make_function("own", "f", [], ["secret"], [constant], []))
    replace_file("graphs/fp32.onnx", model.SerializeToString())
    words = {"branch": "operator If", "sparse": "sparse_initializer", "function": "functions"}
    with pytest.raises(PackageError, match=words.get(place, "names files outside the package")):
        Restorer(package, "rain")


def edit_tensors(package: Path, name: str, change: Callable[[dict[str, Any]], None]) -> bytes:
    tensors = safetensors.numpy.load_file(package / name)
    change(tensors)
    return safetensors.numpy.save(tensors)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.pop("intro.weight"), r"intro\.weight"),
        (lambda t: t.update({"intro.weight": t["intro.weight"][:2]}), r"intro\.weight"),
        (
            lambda t: t.update({"ending.bias": t["ending.bias"][:2]}),
            r"ending\.bias of \(12,\), which is of \(2,\)",
        ),
        (lambda t: t.pop("ending.bias"), r"weight ending\.bias of \(12,\), which is missing"),
        (lambda t: t.update({"intro.bias": t["intro.bias"].astype(np.float64)}), r"intro\.bias is float64"),
        (lambda t: t.update({"intro.bias": t["intro.bias"].astype(np.int32)}), r"intro\.bias is int32"),
        (lambda t: t.update({"intro.bias": t["intro.bias"] * np.float32("nan")}), r"intro\.bias holds NaN or infinity"),
        (lambda t: t.update({"intro.bias": t["intro.bias"] / np.float32(0)}), r"intro\.bias holds NaN or infinity"),
    ],
)
@pytest.mark.filterwarnings("ignore:divide by zero")
def test_weights_of_another_base_are_refused(
    package: Path, replace_file: ReplaceFile, change: Callable[[dict[str, Any]], None], words: str
) -> None:
    replace_file("base.safetensors", edit_tensors(package, "base.safetensors", change))
    with pytest.raises(PackageError, match=words):
        Restorer(package, "rain")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.pop("intro.weight::A"), r"intro\.weight has B"),
        (lambda t: t.pop("intro.weight::B"), r"intro\.weight has A"),
        (lambda t: t.pop("intro.weight::scale"), r"intro\.weight has A"),
        (lambda t: t.update({"intro.weight::scale": np.zeros(0, np.float32)}), r"intro\.weight has A"),
        (lambda t: t.update({"intro.weight::A": t["intro.weight::A"][:1]}), r"intro\.weight has A"),
        (lambda t: t.update({"intro.weight::A": t["intro.weight::A"].ravel()}), r"intro\.weight has A"),
        (lambda t: t.update({"intro.weight::delta": t["intro.weight::A"]}), r"intro\.weight has A"),
        (lambda t: t.update({"intro.weight::C": t["intro.weight::A"]}), r"intro\.weight has A"),
        (lambda t: t.update({"stray": t["intro.weight::A"]}), "has stray"),
        (lambda t: t.update({"intro.weight::A": t["intro.weight::A"][:, 1:]}), "entries, the base's weight"),
        (lambda t: t.update({"fog.weight::delta": t["intro.weight::A"]}), r"fog\.weight: the base has no such weight"),
        (lambda t: t.update({"intro.weight::A": t["intro.weight::A"].astype(np.float16)}), "is float16"),
        (lambda t: t.update({"intro.weight::A": t["intro.weight::A"] * np.float32("nan")}), "holds NaN or infinity"),
    ],
)
def test_factors_that_make_no_update_are_refused(
    package: Path, replace_file: ReplaceFile, change: Callable[[dict[str, Any]], None], words: str
) -> None:
    replace_file(RAIN, edit_tensors(package, RAIN, change))
    with pytest.raises(PackageError, match=words):
        Restorer(package, "rain")
    Restorer(package, "haze")


def test_a_thousand_strange_tensors_make_one_short_line(package: Path, replace_file: ReplaceFile) -> None:
    more = {f"x{i}": np.zeros(0, np.float32) for i in range(1000)}
    replace_file(RAIN, edit_tensors(package, RAIN, lambda tensors: tensors.update(more)))
    with pytest.raises(PackageError, match="not an adapter's factors") as caught:
        Restorer(package, "rain")
    assert len(str(caught.value)) < 1000


def test_updates_are_read_back_as_they_were_written() -> None:
    rng = np.random.default_rng(0)
    values = {shape: rng.normal(size=shape).astype(np.float32) for shape in ((4, 2), (2, 9), (8,))}
    updates = {"a.weight": Factors(values[4, 2], values[2, 9], 0.25), "b::c.weight": DenseDelta(values[8,])}
    found = decode_updates(encode_updates(updates))
    assert found.keys() == updates.keys()
    for name, update in updates.items():
        assert type(found[name]) is type(update)
        np.testing.assert_array_equal(found[name].delta((-1,)), update.delta((-1,)))
    assert Adapter("rain", found).rank == 2


def test_a_package_may_be_moved(package: Path, tmp_path: Path) -> None:
    moved = Path(shutil.move(package, tmp_path / "elsewhere"))
    Package(moved).verify()
    assert str(tmp_path) not in json.dumps(json.loads((moved / MANIFEST).read_text())["files"])
