"""Files that cannot be written: said before the work, and no weight is lost where it is late."""

import re
import resource
import shutil
import tempfile
from pathlib import Path

import pytest
from learning_support import network, samples
from small_models import digits

from gategrad import GategradError, cli, cli_train, files, learning_loop
from gategrad.learning_loop import Interrupted, learn
from gategrad.model import Model

NETWORK = """
trainable = true
[input]
shape = [64]
format = "UQ1.4"
[[layers]]
type = "dense"
units = 10
[train]
epochs = 1
[learn]
epochs = 1
rate = 0.25
"""
TRAIN = "train net.toml --data digits -o {} {}"
BACKENDS = pytest.mark.parametrize("backend", ["", "--backend numpy"])


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """The present folder, and that of what is temporary."""
    work, temporary = tmp_path / "work", tmp_path / "temporary"
    for folder in (work, temporary):
        folder.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    Path("net.toml").write_text(NETWORK)
    return work, temporary


def gategrad(line: str, capfd) -> tuple[int, str]:
    """Status and the last line of standard error."""
    with pytest.raises(SystemExit) as stop:
        cli.main(line.split())
    lines = capfd.readouterr().err.splitlines()
    return stop.value.code, lines[-1] if lines else ""


def rescued(line: str, reason: str, temporary: Path, capfd) -> Model:
    status, said = gategrad(line, capfd)
    found = re.fullmatch(rf"gategrad: .*: cannot be written: {reason}; the model is in (\S+)", said)
    assert status == 2 and found, said
    path = Path(found[1])
    assert path.is_relative_to(temporary)
    return Model.load(path)


@BACKENDS
def test_a_model_that_finds_the_disk_full_is_elsewhere(backend, folders, capfd):
    assert gategrad(TRAIN.format("good.npz", backend), capfd)[0] == 0
    Path("full.npz").symlink_to("/dev/full")
    found = rescued(
        TRAIN.format("full.npz", backend), "No space left on device", folders[1], capfd
    )
    assert found.hash == Model.load("good.npz").hash
    assert Path("full.npz").is_char_device(), "a device was replaced by a file"
    line = "quantise good.npz --data digits --weight-bits 4 -o full.npz"
    narrow = rescued(line, "No space left on device", folders[1], capfd)
    assert narrow.nodes[-1].spec.weight.width == 4


def test_a_folder_that_is_gone_by_the_end(folders, capfd, monkeypatch):
    class Stages(cli_train.Stages):
        def __call__(self, *said):
            shutil.rmtree("gone", ignore_errors=True)

    Path("gone").mkdir()
    monkeypatch.setattr(cli_train, "Stages", Stages)
    line = TRAIN.format("gone/m.npz", "--backend numpy")
    assert rescued(line, "No such file or directory", folders[1], capfd).params


@BACKENDS
def test_a_folder_that_takes_no_files_is_named_before_the_run(backend, folders, capfd, monkeypatch):
    monkeypatch.setattr(cli_train, "load_data", None)  # nothing is begun
    status, said = gategrad(TRAIN.format("/proc/m.npz", backend), capfd)
    assert status == 2 and said.startswith("gategrad: /proc/m.npz: cannot be written: ")


def test_devices_are_written_to(folders, capfd):
    Path("null.npz").symlink_to("/dev/null")
    assert gategrad(TRAIN.format("null.npz", ""), capfd)[0] == 0
    assert Path("null.npz").is_char_device()


def test_the_next_folder_with_room_is_taken(folders, monkeypatch):
    work, temporary = folders
    monkeypatch.setattr(files, "ELSEWHERE", (None, "nowhere", "~"))
    monkeypatch.setenv("HOME", str(work))
    model = digits()
    error = GategradError("m.npz: cannot be written")
    held = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, held[1]))  # no disk has room
        with pytest.raises(GategradError, match="cannot be written: File too large"):
            model.save("m.npz")
        with pytest.raises(GategradError) as raised:
            files.save_elsewhere("m.npz", model.save, error)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, held)
    assert raised.value is error
    assert not any(temporary.iterdir()) and {p.name for p in work.iterdir()} == {"net.toml"}

    def nearly(path):
        if path.is_relative_to(temporary):
            raise error
        model.save(path)

    found = files.save_elsewhere("m.npz", nearly, error)
    assert Model.load(found).hash == model.hash and not any(temporary.iterdir())
    assert found.parent.parent == work


def test_an_interrupted_run_whose_checkpoint_does_not_fit(folders, monkeypatch):
    def stop(stage, share, note=""):
        if stage == "learning":
            raise KeyboardInterrupt

    monkeypatch.setattr(learning_loop, "PIECE", 16)
    net, data = network("dense"), samples()
    with pytest.raises(Interrupted, match=r"--resume \S+/gone\.npz$") as raised:
        learn(net, data, rescue="nowhere/gone.npz", progress=stop)
    path = Path(str(raised.value).split()[-1])
    assert path.is_relative_to(folders[1])
    whole = learn(net, data)
    resumed = learn(net, data, resume=path)
    assert 0 < resumed.samples < whole.samples
    assert resumed.model.hash == whole.model.hash
