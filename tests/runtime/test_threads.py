"""Thread counts: cgroup quotas, scopes, validation."""

import os
import threading

import pytest

from graphmill.runtime import knobs, threads


def tree(root, files):
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


CPUS = len(os.sched_getaffinity(0))
V1 = "5:cpu,cpuacct:/job\n4:memory:/x\n"


@pytest.mark.parametrize(
    "files, count",
    [
        ({}, CPUS),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000\n"}, CPUS),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "100000 100000\n"}, 1),
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/cpu.max": "50000 100000\n"}, 1),
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/cpu.max": "9900000 100000\n",
          "sys/fs/cgroup/a/cpu.max": "100000 100000\n"}, 1),
        ({"proc/self/cgroup": "0::/../..\n", "sys/fs/cgroup/cpu.max": "1000 100000\n"}, 1),
        ({"proc/self/cgroup": V1, "sys/fs/cgroup/cpu/job/cpu.cfs_quota_us": "100000",
          "sys/fs/cgroup/cpu/job/cpu.cfs_period_us": "100000"}, 1),
        ({"proc/self/cgroup": V1, "sys/fs/cgroup/cpu/job/cpu.cfs_quota_us": "-1",
          "sys/fs/cgroup/cpu/job/cpu.cfs_period_us": "100000"}, CPUS),
        ({"proc/self/cgroup": "broken", "sys/fs/cgroup/cpu.max": "nonsense"}, CPUS),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "150000 100000\n"}, min(2, CPUS)),
    ],
)  # fmt: skip
def test_available(tmp_path, files, count):
    assert threads.available(tree(tmp_path, files)) == count


def test_affinity_counts(tmp_path):
    cpus = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(cpus)})
        assert threads.available(tmp_path) == 1
    finally:
        os.sched_setaffinity(0, cpus)


WRONG = [
    (0, ValueError), (-1, ValueError), (5000, ValueError), (1.5, TypeError), ("2", TypeError),
    (True, TypeError),
]  # fmt: skip


@pytest.mark.parametrize("count, error", WRONG)
def test_wrong_counts(count, error):
    with pytest.raises(error):
        threads.set_num_threads(count)
    with pytest.raises(error), threads.threads(count):
        pass
    assert threads.num_threads() == 2


def test_scopes_nest_and_end_with_errors():
    with threads.threads(5):
        assert threads.num_threads() == 5
        with pytest.raises(KeyError), threads.threads(3):
            assert threads.num_threads() == 3
            raise KeyError
        threads.set_num_threads(7)
        assert threads.num_threads() == 5
    assert threads.num_threads() == 7


def test_scopes_count_for_their_own_thread():
    seen = {}
    inside = threading.Barrier(2)

    def work(count):
        with threads.threads(count):
            inside.wait(100)
            seen[count] = threads.num_threads()
            inside.wait(100)

    workers = [threading.Thread(target=work, args=(k,)) for k in (3, 4)]
    for w in workers:
        w.start()
    for w in workers:
        w.join()
    assert seen == {3: 3, 4: 4} and threads.num_threads() == 2


def test_the_environment_sets_the_default(monkeypatch):
    monkeypatch.setenv("GRAPHMILL_NUM_THREADS", "6")
    monkeypatch.setattr(threads, "_chosen", None)
    assert threads.num_threads() == 6
    monkeypatch.setattr(threads, "_chosen", None)
    monkeypatch.setenv("GRAPHMILL_NUM_THREADS", "many")
    with pytest.raises(knobs.KnobError, match=r"GRAPHMILL_NUM_THREADS='many'"):
        threads.num_threads()
    monkeypatch.setattr(threads, "_chosen", 2)
