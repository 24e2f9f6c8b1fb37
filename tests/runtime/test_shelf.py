"""Packed weights on disk: what is read is what was kept, whatever happens to the files."""

import itertools
import json
import mmap
import multiprocessing
import os
import shutil
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from graphmill.runtime import shelf
from graphmill.runtime.blocks import StoppedError, Writing
from graphmill.runtime.cache import CacheWarning
from graphmill.runtime.shelf import Shelf

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="says what Linux does")
KEYS = [character * 64 for character in "abcdef"]
SIZE = (20 << 20) + 640  # two whole blocks, and a part of one


def in_turn(tasks):
    for task in tasks:
        task()


def content(seed=0, size=SIZE):
    return np.random.default_rng(seed).integers(0, 256, size, np.uint8)


def pieces(array, gap=0):
    """An array in three parts; between the first two, so many bytes are left out."""
    cuts = [0, 1000 * 64, 9 << 20, array.size]
    return [
        (start, array[start : stop - (gap if start == 0 else 0)].data)
        for start, stop in itertools.pairwise(cuts)
    ]


def keep(made, key, size, pieces):
    return made.keep(key, size, Writing(size, pieces))


def kept(folder, limit=1 << 30, array=None, key=KEYS[0]):
    made = Shelf(folder, limit)
    array = content() if array is None else array
    assert keep(made, key, array.size, pieces(array))
    return made


def found(of, key=KEYS[0], size=SIZE):
    view = of.find(key, size, in_turn)
    return None if view is None else np.frombuffer(view, np.uint8)


def file_of(folder, key=KEYS[0]):
    return folder / f"{key}.gmw"


def test_what_is_kept_is_found(tmp_path):
    made = kept(tmp_path / "new")
    assert np.array_equal(found(made), content())
    assert np.array_equal(found(Shelf(tmp_path / "new", 1)), content())
    assert not found(made).flags.writeable
    assert found(made, KEYS[1]) is None
    assert made.info() == (1, SIZE)


def test_gaps_are_zeros(tmp_path):
    array = content()
    made = Shelf(tmp_path, 1 << 30)
    assert keep(made, KEYS[0], SIZE, pieces(array, gap=60))
    array[1000 * 64 - 60 : 1000 * 64] = 0
    assert np.array_equal(found(made), array)


def test_it_is_compared_once_for_each_file_and_boot(tmp_path, monkeypatch):
    compared = []
    real = shelf._digests
    monkeypatch.setattr(shelf, "_digests", lambda *args: compared.append(1) or real(*args))
    made = kept(tmp_path)
    for _ in range(2):
        assert found(made) is not None
    assert not compared
    monkeypatch.setattr(shelf, "_boot", lambda: "another")
    for _ in range(2):
        assert found(made) is not None
    assert len(compared) == 1
    monkeypatch.setattr(shelf, "_boot", lambda: "")
    for _ in range(2):
        assert found(made) is not None
    assert len(compared) == 3


def flipped(path):
    os.chmod(path, 0o600)
    with open(path, "r+b") as file:
        file.seek(SIZE - 5)
        byte = file.read(1)[0]
        file.seek(SIZE - 5)
        file.write(bytes([byte ^ 1]))


def flipped_with_its_old_time(path):
    status = path.stat()
    flipped(path)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def cut(path):
    os.chmod(path, 0o600)
    os.truncate(path, SIZE // 2)


def grown(path):
    os.chmod(path, 0o600)
    with open(path, "ab") as file:
        file.write(b"\0")


def replaced(path):
    path.unlink()
    path.write_bytes(bytes(SIZE))


def emptied(path):
    path.unlink()
    path.touch()


@pytest.mark.parametrize(
    "damage", [flipped, flipped_with_its_old_time, cut, grown, replaced, emptied]
)
def test_damage_is_noticed_and_made_good(damage, tmp_path):
    made = kept(tmp_path)
    damage(file_of(tmp_path))
    with pytest.warns(CacheWarning, match="damaged"):
        assert found(made) is None
    assert not list(tmp_path.iterdir())
    assert keep(made, KEYS[0], SIZE, pieces(content()))
    assert np.array_equal(found(made), content())


def test_a_copy_elsewhere_is_compared_and_used(tmp_path):
    kept(tmp_path / "one")
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    os.chmod(tmp_path / "two", 0o700)
    assert np.array_equal(found(Shelf(tmp_path / "two", 1 << 30)), content())


@pytest.mark.parametrize("missing", ["gmw", "gmc"])
def test_half_an_entry_is_none(missing, tmp_path):
    made = kept(tmp_path)
    (tmp_path / f"{KEYS[0]}.{missing}").unlink()
    assert found(made) is None


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"blocks": 3, "seen": null}', '{"blocks": []}'])
def test_an_entry_that_makes_no_sense_is_none(text, tmp_path):
    made = kept(tmp_path)
    made._entries.put(KEYS[0], text.encode())
    if "seen" in text:
        with pytest.warns(CacheWarning, match="damaged"):
            assert found(made) is None
    else:
        assert found(made) is None


