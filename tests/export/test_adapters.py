"""Adapter files against PEFT itself: what it saves loads here, what is written here loads there."""

import json
import math
import pickle
import shutil
import warnings

import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import torch
from peft import LoHaConfig, LoraConfig, PeftModel, get_peft_model
from torch import nn

from uir.export.adapters import CONFIG, WEIGHTS, check_fits, compacted, load_adapter, write_peft
from uir.runtime.errors import AdapterError, MissingFileError, OutputError
from uir.runtime.factors import Adapter, DenseDelta, Factors

TARGETS = ["body.0", "body.2", "body.3", "line", "head"]


class Net(nn.Module):
    """A 3x3, a strided 2x2 and a 1x1 convolution, one in one dimension, and a linear layer."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 8, 2, stride=2), nn.Conv2d(8, 8, 1)
        )
        self.line = nn.Conv1d(8, 5, 3, padding=1)
        self.head = nn.Linear(5, 4, bias=False)

    def forward(self, x):
        return self.head(self.line(self.body(x).flatten(2)).mean(-1))


@pytest.fixture
def frame():
    return torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def new_net():
    torch.manual_seed(0)
    return Net()


def peft_model(net=None, seed=2, **config):
    """A PEFT model with random factors: its own B begin at zero, and would prove nothing."""
    model = get_peft_model(
        net or new_net(), LoraConfig(**{"r": 4, "lora_alpha": 6, "target_modules": TARGETS, **config})
    )
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if ".lora_" in name:
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.1
    return model


def weights_of(net):
    return {name: tensor.detach().numpy() for name, tensor in net.state_dict().items()}


def saved(folder, **config):
    model = peft_model(**config)
    model.save_pretrained(folder)
    return model


def edit_config(folder, **settings):
    config = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps({**config, **settings}))


def edit_tensors(folder, edit):
    tensors = safetensors.numpy.load_file(folder / WEIGHTS)
    safetensors.numpy.save_file(edit(tensors), folder / WEIGHTS)


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"use_rslora": True},
        {"r": 8, "rank_pattern": {"body.2": 2, "head": 3}, "alpha_pattern": {"body.[03]": 10}},
        {"use_rslora": True, "rank_pattern": {"2": 2}, "alpha_pattern": {"^line": 0.5}},
        {"init_lora_weights": "gaussian", "lora_dropout": 0.5},
    ],
)
def test_a_delta_is_the_one_that_peft_computes(tmp_path, config):
    model = saved(tmp_path / "rain", **config)
    adapter = load_adapter(tmp_path / "rain")
    assert adapter.name == "rain"
    assert sorted(adapter.updates) == sorted(f"{module}.weight" for module in TARGETS)
    check_fits(adapter, weights_of(new_net()))
    for name, update in adapter.updates.items():
        layer = model.base_model.model.get_submodule(name.removesuffix(".weight"))
        expected = layer.get_delta_weight("default").detach().numpy()
        assert np.abs(expected).max() > 0.01
        np.testing.assert_allclose(update.delta(expected.shape), expected, atol=1e-6)


def test_merged_weights_compute_what_peft_computes(tmp_path, frame):
    model = saved(tmp_path / "rain").eval()
    adapter, net = load_adapter(tmp_path / "rain", "other"), new_net()
    assert adapter.name == "other"
    merged = weights_of(net)
    before = net(frame)
    for name, update in adapter.updates.items():
        merged[name] = merged[name] + update.delta(merged[name].shape)
    net.load_state_dict({name: torch.from_numpy(weight) for name, weight in merged.items()})
    assert (net(frame) - before).abs().max() > 0.01
    torch.testing.assert_close(net(frame), model(frame), atol=1e-5, rtol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_floats_are_read_exactly(tmp_path, dtype):
    saved(tmp_path)
    tensors = safetensors.torch.load_file(tmp_path / WEIGHTS)
    safetensors.torch.save_file({key: tensor.to(dtype) for key, tensor in tensors.items()}, tmp_path / WEIGHTS)
    adapter = load_adapter(tmp_path)
    for name, update in adapter.updates.items():
        module = name.removesuffix(".weight")
        expected = tensors[f"base_model.model.{module}.lora_A.weight"].to(dtype).float().numpy()
        assert update.a.dtype == np.float32
        assert np.array_equal(update.a, expected.reshape(4, -1))


def random_factors(net, rank, scale):
    generator = np.random.default_rng(3)
    shapes = {name: tuple(weight.shape) for name, weight in net.state_dict().items() if weight.ndim > 1}
    factors = {
        name: Factors(
            generator.standard_normal((shape[0], rank), np.float32) * 0.3,
            generator.standard_normal((rank, math.prod(shape[1:])), np.float32) * 0.3,
            scale,
        )
        for name, shape in shapes.items()
    }
    return factors, shapes


@pytest.mark.parametrize("scale", [2.0, 0.3])
def test_peft_loads_what_is_written_and_computes_the_merged_output(tmp_path, frame, scale):
    net = new_net()
    factors, shapes = random_factors(net, 3, scale)
    write_peft(tmp_path / "rain", factors, shapes, rank=3, alpha=6.0, base_model="base.safetensors")
    merged = new_net()
    merged.load_state_dict(
        {
            name: weight + torch.from_numpy(factors[name].delta(tuple(weight.shape))) if name in factors else weight
            for name, weight in net.state_dict().items()
        }
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # PEFT warns of keys that it misses or does not expect
        model = PeftModel.from_pretrained(net, tmp_path / "rain").eval()
    assert model.peft_config["default"].base_model_name_or_path == "base.safetensors"
    assert (model(frame) - new_net()(frame)).abs().max() > 0.01
    torch.testing.assert_close(model(frame), merged(frame), atol=1e-5, rtol=0)


def test_what_is_written_is_read_back_unchanged(tmp_path):
    factors, shapes = random_factors(new_net(), 3, 2.0)
    write_peft(tmp_path / "rain", factors, shapes, rank=3, alpha=6.0, base_model="base")
    back = load_adapter(tmp_path / "rain")
    assert back.updates.keys() == factors.keys()
    for name, update in back.updates.items():
        assert update.scale == 2.0
        assert np.array_equal(update.a, factors[name].a)
        assert np.array_equal(update.b, factors[name].b)
    with pytest.raises(OutputError, match="exists already"):
        write_peft(tmp_path / "rain", factors, shapes, rank=3, alpha=6.0, base_model="base")
    write_peft(tmp_path / "rain", factors, shapes, rank=3, alpha=3.0, base_model="base", overwrite=True)
    assert load_adapter(tmp_path / "rain").updates["head.weight"].scale == 1.0
    assert [file.name for file in tmp_path.iterdir()] == ["rain"]


def test_names_that_end_alike_are_kept_apart(tmp_path):
    """PEFT takes a listed target for every module whose name ends in it: here the ReLU at `1.0` for `0`."""

    def build():
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(3, 3, 1), nn.Sequential(nn.ReLU()))

    factors, shapes = random_factors(build(), 2, 1.0)
    write_peft(tmp_path / "rain", factors, shapes, rank=2, alpha=2.0, base_model="base")
    model = PeftModel.from_pretrained(build(), tmp_path / "rain")
    delta = model.base_model.model[0].get_delta_weight("default").detach().numpy()
    np.testing.assert_allclose(delta, factors["0.weight"].delta((3, 3, 1, 1)), atol=1e-6)


def test_factors_that_do_not_fit_are_not_written(tmp_path):
    factors, shapes = random_factors(new_net(), 3, 1.0)
    with pytest.raises(ValueError, match="do not fit rank 4"):
        write_peft(tmp_path / "rain", factors, shapes, rank=4, alpha=4.0, base_model="base")
    with pytest.raises(ValueError, match=r"head\.weight"):
        write_peft(tmp_path / "rain", factors, {**shapes, "head.weight": (5, 4)}, rank=3, alpha=4.0, base_model="base")
    assert not list(tmp_path.iterdir())


def test_pefts_cat_is_the_sum_of_the_deltas_and_its_linear_is_not(tmp_path):
    first, second = peft_model(seed=2), peft_model(seed=3)
    first.save_pretrained(tmp_path / "rain")
    second.save_pretrained(tmp_path / "haze")
    rain, haze = load_adapter(tmp_path / "rain"), load_adapter(tmp_path / "haze")
    model = PeftModel.from_pretrained(new_net(), tmp_path / "rain", adapter_name="rain")
    model.load_adapter(tmp_path / "haze", adapter_name="haze")
    for kind in ("cat", "linear"):
        model.add_weighted_adapter(["rain", "haze"], [0.7, 0.3], adapter_name=kind, combination_type=kind)
    for name in rain.updates:
        layer = model.base_model.model.get_submodule(name.removesuffix(".weight"))
        cat, linear = (layer.get_delta_weight(kind).detach().numpy() for kind in ("cat", "linear"))
        ours = 0.7 * rain.updates[name].delta(cat.shape) + 0.3 * haze.updates[name].delta(cat.shape)
        np.testing.assert_allclose(ours, cat, atol=1e-6)
        assert np.linalg.norm(ours - linear) > 0.3 * np.linalg.norm(ours)


def test_an_adapter_of_another_base_is_refused_with_what_differs(tmp_path):
    saved(tmp_path)
    adapter = load_adapter(tmp_path, "rain")
    base = weights_of(new_net())
    base["body.0.weight"] = np.zeros((12, 3, 3, 3), np.float32)
    base["body.2.weight"] = np.zeros((6, 8, 2, 2), np.float32)  # of the same size, but turned
    del base["head.weight"]
    with pytest.raises(AdapterError) as caught:
        check_fits(adapter, base)
    message = str(caught.value)
    assert "3 of its 5 weights differ" in message
    assert "body.0.weight is 12 x 3 x 3 x 3 in the base, 6 x 27 in the adapter" in message
    assert "body.2.weight is 6 x 8 x 2 x 2 in the base, 8 x 24 in the adapter" in message
    assert "head.weight is not in the base" in message
    with pytest.raises(AdapterError, match=r"5 of its 5 weights differ.*and 2 more"):
        check_fits(adapter, {})


def test_a_dense_delta_stands_where_factors_would_be_larger():
    ones = np.ones
    adapter = Adapter(
        "rain",
        {
            "depthwise.weight": Factors(ones((8, 8), np.float32), ones((8, 9), np.float32), 0.5),
            "wide.weight": Factors(ones((64, 4), np.float32), ones((4, 576), np.float32), 0.5),
        },
    )
    small = compacted(adapter)
    assert isinstance(small.updates["depthwise.weight"], DenseDelta)
    assert small.updates["wide.weight"] is adapter.updates["wide.weight"]
    shape = (8, 1, 3, 3)
    delta = adapter.updates["depthwise.weight"].delta(shape)
    assert np.array_equal(small.updates["depthwise.weight"].delta(shape), delta)
    check_fits(
        small, {"depthwise.weight": np.zeros(shape, np.float32), "wide.weight": np.zeros((64, 64, 3, 3), np.float32)}
    )


@pytest.mark.filterwarnings("ignore::peft.utils.warning.PeftWarning")
@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"use_dora": True}, "use_dora=True"),
        ({"lora_bias": True, "target_modules": ["body.0"]}, "lora_bias=True"),
        ({"bias": "lora_only"}, "bias='lora_only'"),
        ({"modules_to_save": ["head"], "target_modules": ["body.0"]}, "modules_to_save"),
    ],
)
def test_more_than_plain_lora_is_refused_by_name(tmp_path, config, words):
    saved(tmp_path, **config)
    refused(tmp_path, words)


def test_the_tensors_themselves_tell_of_more_than_plain_lora(tmp_path):
    saved(tmp_path, use_dora=True)
    edit_config(tmp_path, use_dora=False)
    refused(tmp_path, "more than LoRA's A and B.*lora_magnitude_vector.* and 2 more")


def test_an_adapter_that_changed_its_base_is_refused(tmp_path):
    saved(tmp_path)
    edit_config(tmp_path, init_lora_weights="pissa")
    refused(tmp_path, "init_lora_weights='pissa'")


def test_a_setting_of_the_future_is_refused_only_where_it_is_set(tmp_path):
    saved(tmp_path)
    edit_config(tmp_path, use_quaternions=None)
    load_adapter(tmp_path)
    edit_config(tmp_path, use_quaternions=True)
    refused(tmp_path, "use_quaternions=True")


def test_other_peft_types_are_refused_by_name(tmp_path):
    get_peft_model(new_net(), LoHaConfig(target_modules=["body.0"])).save_pretrained(tmp_path)
    refused(tmp_path, "type 'LOHA'")


def test_grouped_convolutions_are_refused_as_peft_refuses_to_merge_them(tmp_path):
    torch.manual_seed(0)
    with pytest.warns(UserWarning, match="Merging is not supported"):
        model = get_peft_model(nn.Sequential(nn.Conv2d(4, 8, 3, groups=2)), LoraConfig(r=4, target_modules=["0"]))
    model.save_pretrained(tmp_path)
    with pytest.raises(NotImplementedError):
        model.merge_and_unload()
    refused(tmp_path, "grouped convolution")


def refused(folder, words, error=AdapterError):
    with pytest.raises(error, match=words) as caught:
        load_adapter(folder)
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_parts_are_said(tmp_path):
    refused(tmp_path / "nowhere", "no such adapter", MissingFileError)
    refused(tmp_path, f"has no {CONFIG}")
    saved(tmp_path / "rain")
    (tmp_path / "rain" / CONFIG).unlink()
    refused(tmp_path / "rain", f"has no {CONFIG}")
    saved(tmp_path / "haze")
    refused(tmp_path / "haze" / WEIGHTS, "name the folder")
    (tmp_path / "haze" / WEIGHTS).unlink()
    refused(tmp_path / "haze", f"has no {WEIGHTS}")


class Trap:
    """Leaves a mark where it is unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return (type(self.mark).touch, (self.mark,))


