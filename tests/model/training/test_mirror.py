import json
import shutil
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from model.training.checkpoint import MANIFEST, MODEL, OPTIMIZER, STATE, checkpoint_path, find_damage
from model.training.left_out import LeftOut, read_left_out, write_left_out
from model.training.mirror import Mirror, restore
from tests.s3_server import BUCKET, Store, s3_store


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


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    s3fs = pytest.importorskip("s3fs")
    with s3_store() as store:
        settings = {
            "AWS_ENDPOINT_URL": store.address,
            "AWS_ACCESS_KEY_ID": "x",
            "AWS_SECRET_ACCESS_KEY": "y",
            "AWS_DEFAULT_REGION": "nowhere",
        }
        for name, value in settings.items():
            monkeypatch.setenv(name, value)
        s3fs.S3FileSystem.clear_instance_cache()
        yield store
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture(params=["folder", "s3"])
def mirror(request: pytest.FixtureRequest, tmp_path: Path) -> Mirror:
    if request.param == "folder":
        return Mirror(str(tmp_path / "second" / "run"))
    request.getfixturevalue("store")
    return Mirror(f"s3://{BUCKET}/some/run")


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


def test_store_that_is_overloaded_is_named_and_what_was_copied_half_does_not_count(store: Store, local: Path) -> None:
    mirror = Mirror(f"s3://{BUCKET}/run")
    mirror.put(checkpoint(local, 10))
    store.refuses = len(store.objects) + 2
    with pytest.raises(OSError, match=f"^s3://{BUCKET}/run/step-00000020: .*(reduce your request rate|Service Unavailable)"):
        mirror.put(checkpoint(local, 20))
    store.refuses = None
    assert [key for key in store.objects if "step-00000020" in key]
    assert mirror.steps() == [10]
    mirror.put(checkpoint_path(local, 20))
    assert mirror.steps() == [10, 20]
    assert {key.partition("/step-")[0] for key in store.objects} == {"run"}


@pytest.mark.parametrize("url", ["nosuch://bucket/run", "http://127.0.0.1:9/run"])
def test_place_that_cannot_be_used_is_named(url: str, local: Path) -> None:
    path = checkpoint(local, 10)
    with pytest.raises(OSError, match=f"^{url}"):
        Mirror(url).put(path)


def test_file_in_place_of_a_folder_is_named(tmp_path: Path, local: Path) -> None:
    (tmp_path / "second").write_text("")
    with pytest.raises(OSError, match=f"^{tmp_path}/second"):
        Mirror(str(tmp_path / "second")).put(checkpoint(local, 10))
