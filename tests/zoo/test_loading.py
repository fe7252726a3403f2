"""Weights are data: what a bad file does to a loader is a clear error, early."""

import functools
import hashlib
import http.server
import json
import shutil
import ssl
import threading
import zipfile
import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest

import keras_agalite
from keras_agalite.presets import Preset, released_folder

pytestmark = pytest.mark.once

DATA = Path(__file__).parent / "data"
load = keras_agalite.MemoryPolicy.from_preset


@pytest.fixture
def preset(tmp_path):
    folder = tmp_path / "preset"
    shutil.copytree(released_folder() / "tmaze_10", folder)
    return folder


@pytest.fixture
def nothing_is_built(monkeypatch):
    def refuse(*arguments):
        raise AssertionError("a policy was built")

    monkeypatch.setattr(Preset, "build", refuse)


def change(preset, edit):
    file = preset / "config.json"
    config = json.loads(file.read_text())
    edit(config)
    file.write_text(json.dumps(config))


@pytest.mark.usefixtures("nothing_is_built")
@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda c: c.update(format=2), "a preset of format 1"),
        (lambda c: c["memory"].update({"class": "os.system"}), "the memory to be one"),
        (
            lambda c: c["memory"]["config"].update(hidden_dim=2**40),
            "hidden_dim=1099511",
        ),
        (lambda c: c["memory"]["config"].update(num_layers=-1), "num_layers=-1"),
        (
            lambda c: c["memory"]["config"].update(num_layers=1_000_000),
            "from 1 to 1,024 layers. Received: num_layers=1000000",
        ),
        (lambda c: c["memory"]["config"].update(num_layers=1000), "weights that"),
        (
            lambda c: c["encoder"]["config"].update(units=[2**20, 2**20]),
            "at most 2,147,483,647 weights. Received: 1,099",
        ),
        (lambda c: c["encoder"]["config"].update(units=[1] * 2000), "at most 1,024 si"),
        (lambda c: c.update(head_units=1_000_000), "weights that the config"),
        (lambda c: c.update(head_units="many"), "head_units='many'"),
        (lambda c: c["encoder"]["config"].update(units=[4]), "weights that the config"),
        (lambda c: c["action_space"].update(n=10**6), "weights that the config"),
        (lambda c: c["action_space"].update(n=10**9), "more than 4,194,304 elements"),
        (lambda c: c.pop("memory"), "none of .'memory'"),
        (lambda c: c["memory"]["config"].update(extra=1), "Expected the arguments"),
        (
            lambda c: c["encoder"]["config"]["observation_space"].update(
                shape=[10**6, 10**6]
            ),
            "Expected",
        ),
    ],
)
def test_an_impossible_configuration_is_refused_before_anything_is_built(
    preset, edit, message
):
    change(preset, edit)
    with pytest.raises(ValueError, match=message):
        load(preset)


NESTED = functools.reduce(
    lambda space, _: {"type": "Dict", "spaces": {"a": space}}, range(300), {}
)
MANY = {"type": "Box", "shape": [2**20], "dtype": "float32", "low": 0.0, "high": 1.0}


@pytest.mark.usefixtures("nothing_is_built")
@pytest.mark.parametrize(
    ("part", "key", "value", "message"),
    [
        ("memory", "num_layers", 2.0, "num_layers=2.0"),
        ("memory", "num_layers", True, "num_layers=True"),
        ("memory", "r", 10**30, "r=1000"),
        ("encoder", "units", [[64]], "a list of at most .* units="),
        ("encoder", "activation", "threshold", "activation='threshold'"),
        ("encoder", "activation", "deserialize", "activation='deserialize'"),
        ("encoder", "observation_space", NESTED, "description of a space"),
        (
            "encoder",
            "observation_space",
            {"type": "Dict", "spaces": {str(i): MANY for i in range(5)}},
            "more than 4,194,304 elements",
        ),
        (
            "encoder",
            "observation_space",
            {**MANY, "dtype": "f4,(9999,9999)f8"},
            "description of a space",
        ),
        ("encoder", "observation_space", {**MANY, "low": 0}, "it is written"),
    ],
)
def test_an_argument_of_another_type_is_refused_with_the_name_of_the_file(
    preset, part, key, value, message
):
    change(preset, lambda config: config[part]["config"].update({key: value}))
    with pytest.raises(ValueError, match=rf"config\.json: .*{message}"):
        load(preset)