def test_it_cannot_be_written_to_by_mistake(tmp_path):
    kept(tmp_path)
    assert file_of(tmp_path).stat().st_mode & 0o777 == 0o400


def test_what_is_mapped_outlives_its_file(tmp_path):
    made = kept(tmp_path)
    array = found(made)
    assert made.clear() == 1
    assert found(made) is None and made.info() == (0, 0)
    assert np.array_equal(array, content())


def test_those_unused_for_longest_make_room(tmp_path):
    limit = 3 * SIZE + 100
    made = Shelf(tmp_path, limit)
    for age, key in enumerate(KEYS[:3]):
        assert keep(made, key, SIZE, pieces(content(age)))
        os.utime(tmp_path / f"{key}.gmc", (age + 1, age + 1))
    assert found(made, KEYS[0]) is not None  # used now
    assert keep(made, KEYS[3], SIZE, pieces(content(3)))
    assert found(made, KEYS[1]) is None
    for seed in (0, 2, 3):
        assert np.array_equal(found(made, KEYS[seed]), content(seed))
    assert not keep(made, KEYS[4], limit + 1, [])
    assert made.info() == (3, 3 * SIZE)


def test_a_short_disk_is_left_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(shelf, "_free", lambda folder: 8 * SIZE - 1)
    made = Shelf(tmp_path, 1 << 30)
    assert not keep(made, KEYS[0], SIZE, pieces(content()))
    assert not list(tmp_path.iterdir())


