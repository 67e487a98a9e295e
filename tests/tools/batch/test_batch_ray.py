# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""A real Ray cluster of two nodes: a worker and then a whole node killed in the middle of a run."""

import os
import signal
import threading
import time
from pathlib import Path

import pytest
from many_balls import journal, make_jobs, masks

from tools.batch import __main__ as command

ray = pytest.importorskip("ray", reason="needs ray: pip install 'sam-bundles[ray]'")
# Two nodes and their workers take a minute to begin.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
COUNT = 24
STORE = 80 << 20


@pytest.fixture
def cluster(monkeypatch):
    """A head and a further node, each with room for two workers."""
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    node = {"num_cpus": 2, "object_store_memory": STORE, "memory": 2 << 30}
    made = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
    try:
        made.second = made.add_node(**node)
        ray.init(address=made.address, log_to_driver=False)
        yield made
    finally:
        ray.shutdown()
        made.shutdown()


@pytest.fixture
def jobs(tmp_path) -> Path:
    return make_jobs(tmp_path, COUNT)


def run(jobs: Path, output: Path, *options: str) -> int:
    return command.main([str(jobs), "--output", str(output), "--no-progress", "--worst", "0", *options])


def test_a_worker_and_then_a_node_are_killed(cluster, jobs, tmp_path, monkeypatch):
    from tools.batch.ray_actors import RayActors

    crews = []
    hire = RayActors.hire
    monkeypatch.setattr(RayActors, "hire", lambda self: (crews.append(self), hire(self))[1])
    codes = []
    going = threading.Thread(
        target=lambda: codes.append(run(jobs, tmp_path / "out", "--engine", "ray", "--workers", "4"))
    )
    going.start()

    def wait_for(count: int) -> None:
        while len(journal(tmp_path / "out")) < count:
            assert going.is_alive()
            time.sleep(0.05)

    wait_for(3)
    nodes = {worker: None for worker in crews[0]._actors}
    where = {name: ray.get(actor.node.remote()) for name, actor in crews[0]._actors.items()}
    assert len(nodes) == 4 and len(set(where.values())) == 2, "workers on both nodes"
    on_head = next(name for name, node in where.items() if node != cluster.second.node_id)
    pid = ray.get(crews[0]._actors[on_head].__ray_call__.remote(lambda self: os.getpid()))
    os.kill(pid, signal.SIGKILL)
    wait_for(8)
    assert len(journal(tmp_path / "out")) < COUNT - 4
    cluster.remove_node(cluster.second, allow_graceful=False)
    going.join(900)
    assert codes == [0]
    rows = journal(tmp_path / "out")
    assert sorted(row["name"] for row in rows) == sorted(f"b{i}" for i in range(COUNT))
    assert {row["status"] for row in rows} == {"done"}
    assert max(row["tries"] for row in rows) > 1, "a job was begun again"
    assert len([n for n in ray.nodes() if n["Alive"]]) == 1
    # One process without Ray gives the same files.
    assert run(jobs, tmp_path / "alone", "--workers", "1") == 0
    assert masks(tmp_path / "out") == masks(tmp_path / "alone") and len(masks(tmp_path / "out")) == COUNT
    # And there is nothing left to do, whoever is asked.
    assert run(jobs, tmp_path / "out", "--engine", "ray") == 0 and len(journal(tmp_path / "out")) == COUNT


def test_more_than_the_cluster_has(cluster, jobs, tmp_path, capsys):
    assert run(jobs, tmp_path / "out", "--engine", "ray", "--gpus", "0.5") == 1
    assert "0.5 GPU for each worker: the largest computer of the cluster has 0" in capsys.readouterr().err
    assert run(jobs, tmp_path / "out", "--engine", "ray", "--ckpt_path", str(jobs)) == 1
    assert "cannot be read as weights" in capsys.readouterr().err