@pytest.mark.parametrize("protocol", ["zip", 2, 4])
@pytest.mark.parametrize("place", [WEIGHTS, "adapter_model.bin", "alone.pth", "alone"])
def test_a_pickle_is_refused_and_never_opened(tmp_path, place, protocol):
    folder, mark = tmp_path / "rain", tmp_path / "mark"
    saved(folder)
    (folder / WEIGHTS).unlink()
    if protocol == "zip":
        torch.save({"x": Trap(mark)}, folder / place)
    else:
        (folder / place).write_bytes(pickle.dumps({"x": Trap(mark)}, protocol))
    refused(folder / place if place.startswith("alone") else folder, "pickle.*safetensors.torch.save_file")
    assert not mark.exists()
    pickle.loads(pickle.dumps(Trap(mark)))
    assert mark.exists()  # so the trap would have shown


def test_a_header_that_looks_like_a_pickle_is_still_read(tmp_path):
    """A safetensors file begins with its header's length: 0x0280 bytes look like pickle protocol 2."""
    saved(tmp_path)
    tensors, path = safetensors.numpy.load_file(tmp_path / WEIGHTS), tmp_path / WEIGHTS
    plain = int.from_bytes(safetensors.numpy.save(tensors, metadata={"note": ""})[:8], "little")
    safetensors.numpy.save_file(tensors, path, metadata={"note": "x" * (0x10280 - plain)})
    assert path.read_bytes()[:2] == b"\x80\x02"
    assert len(load_adapter(tmp_path).updates) == 5


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_values_that_are_not_finite_are_refused_by_tensor(tmp_path, value):
    saved(tmp_path)
    key = "base_model.model.body.2.lora_B.weight"

    def poison(tensors):
        tensors[key][0, 0] = value
        return tensors

    edit_tensors(tmp_path, poison)
    refused(tmp_path, f"{key} holds NaN or infinity")