@pytest.mark.parametrize("text", ["9" * 5000, "[" * 100_000, '{"format": NaN}'])
def test_what_json_cannot_be_is_refused_with_the_name_of_the_file(preset, text):
    (preset / "config.json").write_text(text)
    with pytest.raises(ValueError, match=r"Expected .*config\.json|config\.json: "):
        load(preset)


def test_a_state_that_is_too_large_is_refused(preset):
    change(preset, lambda config: config["memory"]["config"].update(r=2**20))
    with pytest.raises(ValueError, match=r"state of at most 16,777,216 numbers"):
        load(preset)


def truncate(file):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def declare_more_than_is_stored(file):
    with h5py.File(file, "a") as weights:
        weights.create_dataset("large", (10**6, 10**6), "float32", chunks=(10, 10))


def link_elsewhere(file):
    with h5py.File(file, "a") as weights:
        weights["elsewhere"] = h5py.ExternalLink("/etc/hostname", "/")


def hold_text(file):
    with h5py.File(file, "a") as weights:
        weights.create_dataset("text", data=["import os"], dtype=h5py.string_dtype())


def hold_more(file):
    with h5py.File(file, "a") as weights:
        weights.create_dataset("more", data=np.zeros(3, np.float32))


def bias(weights):
    """A group with a dataset of one axis, and its name."""
    return weights["actor/hidden/vars"], "1"


def replace(edit):
    """Damage that puts another dataset in the place of one."""

    def damage(file):
        with h5py.File(file, "a") as weights:
            group, name = bias(weights)
            old = group[name][:]
            del group[name]
            edit(group, name, old)

    return damage


def pack_dataset(group, name, old):
    group.create_dataset(name, data=old, chunks=old.shape, compression="gzip")


def pack_a_bomb(group, name, old):
    """A chunk of as many bytes as it should unpack to, which unpacks to far more."""
    item = group.create_dataset(
        name, old.shape, "float32", chunks=old.shape, compression="gzip"
    )
    item.id.write_direct_chunk((0,), zlib.compress(bytes(10**6))[: old.nbytes])


def store_elsewhere(group, name, old):
    group.create_dataset(
        name, old.shape, "float32", external=[("/dev/zero", 0, old.nbytes)]
    )


def say_nan(group, name, old):
    old[3] = np.nan
    group[name] = old


def say_too_much(group, name, old):
    group[name] = np.full(old.shape, 1e300)


def add_an_attribute(group, name, old):
    group[name] = old
    group[name].attrs["dtype"] = "bfloat16"


def say_it_twice(file):
    with h5py.File(file, "a") as weights:
        group, name = bias(weights)
        group["again"] = group[name]


def go_in_circles(file):
    with h5py.File(file, "a") as weights:
        for i in range(20):  # 20 ways on from each of them
            weights["actor"][f"again_{i}"] = weights["actor"]


@pytest.mark.usefixtures("nothing_is_built")
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (truncate, "a whole HDF5 file"),
        (lambda file: file.write_bytes(b""), "a whole HDF5 file"),
        (lambda file: file.write_text("{}"), "a whole HDF5 file"),
        (declare_more_than_is_stored, "declares 1,000,000,000,000 numbers"),
        (link_elsewhere, "/elsewhere' is a link"),
        (hold_text, "holds object, not numbers"),
        (hold_more, "Expected the 178,485 weights"),
        (replace(pack_dataset), "declares 64 numbers and stores|is packed"),
        (replace(pack_a_bomb), "is packed, or stored elsewhere"),
        (replace(store_elsewhere), "is packed, or stored elsewhere"),
        (replace(say_nan), "holds numbers that are not finite"),
        (replace(say_too_much), "holds numbers that are not finite"),
        (replace(add_an_attribute), "has attributes"),
        (say_it_twice, "is there twice"),
        (go_in_circles, "is there twice"),
    ],
)
def test_a_damaged_weights_file_is_refused_before_anything_is_built(
    preset, damage, message
):
    damage(preset / "model.weights.h5")
    with pytest.raises(ValueError, match=message):
        load(preset)


def test_as_many_weights_of_other_shapes_are_refused(preset):
    with h5py.File(preset / "model.weights.h5", "a") as weights:
        names: list[str] = []
        weights.visit(names.append)
        group = weights[next(n for n in names if n.endswith("embedding/vars"))]
        kernel = group["0"][:]
        del group["0"]
        group["0"] = kernel.T
    with pytest.raises(ValueError, match=r"shape|could not be loaded"):
        load(preset)


