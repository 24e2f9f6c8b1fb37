"""The compile cache: damage, limits, races, packs; whatever happens, right bytes or none."""

import multiprocessing
import os
import random
import shutil
import sys
import time
import warnings

import pytest

from graphmill.runtime import cache, knobs
from graphmill.runtime.cache import Cache, CacheWarning, PackError, key_of
from tests.runtime.test_artifact import SAMPLE

KEYS = [key_of(str(k)) for k in range(50)]


@pytest.fixture
def store(tmp_path):
    return Cache(tmp_path / "cache", 1 << 20)


def entry(store, key):
    return store.folder / f"{key}.gmc"


def test_round_trip(store):
    assert store.get(KEYS[0]) is None and not store.folder.exists()
    for content in (b"", b"x", bytes(100_000)):
        store.put(KEYS[0], content)
        assert store.get(KEYS[0]) == content
    assert Cache(store.folder, 1 << 20).get(KEYS[0]) == bytes(100_000)
    info = store.info()
    assert (info.entries, info.hits, info.misses) == (1, 3, 1)
    assert info.bytes > 100_000
    assert store.clear() == 1 and store.info().entries == 0


def test_artifacts(store):
    store.put(KEYS[0], SAMPLE.to_bytes())
    assert store.artifact(KEYS[0]) == SAMPLE
    assert store.artifact(KEYS[1]) is None
    store.put(KEYS[1], b"sound entry, but no artifact")
    with pytest.warns(CacheWarning, match="dropped"):
        assert store.artifact(KEYS[1]) is None
    assert not entry(store, KEYS[1]).exists()


def damage(kind, path, store):
    data = path.read_bytes()
    if kind == "flip":
        at = random.Random(len(data)).randrange(len(data))
        path.write_bytes(data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :])
    elif kind == "cut":
        path.write_bytes(data[:-3])
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "longer":
        path.write_bytes(data + b"x")
    elif kind == "other entry":
        store.put(KEYS[9], b"other")
        path.write_bytes(entry(store, KEYS[9]).read_bytes())


@pytest.mark.parametrize("kind", ["flip", "cut", "empty", "longer", "other entry"])
def test_damaged_entries_are_dropped_and_rebuilt(store, kind):
    store.put(KEYS[0], b"content" * 50)
    damage(kind, entry(store, KEYS[0]), store)
    with pytest.warns(CacheWarning, match="damaged"):
        assert store.get_or_build(KEYS[0], lambda: b"built again") == b"built again"
    assert store.get_or_build(KEYS[0], lambda: 1 / 0) == b"built again"


@pytest.mark.parametrize("key", ["", "x", "../" + "a" * 61, "A" * 64, "a" * 63 + "/", "a" * 65])
def test_keys_cannot_leave_the_folder(store, key):
    with pytest.raises(ValueError, match="64 hexadecimal"):
        store.get(key)
    with pytest.raises(ValueError, match="64 hexadecimal"):
        store.put(key, b"")


def test_the_longest_unused_entries_go_first(tmp_path):
    store = Cache(tmp_path / "c", 10_000)
    for k in range(9):
        store.put(KEYS[k], bytes(1000))
        os.utime(entry(store, KEYS[k]), (1000 + k, 1000 + k))
    assert store.get(KEYS[0]) is not None
    store.put(KEYS[20], bytes(1000))
    store.put(KEYS[21], bytes(1000))
    assert store.info().bytes <= 10_000
    assert store.get(KEYS[0]) is not None and store.get(KEYS[21]) is not None
    assert store.get(KEYS[1]) is None and store.get(KEYS[8]) is not None


def test_an_entry_beyond_the_limit_is_not_stored(tmp_path):
    store = Cache(tmp_path / "c", 100)
    store.put(KEYS[0], bytes(200))
    assert store.get(KEYS[0]) is None


def test_leftovers_of_dead_writers_go(store):
    store.put(KEYS[0], b"x")
    old, new = store.folder / ".old.tmp", store.folder / ".new.tmp"
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (time.time() - 9000,) * 2)
    store.put(KEYS[1], b"y")
    assert not old.exists() and new.exists()


def test_a_folder_that_others_can_write_is_not_used(store):
    store.folder.mkdir()
    store.folder.chmod(0o777)
    with pytest.warns(CacheWarning, match="other users"):
        store.put(KEYS[0], b"x")
    assert list(store.folder.iterdir()) == []
    assert store.get(KEYS[0]) is None