def test_integers_are_refused(tmp_path):
    saved(tmp_path)
    edit_tensors(tmp_path, lambda tensors: {key: tensor.astype(np.int8) for key, tensor in tensors.items()})
    refused(tmp_path, "of type I8")


@pytest.mark.parametrize("keep", [0, 5, 300, -1])
def test_a_truncated_file_is_refused(tmp_path, keep):
    saved(tmp_path)
    (tmp_path / WEIGHTS).write_bytes((tmp_path / WEIGHTS).read_bytes()[:keep])
    refused(tmp_path, "not a whole safetensors file")


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "garbage", '{"peft_type": "LORA"}', '{"peft_type": "LORA", "r": "four", "lora_alpha": 4}', "\xff"],
)
def test_a_configuration_that_is_none_is_refused(tmp_path, text):
    saved(tmp_path)
    (tmp_path / CONFIG).write_text(text, encoding="latin-1")
    refused(tmp_path, "not the configuration of a LoRA")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"r": 8}, r"body\.0 has A \(4, 3, 3, 3\) and B \(6, 4, 1, 1\), but the rank is 8"),
        ({"r": 0}, "Expected `int` >= 1 - at `..r`"),
        ({"rank_pattern": {"line": 2}}, "line .*the rank is 2"),
        ({"rank_pattern": {"(": 2}}, "is not a pattern"),
    ],
)
def test_a_configuration_that_contradicts_the_tensors_is_refused(tmp_path, settings, words):
    saved(tmp_path)
    edit_config(tmp_path, **settings)
    refused(tmp_path, words)


