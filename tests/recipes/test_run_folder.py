"""A run lies in a folder of its own."""

import signal
import subprocess
import sys
import tempfile

import pytest
import torch

from lexiseg.errors import ConfigError, LexisegError
from lexiseg.interruption import run_command
from lexiseg.recipes.run_folder import RunFolder, differences, require_output_dir, require_run_name
from lexiseg.training.checkpointing import BEST, LAST


@pytest.mark.parametrize("name", ["mine", "tables/first", "a..b", "ünlü"])
def test_names_of_runs(name):
    require_run_name(name)


@pytest.mark.parametrize("name", ["", ".", "./", "..", "../../x", "a/../../b", "/tmp/x", None, 7])
def test_names_that_lead_elsewhere(name):
    with pytest.raises(
        ConfigError, match=r"name: expected the name of a run's own folder.*output_dir=FOLDER"
    ):
        require_run_name(name)


@pytest.mark.parametrize("folder", ["", "  ", None])
def test_no_folder(folder):
    with pytest.raises(ConfigError, match="output_dir: expected a folder"):
        require_output_dir(folder)


def _stopped(folder, resume_from, capsys, saved=None, name=LAST, how="go on"):
    """What is said of a run that is stopped, after it has saved a checkpoint of some step."""

    def work():
        with folder.keeping(resume_from):
            if saved is not None:
                _checkpoint(folder.path / name, saved)
            signal.raise_signal(signal.SIGTERM)
        return 0

    assert run_command(work, ["lexiseg", "train", "resume=false"], program=False) == 143
    return capsys.readouterr().err.removeprefix("lexiseg: interrupted; ").rstrip().split(f"; {how} with: ")


def _checkpoint(path, step):
    torch.save({"global_step": step, "state_dict": {"w": torch.zeros(3, 5)}}, path)


def test_a_run_stopped_before_its_first_checkpoint(tmp_path, capsys):
    folder = RunFolder(tmp_path, False, {})
    assert _stopped(folder, None, capsys, how="begin anew") == [
        f"no checkpoint in {tmp_path} yet",
        "lexiseg train resume=false",
    ]


def test_a_checkpoint_of_an_earlier_run_is_not_this_one_s(tmp_path, capsys):
    _checkpoint(tmp_path / LAST, 7)
    told, command = _stopped(RunFolder(tmp_path, False, {}), None, capsys, how="begin anew")
    assert told == f"no checkpoint in {tmp_path} yet"
    assert command == "lexiseg train resume=false"


def test_a_run_that_has_saved_goes_on_from_there(tmp_path, capsys):
    _checkpoint(tmp_path / LAST, 7)
    told, command = _stopped(RunFolder(tmp_path, False, {}), None, capsys, saved=11)
    assert told == f"step 11 is kept in {tmp_path / LAST}"
    assert command == "lexiseg train resume=auto", "the command as typed would start anew"


def test_a_run_whose_only_checkpoint_is_the_best(tmp_path, capsys):
    folder = RunFolder(tmp_path, "auto", {})
    told, command = _stopped(folder, None, capsys, saved=5, name=BEST, how="begin anew")
    assert told == f"the best so far is kept in {tmp_path / BEST}, and no {LAST} to go on from yet"
    assert command == "lexiseg train resume=false"
    told, _ = _stopped(folder, None, capsys, how="begin anew")
    assert told == f"no checkpoint in {tmp_path} yet", "the best of the run before is not this one's"


def test_a_run_that_came_from_elsewhere_goes_on_from_there(tmp_path, capsys):
    folder = RunFolder(tmp_path, str(tmp_path / "other.ckpt"), {})
    told, _ = _stopped(folder, tmp_path / "other.ckpt", capsys, saved=5, name=BEST)
    assert told.startswith("the best so far")


def test_a_resumed_run_keeps_what_it_came_from(tmp_path, capsys):
    _checkpoint(tmp_path / LAST, 7)
    told, _ = _stopped(RunFolder(tmp_path, "auto", {}), tmp_path / LAST, capsys)
    assert told == f"step 7 is kept in {tmp_path / LAST}"


def test_a_key_of_the_users_own_that_is_gone():
    before = {"train": {"id_map": {0: 0, 7: 1}, "old_setting": 3}}
    now = {"train": {"id_map": {0: 0}}}
    assert differences(before, now, "data") == ["data.train.id_map.7: 1 there, absent now"]
    assert differences(now, before, "data")[0] == "data.train.id_map.7: absent there, 1 now"
    assert differences(before, before, "data") == []


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "out").write_text("in the way")
    with pytest.raises(LexisegError, match="cannot write .*out.*choose another folder"):
        RunFolder(tmp_path / "out", "auto", {}).open(None, 0)


@pytest.mark.slow
def test_two_runs_at_once_into_one_folder(tmp_path, monkeypatch):
    holder = (
        "import sys; from pathlib import Path; from lexiseg.recipes.run_folder import RunFolder\n"
        f"with RunFolder(Path({str(tmp_path)!r}), 'auto', {{}}).held(): print('held', flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", holder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    told = rf"another run \(process {process.pid}\) is at work in"
    with pytest.raises(ConfigError, match=told), RunFolder(tmp_path, "auto", {}).held():
        pass
    with RunFolder(tmp_path / "other", "auto", {}).held():
        pass
    process.kill()
    process.communicate()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    with RunFolder(tmp_path, "auto", {}).held(), RunFolder(tmp_path / "again", "auto", {}).held():
        assert [path.name for path in tmp_path.iterdir()] == ["tmp"], "the lock lies elsewhere"
        assert len(list((tmp_path / "tmp").iterdir())) == 2
    assert list((tmp_path / "tmp").iterdir()) == []