def test_new_folders_are_private(store):
    store.put(KEYS[0], b"x")
    assert store.folder.stat().st_mode & 0o777 == 0o700
    assert entry(store, KEYS[0]).stat().st_mode & 0o077 == 0


def test_a_folder_that_cannot_be_made_gives_one_warning(tmp_path):
    (tmp_path / "file").write_text("")
    store = Cache(tmp_path / "file" / "cache", 1000)
    with pytest.warns(CacheWarning):
        assert store.get_or_build(KEYS[0], lambda: b"x") == b"x"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert store.get_or_build(KEYS[0], lambda: b"x") == b"x"


def test_pack_and_unpack(store, tmp_path):
    for k in range(5):
        store.put(KEYS[k], bytes([k]) * k)
    assert store.pack(tmp_path / "all.pack") == 5
    other = Cache(tmp_path / "other", 1 << 20)
    assert other.unpack(tmp_path / "all.pack") == 5
    assert [other.get(KEYS[k]) for k in range(5)] == [bytes([k]) * k for k in range(5)]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["all.pack", "cache", "other"]


DAMAGES = [
    lambda d: d[:-1], lambda d: d[:20], lambda d: b"PK" + d, lambda d: d + b"x", lambda d: b"",
    lambda d: d[:100] + b"?" + d[101:], lambda d: d[:72] + b"\xff" * 8 + d[80:],
]  # fmt: skip


@pytest.mark.parametrize("change", DAMAGES)
def test_damaged_packs_import_nothing(store, tmp_path, change):
    for k in range(3):
        store.put(KEYS[k], b"content")
    store.pack(tmp_path / "p")
    (tmp_path / "p").write_bytes(change((tmp_path / "p").read_bytes()))
    other = Cache(tmp_path / "other", 1 << 20)
    with pytest.raises(PackError):
        other.unpack(tmp_path / "p")
    assert other.info().entries == 0


def test_a_folder_that_was_deleted_is_made_anew(store, recwarn):
    store.put(KEYS[0], b"before")
    shutil.rmtree(store.folder)
    assert store.get(KEYS[0]) is None
    store.put(KEYS[0], b"after")
    assert store.get(KEYS[0]) == b"after" and not recwarn


def test_a_folder_that_is_deleted_all_the_time_does_no_harm(store, recwarn, monkeypatch):
    replace = os.replace

    def deleting(*args):
        shutil.rmtree(store.folder)
        return replace(*args)

    monkeypatch.setattr(os, "replace", deleting)
    store.put(KEYS[0], b"lost")
    monkeypatch.undo()
    assert store.get(KEYS[0]) is None and not recwarn
    store.put(KEYS[0], b"kept")
    assert store.get(KEYS[0]) == b"kept"


def hammer(folder, seed, rounds, failures):
    """One process of many that read, write, damage and evict in one folder."""
    warnings.simplefilter("ignore", CacheWarning)
    store = Cache(folder, 30_000)
    pick = random.Random(seed)
    for _ in range(rounds):
        k = pick.randrange(20)
        found = store.get(KEYS[k])
        if found is not None and found != bytes([k]) * 2000:
            failures.put(k)
        store.put(KEYS[k], bytes([k]) * 2000)
        if pick.random() < 0.05:
            path = entry(store, KEYS[pick.randrange(20)])
            if path.exists():
                path.write_bytes(b"damage")


def test_many_processes_share_one_cache(tmp_path):
    context = multiprocessing.get_context("spawn" if sys.platform == "darwin" else "forkserver")
    failures = context.Queue()
    workers = [
        context.Process(target=hammer, args=(tmp_path / "c", seed, 150, failures))
        for seed in range(3)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(200)
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    assert failures.empty()
    store = Cache(tmp_path / "c", 30_000)
    assert store.info().bytes <= 40_000
    assert not [p for p in store.folder.iterdir() if p.suffix == ".tmp"]


def test_key_parts_keep_their_boundaries():
    keys = {key_of("ab", "c"), key_of("a", "bc"), key_of("abc"), key_of(b"abc"), key_of("abc", "")}
    assert len(keys) == 5


def test_default_follows_the_knobs(tmp_path):
    with knobs.scope(cache_dir=tmp_path / "a", cache_size="5k"):
        first = cache.default()
        assert first is not None and first is cache.default()
        assert (first.folder, first.limit) == (tmp_path / "a", 5120)
        with knobs.scope(cache=False):
            assert cache.default() is None