class Server:
    """A local https server of a folder, with a certificate of its own."""

    def __init__(self, folder):
        handler = functools.partial(QuietHandler, directory=str(folder))
        self.server = http.server.ThreadingHTTPServer(("localhost", 0), handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(DATA / "localhost.crt", DATA / "localhost.key")
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        # It looks whether to stop every 10 ms, not every half second.
        serve = functools.partial(self.server.serve_forever, poll_interval=0.01)
        threading.Thread(target=serve, daemon=True).start()
        self.folder = folder

    def address(self, name, digest=None):
        content = (self.folder / name).read_bytes()
        digest = digest or hashlib.sha256(content).hexdigest()
        port = self.server.server_address[1]
        return f"https://localhost:{port}/{name}#sha256={digest}"


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(DATA / "localhost.crt"))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "home"))
    folder = tmp_path / "served"
    folder.mkdir()
    server = Server(folder)
    yield server
    server.server.shutdown()
    server.server.server_close()


def pack(file, contents):
    with zipfile.ZipFile(file, "w") as zipped:
        for name, content in contents.items():
            zipped.writestr(name, content)


def preset_contents(preset):
    return {path.name: path.read_bytes() for path in preset.iterdir()}


def test_a_preset_loads_from_an_https_address_and_then_without_it(
    server, preset, tmp_path
):
    pack(server.folder / "mine.zip", preset_contents(preset))
    address = server.address("mine.zip")
    first = load(address)
    server.server.shutdown()
    again = load(address)
    observation = first.sample_observation(2, seed=0)
    np.testing.assert_array_equal(
        first.step(observation, first.initial_state(2))[0],
        again.step(observation, again.initial_state(2))[0],
    )


def test_another_hash_is_refused(server, preset):
    pack(server.folder / "mine.zip", preset_contents(preset))
    with pytest.raises(ValueError, match="SHA-256 hash 0000"):
        load(server.address("mine.zip", "0" * 64))


@pytest.mark.parametrize(
    ("extra", "removed"),
    [("../../escaped.txt", None), ("run.py", None), (None, "config.json")],
)
def test_a_zip_file_of_anything_else_is_refused(
    server, preset, tmp_path, extra, removed
):
    contents = preset_contents(preset)
    contents.pop(removed, None)
    if extra:
        contents[extra] = b"x"
    pack(server.folder / "bad.zip", contents)
    with pytest.raises(ValueError, match=r"Expected a zip file with config\.json"):
        load(server.address("bad.zip"))
    written = [path.name for path in (tmp_path / "home").rglob("*") if path.is_file()]
    assert all(name.endswith(".zip") for name in written)
    assert not list(tmp_path.rglob("escaped.txt"))


@pytest.mark.parametrize("method", [zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_a_zip_file_that_unpacks_without_a_limit_is_refused(server, preset, method):
    with zipfile.ZipFile(server.folder / "bad.zip", "w", method) as zipped:
        for name, content in preset_contents(preset).items():
            zipped.writestr(name, content)
    with pytest.raises(ValueError, match="another way than stored or deflated"):
        load(server.address("bad.zip"))


def test_a_damaged_zip_file_leaves_nothing(server, preset, tmp_path):
    pack(server.folder / "bad.zip", preset_contents(preset))
    content = bytearray((server.folder / "bad.zip").read_bytes())
    content[len(content) // 2] ^= 1  # in the weights, which come last but for a list
    (server.folder / "bad.zip").write_bytes(content)
    with pytest.raises(ValueError, match=r"Expected a zip file .*Bad CRC-32"):
        load(server.address("bad.zip"))
    written = [path.name for path in (tmp_path / "home").rglob("*") if path.is_file()]
    assert all(name.endswith(".zip") for name in written)


def test_no_zip_file_is_refused(server):
    (server.folder / "text.zip").write_text("not a zip file")
    with pytest.raises(ValueError, match="Expected a zip file"):
        load(server.address("text.zip"))


@pytest.mark.parametrize(
    "address",
    [
        "https://localhost/mine.zip",
        "http://localhost/mine.zip#sha256=" + "0" * 64,
        "https://localhost/mine.tar#sha256=" + "0" * 64,
        "https://localhost/mine.zip#sha256=123",
        "hf://alone",
        "ftp://localhost/mine.zip",
    ],
)
def test_an_address_of_another_form_lists_the_legal_ones(address):
    with pytest.raises(ValueError, match=r"https://HOST.*hf://OWNER"):
        load(address)


def test_the_hub_needs_its_package(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "huggingface_hub", None)
    with pytest.raises(ImportError, match="pip install huggingface_hub"):
        load("hf://owner/policy@main")
