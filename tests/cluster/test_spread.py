"""Tasks on a Ray cluster of three machines, which are three processes of this one."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

import pandas as pd
import pytest
import yaml
from bundles import tiny_bundle
from cluster_tasks import double

from lesionlab.cli.app import command_of, declared
from lesionlab.cli.options import parse
from lesionlab.cluster.spread import check, spread
from lesionlab.data.splits import split
from lesionlab.errors import DataError, RunError, SettingsError
from lesionlab.prediction.batch_job import predict_files
from lesionlab.prediction.predictor import Predictor
from lesionlab.progress import Notice
from lesionlab.recipe.schema import Recipe
from lesionlab.run import PREDICTIONS, VAL_PREDICTIONS
from lesionlab.training.cross_validation import cross_validate
from lesionlab.training.tuning.tune import tune

RECIPE = Recipe().but(
    {"images.size": [32, 32], "model.name": "test_efficientnet", "phases.0.epochs": 1, "batch": 32}
)
HOSTS = ["127.0.0.2", "127.0.0.3", "127.0.0.4"]  # 127.0.0.1 would be taken for the machine's own
QUIET = {
    "RAY_AUTH_MODE": "disabled",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "1",
    "OMP_NUM_THREADS": "1",
}


def test_tasks_are_done_here_unless_a_cluster_is_named(monkeypatch):
    assert list(spread(double, 2, [3, 4])) == [(0, 6), (1, 8)]
    with pytest.raises(SettingsError, match="local, ray or ray://HOST:PORT, not cloud"):
        check("cloud")
    with pytest.raises(SettingsError, match="add --on ray"):
        check("local", gpus=1)
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ImportError, match="cluster"):
        check("ray")


def test_the_files_of_the_page_are_what_slurm_and_kuberay_read():
    page = (Path(__file__).parents[2] / "docs/how-to/cluster.md").read_text(encoding="utf-8")
    scripts = re.findall(r"```bash title=[^\n]*\n(.*?)```", page, re.DOTALL)
    assert len(scripts) == 2
    for script in scripts:
        subprocess.run(["bash", "-n"], input=script, text=True, check=True)
        command = re.search(r"lesionlab (train .*?)('?\n)(?! )", script, re.DOTALL)
        words = shlex.split(re.sub(r"\\\n|\$\w+", lambda m: "2" * (m[0][0] == "$"), command[1]))
        name, rest = command_of(words)
        assert parse(name, declared(name), rest)["out"]
    (manifest,) = re.findall(r"```yaml [^\n]*\n(.*?)```", page, re.DOTALL)
    cluster = yaml.safe_load(manifest)
    assert (cluster["apiVersion"], cluster["kind"]) == ("ray.io/v1", "RayCluster")
    groups = [cluster["spec"]["headGroupSpec"], *cluster["spec"]["workerGroupSpecs"]]
    for group in groups:
        (container,) = group["template"]["spec"]["containers"]
        (volume,) = group["template"]["spec"]["volumes"]
        (mount,) = container["volumeMounts"]
        assert mount["name"] == volume["name"]
        assert container["workingDir"] == mount["mountPath"]
        assert all(isinstance(each, str) for each in container["resources"]["limits"].values())
        assert all(isinstance(each, str) for each in group["rayStartParams"].values())
    assert "nvidia.com/gpu" in container["resources"]["limits"]


@pytest.fixture(scope="module")
def ray(tmp_path_factory):
    """Ray, joined to three machines of one processor each."""
    if find_spec("ray") is None:
        pytest.skip("ray is not installed: pip install 'lesionlab[cluster]'")
    if sys.platform != "linux":
        pytest.skip("one machine has several addresses of its own on Linux only")
    home = Path(tempfile.mkdtemp(prefix="ray", dir="/tmp"))  # sockets have short names
    patch = pytest.MonkeyPatch()
    for name, value in QUIET.items():
        patch.setenv(name, value)
    patch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parents[1]), *sys.path]))
    start = [str(Path(sys.executable).with_name("ray")), "start", "--block", "--num-cpus", "1"]
    start += ["--object-store-memory", "80000000", "--disable-usage-stats"]
    head = ["--head", "--port", "6399", "--include-dashboard=false", "--temp-dir", str(home)]
    processes = []
    try:
        for host in HOSTS:
            told = home / f"{host}.log"
            which = ["--address", f"{HOSTS[0]}:6399"] if processes else head
            with told.open("wb") as log:
                command = [*start, *which, "--node-ip-address", host]
                process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
            processes.append(process)
            wait_for(told)  # two that start at the same time get in each other's way
        import ray

        quiet = {"logging_level": "ERROR", "log_to_driver": False}
        ray.init(f"{HOSTS[0]}:6399", _node_ip_address=HOSTS[0], **quiet)
        yield ray
        ray.shutdown()
    finally:
        for process in reversed(processes):
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        patch.undo()
        shutil.rmtree(home, ignore_errors=True)


def wait_for(log):
    until = time.monotonic() + 100
    while "runtime started" not in log.read_text():
        assert time.monotonic() < until, log.read_text()
        time.sleep(0.1)


@pytest.mark.slow
def test_three_machines_write_the_bytes_that_one_writes(ray, ham, drawn, tmp_path, monkeypatch):
    data, _ = drawn
    monkeypatch.chdir(tmp_path)  # relative paths are those of this folder on every machine
    told = []
    with pytest.raises(DataError, match="a task is wrong"):
        list(spread(double, 2, [1, -1], on="ray", listen=told.append))
    assert told[0].text.startswith("Ray: 3 machines with 3 processors, 0 GPUs, for 2 tasks")

    parts = split(data, folds=3, val=0.2)
    for name, on in (("here", "local"), ("there", "ray")):
        cross_validate(RECIPE, data, parts, out=f"folds-{name}", on=on, cpus=1)
        space = {"phases.0.optim.lr": "1e-3..1e-2:log"}
        options = {"trials": 2, "sampler": "random", "workers": 1 if on == "local" else 2}
        tune(RECIPE, data, parts, space, out=f"tune-{name}", on=on, **options)
        predictor = Predictor(tiny_bundle(tmp_path / name))
        predict_files(predictor, [ham], out=f"{name}.csv", chunk=5, on=on)
    for file in (PREDICTIONS, VAL_PREDICTIONS):
        assert Path("folds-here", file).read_bytes() == Path("folds-there", file).read_bytes()
    for trial in ("trial_0000", "trial_0001"):
        left, right = (Path(f"tune-{name}", trial, PREDICTIONS) for name in ("here", "there"))
        assert left.read_bytes() == right.read_bytes()
    assert Path("tune-here/best.yaml").read_bytes() == Path("tune-there/best.yaml").read_bytes()
    assert len(pd.read_csv("here.csv")) == 2 * len(data.table)  # images and their masks
    assert Path("here.csv").read_bytes() == Path("there.csv").read_bytes()


def test_a_cluster_that_is_not_there_is_told_in_one_sentence(monkeypatch):
    pytest.importorskip("ray")
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.9:6398")
    told = []
    with pytest.raises(RunError, match=r"No Ray cluster answers at 127\.0\.0\.9:6398.*RAY_ADDRESS"):
        list(spread(double, 2, [1], on="ray", listen=told.append))
    assert not any(isinstance(each, Notice) for each in told)
