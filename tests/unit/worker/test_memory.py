"""What a worker can say of its memory."""

from __future__ import annotations

import copy
import mmap
import sys
from types import SimpleNamespace

import numpy as np
import torch

from mmlab.events import UNKNOWN, Memory
from mmlab.worker.memory import (
    _CHANGE_BYTES,
    MemorySampler,
    _device_bytes,
    _QuietReader,
    _rss_bytes,
)
from mmlab.worker.sizes import _model_bytes
from tests.waiting import wait_for


def test_resident_set_size_grows_with_what_is_held():
    before = _rss_bytes()
    with mmap.mmap(-1, 40_000_000) as held:  # new pages, where a heap may have some to spare
        held.write(b"x" * len(held))
        assert _rss_bytes() - before > 20_000_000


def test_so_it_does_where_no_other_thread_may_run_meanwhile():
    reader = _QuietReader()
    assert reader.rss_bytes() is None  # it opens nothing by itself
    reader.prepare()
    before = reader.rss_bytes()
    with mmap.mmap(-1, 40_000_000) as held:
        held.write(b"x" * len(held))
        assert reader.rss_bytes() - before > 20_000_000
    assert abs(reader.rss_bytes() - _rss_bytes()) < 20_000_000


def test_model_bytes_counts_shared_storage_once():
    model = torch.nn.Sequential(torch.nn.Linear(10, 10), torch.nn.Linear(10, 10))
    assert _model_bytes(model) == 2 * (100 + 10) * 4
    model[1].weight = model[0].weight
    assert _model_bytes(model) == (100 + 10 + 10) * 4
    model.register_buffer("mean", torch.zeros(7, dtype=torch.float64))
    assert _model_bytes(model) == (100 + 10 + 10) * 4 + 56
    assert _model_bytes(np.zeros(3)) == 24
    assert _model_bytes(object()) is UNKNOWN


def test_gpu_memory_is_summed_over_devices_and_never_starts_cuda(monkeypatch):
    assert _device_bytes() is None
    used = [100, 23]
    cuda = SimpleNamespace(
        is_initialized=lambda: True,
        device_count=lambda: len(used),
        memory_allocated=lambda device: used[device],
    )
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    assert _device_bytes() == 123


def test_the_sampler_reports_first_last_and_changes(monkeypatch):
    # The process itself may have threads of other tests, whose memory comes and goes.
    now, samples = Memory(rss=100_000_000), []
    reports = []

    def sample():
        samples.append(copy.copy(now))
        return samples[-1]

    def sampled_again():
        """Wait for a sample that was begun, and reported, after now."""
        seen = len(samples)
        wait_for(lambda: len(samples) > seen + 1)

    monkeypatch.setattr("mmlab.worker.memory._QUIET_SECONDS", float("inf"))
    monkeypatch.setattr("mmlab.worker.memory.sample", sample)
    sampler = MemorySampler(reports.append, ended=lambda: False, seconds=0.01)
    sampled_again()
    now.rss += _CHANGE_BYTES
    sampled_again()
    sampler.stop()
    assert not sampler.is_alive()
    first, changed, last = (report.rss for report in reports)
    assert (first, changed, last) == (100_000_000, now.rss, now.rss)


def test_the_sampler_ends_with_the_run():
    sampler = MemorySampler(lambda memory: None, ended=lambda: True, seconds=0.01)
    wait_for(lambda: not sampler.is_alive())
