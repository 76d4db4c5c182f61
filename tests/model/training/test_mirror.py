import json
import shutil
from hashlib import sha256
from pathlib import Path
from uuid import uuid4

import pytest

from model.training.checkpoint import MANIFEST, MODEL, OPTIMIZER, STATE, checkpoint_path, find_damage
from model.training.left_out import LeftOut, read_left_out, write_left_out
from model.training.mirror import Mirror, restore


def checkpoint(folder: Path, step: int) -> Path:
    """Whole by its manifest; what is in its files does not matter here."""
    path = checkpoint_path(folder, step)
    path.mkdir(parents=True)
    entries: dict[str, dict[str, int | str]] = {}
    for name in (MODEL, OPTIMIZER, "random.safetensors", "guard.safetensors", STATE):
        data = f"{name} of step {step}".encode()
        (path / name).write_bytes(data)
        entries[name] = {"bytes": len(data), "sha256": sha256(data).hexdigest()}
    (path / MANIFEST).write_text(json.dumps({"files": entries}))
    return path


@pytest.fixture(params=["folder", "object storage"])
def mirror(request: pytest.FixtureRequest, tmp_path: Path) -> Mirror:
    return Mirror(str(tmp_path / "second" / "run") if request.param == "folder" else f"memory://bucket-{uuid4().hex}/run")


@pytest.fixture
def local(tmp_path: Path) -> Path:
    return tmp_path / "checkpoints"


def test_machine_that_lost_its_disk_gets_the_newest_checkpoint_back(mirror: Mirror, local: Path) -> None:
    assert mirror.newest() is None
    for step in (10, 20):
        mirror.put(checkpoint(local, step))
    write_left_out(local, [LeftOut(10, 10, 3)])
    mirror.put(checkpoint(local, 30))
    shutil.rmtree(local)
    assert mirror.steps() == [10, 20, 30]
    found = restore(mirror, local)
    assert found == checkpoint_path(local, 30)
    assert find_damage(found) is None
    assert read_left_out(local) == (LeftOut(10, 10, 3),)
    assert [path.name for path in sorted(local.iterdir())] == ["left_out.json", "step-00000030"]


def test_what_is_there_is_not_copied_again(tmp_path: Path, local: Path) -> None:
    mirror, path = Mirror(str(tmp_path / "second")), checkpoint(local, 10)
    mirror.put(path)
    copied = (tmp_path / "second" / path.name / MODEL).stat().st_ino
    mirror.put(path)
    assert (tmp_path / "second" / path.name / MODEL).stat().st_ino == copied


def test_another_checkpoint_of_the_same_step_takes_the_place_of_the_first(mirror: Mirror, local: Path, tmp_path: Path) -> None:
    mirror.put(checkpoint(local, 10))
    other = checkpoint(tmp_path / "again", 10)
    (other / "more.safetensors").write_bytes(b"one file more")
    (other / MANIFEST).write_text((other / MANIFEST).read_text() + " ")
    mirror.put(other)
    assert (mirror.fetch(10, local) / "more.safetensors").read_bytes() == b"one file more"


def test_newer_checkpoint_of_the_disk_is_taken_as_it_is(mirror: Mirror, local: Path) -> None:
    mirror.put(checkpoint(local, 10))
    checkpoint(local, 20)
    assert restore(mirror, local) is None


def test_only_what_is_to_be_kept_stays(mirror: Mirror, local: Path) -> None:
    for step in (10, 20, 30):
        mirror.put(checkpoint(local, step))
    mirror.keep({10, 30, 99})
    assert mirror.steps() == [10, 30]
    with pytest.raises(OSError, match="step-00000020"):
        mirror.fetch(20, local)


def test_copy_that_broke_off_does_not_count_and_is_made_anew(tmp_path: Path, local: Path) -> None:
    mirror, path = Mirror(str(tmp_path / "second")), checkpoint(local, 10)
    mirror.put(path)
    (tmp_path / "second" / path.name / MANIFEST).unlink()
    assert mirror.steps() == []
    mirror.put(path)
    assert mirror.steps() == [10]


def test_damaged_copy_is_passed_over_by_name(tmp_path: Path, local: Path, caplog: pytest.LogCaptureFixture) -> None:
    mirror = Mirror(str(tmp_path / "second"))
    for step in (10, 20):
        mirror.put(checkpoint(local, step))
    (tmp_path / "second" / "step-00000020" / MODEL).write_bytes(b"something else")
    shutil.rmtree(local)
    found = restore(mirror, local)
    assert found == checkpoint_path(local, 10)
    assert f"{tmp_path}/second/step-00000020: {MODEL} has 14 bytes" in caplog.text
    assert not checkpoint_path(local, 20).exists()


@pytest.mark.parametrize("url", ["nosuch://bucket/run", "http://127.0.0.1:9/run"])
def test_place_that_cannot_be_used_is_named(url: str, local: Path) -> None:
    path = checkpoint(local, 10)
    with pytest.raises(OSError, match=f"^{url}"):
        Mirror(url).put(path)


def test_file_in_place_of_a_folder_is_named(tmp_path: Path, local: Path) -> None:
    (tmp_path / "second").write_text("")
    with pytest.raises(OSError, match=f"^{tmp_path}/second"):
        Mirror(str(tmp_path / "second")).put(checkpoint(local, 10))