def without_b(tensors):
    del tensors["base_model.model.line.lora_B.weight"]
    return tensors


def with_narrow_b(tensors):
    key = "base_model.model.head.lora_B.weight"
    return {**tensors, key: np.ascontiguousarray(tensors[key][:, :3])}


def with_a_kernel_in_b(tensors):
    return {**tensors, "base_model.model.body.0.lora_B.weight": np.zeros((6, 4, 3, 3), np.float32)}


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (without_b, "line has lora_A without its pair"),
        (with_narrow_b, r"head has A \(4, 5\) and B \(4, 3\), but the rank is 4"),
        (with_a_kernel_in_b, r"body\.0 .*neither a linear layer's nor"),
        (
            lambda tensors: {key.removeprefix("base_model."): tensor for key, tensor in tensors.items()},
            "more than LoRA",
        ),
        (lambda _tensors: {}, "no tensors at all"),
    ],
)
def test_tensors_that_make_no_adapter_are_refused(tmp_path, edit, words):
    saved(tmp_path)
    edit_tensors(tmp_path, edit)
    refused(tmp_path, words)


def test_the_folders_name_is_found_through_a_dot(tmp_path, monkeypatch):
    saved(tmp_path / "fog")
    monkeypatch.chdir(tmp_path / "fog")
    assert load_adapter(type(tmp_path)(".")).name == "fog"
    shutil.rmtree(tmp_path / "fog")