def test_a_full_disk_leaves_nothing(tmp_path, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    made = Shelf(tmp_path, 1 << 30)
    with pytest.warns(CacheWarning, match="No space left"):
        assert not keep(made, KEYS[0], SIZE, pieces(content()))
    assert not list(tmp_path.iterdir())


def test_files_that_are_not_in_memory_are_fetched_for_later(tmp_path, monkeypatch):
    fetched, fetch = threading.Event(), shelf._fetch
    made = kept(tmp_path)
    with open(file_of(tmp_path), "rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    monkeypatch.setattr(shelf, "_fetch", lambda view: fetch(view) or fetched.set())
    monkeypatch.setattr(shelf, "_resident", lambda found: 0.5)
    assert found(made) is None
    assert fetched.wait(100)
    monkeypatch.undo()
    with open(file_of(tmp_path), "rb") as file:
        mapped = memoryview(mmap.mmap(file.fileno(), SIZE, prot=mmap.PROT_READ))
    assert shelf._resident(mapped) == 1
    # the disk may have lost a bit of it meanwhile
    compared, real = [], shelf._digests
    monkeypatch.setattr(shelf, "_digests", lambda *args: compared.append(1) or real(*args))
    assert np.array_equal(found(made), content()) and len(compared) == 1
    assert np.array_equal(found(made), content()) and len(compared) == 1


def test_resident_says_what_the_page_cache_holds(tmp_path):
    made = kept(tmp_path)
    view = made.find(KEYS[0], SIZE, in_turn)
    assert shelf._resident(view) == 1
    del view
    with open(file_of(tmp_path), "rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        mapped = memoryview(mmap.mmap(file.fileno(), SIZE, prot=mmap.PROT_READ))
    if shelf._resident(mapped) == 1:
        pytest.skip("this file system lives in memory")
    assert shelf._resident(mapped) < 0.5


def test_a_folder_that_others_can_write_to_is_not_used(tmp_path):
    kept(tmp_path)
    os.chmod(tmp_path, 0o777)
    made = Shelf(tmp_path, 1 << 30)
    with pytest.warns(CacheWarning, match="other users"):
        assert found(made) is None
    assert not keep(made, KEYS[1], SIZE, pieces(content()))


def test_another_writer_is_not_disturbed(tmp_path):
    import fcntl

    made = Shelf(tmp_path, 1 << 30)
    unfinished = tmp_path / f".{KEYS[0]}.gmw.tmp"
    with open(unfinished, "w+b") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        other.write(b"half")
        other.flush()
        assert not keep(made, KEYS[0], SIZE, pieces(content()))
        assert unfinished.read_bytes() == b"half"
    # that one has died
    assert keep(made, KEYS[0], SIZE, pieces(content()))
    assert np.array_equal(found(made), content()) and not unfinished.exists()


def test_a_folder_that_goes_away_while_it_is_written_to(tmp_path, monkeypatch):
    folder, pwrite = tmp_path / "there", os.pwrite

    def deleting(*args):
        shutil.rmtree(folder, ignore_errors=True)
        return pwrite(*args)

    made = Shelf(folder, 1 << 30)
    monkeypatch.setattr(os, "pwrite", deleting)
    assert not keep(made, KEYS[0], SIZE, pieces(content()))
    monkeypatch.undo()
    assert keep(made, KEYS[0], SIZE, pieces(content()))
    assert np.array_equal(found(made), content())


def test_a_read_only_folder_is_read(tmp_path, monkeypatch):
    made = kept(tmp_path)
    monkeypatch.setattr(Shelf, "_writable", lambda self: False)
    assert not keep(made, KEYS[1], SIZE, pieces(content()))
    monkeypatch.setattr(shelf, "_boot", lambda: "another")
    before = (tmp_path / f"{KEYS[0]}.gmc").read_bytes()
    assert np.array_equal(found(made), content())
    assert (tmp_path / f"{KEYS[0]}.gmc").read_bytes() == before


def keep_and_find(folder: Path, seconds: float, number: int) -> None:
    import time

    made = Shelf(folder, 2 * SIZE + 100)
    end = time.monotonic() + seconds
    turn = number
    while time.monotonic() < end:
        seed = turn % 4
        turn += 1
        keep(made, KEYS[seed], SIZE, pieces(content(seed)))
        array = found(made, KEYS[seed])
        assert array is None or np.array_equal(array, content(seed))
        if turn % 7 == 0:
            made.clear()


def test_processes_share_and_delete(tmp_path):
    context = multiprocessing.get_context("spawn")
    workers = [
        context.Process(target=keep_and_find, args=(tmp_path, 2.0, number)) for number in range(3)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0, 0]


def test_entries_are_small(tmp_path):
    kept(tmp_path)
    text = (tmp_path / f"{KEYS[0]}.gmc").read_bytes()[40:]
    assert len(json.loads(text)["blocks"]) == 3 and len(text) < 500


def test_whoever_helps_writes_a_part(tmp_path, monkeypatch):
    """The first block takes its thread long; the helper writes the others."""
    array, made, writers = content(size=8 * SIZE), Shelf(tmp_path, 1 << 30), []
    real, go_on = Writing._write_block, threading.Event()

    def write_block(self, *args):
        if threading.current_thread() is not threading.main_thread():
            assert go_on.wait(100)
        writers.append(threading.current_thread())
        written = real(self, *args)
        if threading.current_thread() is threading.main_thread():
            go_on.set()
        return written

    monkeypatch.setattr(Writing, "_write_block", write_block)
    writing = Writing(array.size, pieces(array))
    thread = threading.Thread(target=made.keep, args=(KEYS[0], array.size, writing))
    thread.start()
    writing.help(100)
    thread.join(100)
    assert len(writers) == -(-array.size // (8 << 20))
    assert threading.main_thread() in writers
    assert bytes(found(made, size=array.size)) == array.tobytes()
    writing.help(60)  # that is over


@pytest.mark.parametrize("begun", [True, False])
def test_what_takes_too_long_is_given_up(begun, tmp_path):
    array, made = content(), Shelf(tmp_path, 1 << 30)
    writing = Writing(array.size, pieces(array))
    writing.help(0.0)
    if begun:
        assert not made.keep(KEYS[0], array.size, writing)
    else:
        with pytest.raises(StoppedError), (tmp_path / "file").open("wb") as file:
            writing.write(file.fileno())
    assert not list(tmp_path.glob("*.gmw")) and not list(tmp_path.glob(".*.tmp"))


def test_nobody_waits_for_what_was_never_written(tmp_path):
    made, writing = Shelf(tmp_path, 100), Writing(SIZE, [])
    assert not made.keep(KEYS[0], SIZE, writing)
    writing.help(60)
