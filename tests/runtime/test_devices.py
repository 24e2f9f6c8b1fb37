"""The device registry."""

import numpy as np
import pytest

from graphmill.runtime import devices
from tests.runtime.handwritten import add_artifact


def test_cpu():
    cpu = devices.device("cpu")
    assert cpu is devices.device() and devices.devices()[0] is cpu
    assert repr(cpu) == "<device cpu>"
    assert set(cpu.describe()) == {"model", "threads", "memory"} and all(cpu.describe().values())
    x = np.arange(4, dtype=np.float32)
    assert cpu.put(x) is x and cpu.get(x) is x
    cpu.synchronize()
    np.testing.assert_array_equal(cpu.load(add_artifact((4,))).run(x, x)[0], x + x)


def test_unknown_device():
    with pytest.raises(ValueError, match=r"no device 'gpu' here; there is: cpu"):
        devices.device("gpu")


def test_registration(monkeypatch):
    class Other(devices.Cpu):
        name = "other:0"

    monkeypatch.setattr(devices, "_providers", dict(devices._providers))
    monkeypatch.setattr(devices, "_found", dict(devices._found))
    devices.register("other", lambda: [Other()])
    assert [d.name for d in devices.devices()] == ["cpu", "other:0"]
    assert devices.device("other:0") is devices.device("other:0")
    with pytest.raises(TypeError, match="abstract"):
        devices.Device()
