"""The scripts of ``docs/distributed.md`` are shell, its manifests YAML with what they must have."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "distributed.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, flags=re.DOTALL | re.MULTILINE)


def check_shell(script: str) -> None:
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("there is no bash")
    done = subprocess.run([bash, "-n"], input=script, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("script", blocks("sh"))
def test_every_script_is_shell(script):
    check_shell(script)


def test_the_script_of_slurm_asks_for_the_signal_and_queues_again_what_was_saved():
    (script,) = (block for block in blocks("sh") if "#SBATCH" in block)
    assert script.startswith("#!/bin/bash\n#SBATCH ")
    assert "#SBATCH --signal=B:USR1@120 " in script
    assert "trap 'kill -USR1 \"$step\"' USR1" in script
    assert '-eq 75 ]; then\n    scontrol requeue "$SLURM_JOB_ID"' in script
    options = re.findall(r"^#SBATCH (\S+)", script, flags=re.MULTILINE)
    assert all(re.fullmatch(r"--[a-z-]+(=\S+)?", option) for option in options)


@pytest.mark.parametrize("end", [0, 3, 75])
def test_the_script_of_slurm_waits_for_the_step_and_keeps_its_code(tmp_path, end):
    """``srun`` is a program that takes the signal, goes on for a while and ends with a code."""
    (script,) = (block for block in blocks("sh") if "#SBATCH" in block)
    (tmp_path / "srun").write_text(
        "#!/bin/bash\ntrap 'got=yes' USR1\ntouch started\n"
        'while [ -z "$got" ]; do sleep 0.05; done\n'
        f"sleep 0.3\necho saved\nexit {end}\n"
    )
    (tmp_path / "scontrol").write_text('#!/bin/bash\necho "scontrol $*"\n')
    for name in ("srun", "scontrol"):
        (tmp_path / name).chmod(0o755)
    caller = f"PATH={tmp_path}:$PATH SLURM_CPUS_PER_TASK=2 SLURM_JOB_ID=17 bash job.sh & job=$!\n"
    # the step may have started before the script has set its trap: bit 9 of what it catches
    caller += (
        "while [ ! -e started ]; do sleep 0.05; done\n"
        "caught() { grep SigCgt /proc/$job/status | cut -f 2; }\n"
        "until (( 0x$(caught) >> 9 & 1 )); do sleep 0.05; done\n"
        "kill -USR1 $job\nwait $job\n"
    )
    (tmp_path / "job.sh").write_text(script)
    done = subprocess.run(
        ["bash", "-c", caller],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == end
    assert done.stdout == ("saved\nscontrol requeue 17\n" if end == 75 else "saved\n")


def test_the_manifests_are_those_of_kubeflow():
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
    runtime, job = map(yaml.safe_load, blocks("yaml"))
    for manifest in (runtime, job):
        assert manifest["apiVersion"] == "trainer.kubeflow.org/v1alpha1"
    assert (runtime["kind"], job["kind"]) == ("ClusterTrainingRuntime", "TrainJob")
    assert job["spec"]["runtimeRef"]["name"] == runtime["metadata"]["name"]
    policy = runtime["spec"]["mlPolicy"]
    assert set(policy["mpi"]) == {
        "numProcPerNode",
        "mpiImplementation",
        "sshAuthMountPath",
        "runLauncherAsNode",
    }
    jobs = {one["name"]: one for one in runtime["spec"]["template"]["spec"]["replicatedJobs"]}
    assert runtime["spec"]["template"]["spec"]["successPolicy"]["targetReplicatedJobs"] == [
        "launcher"
    ]
    labels = jobs["launcher"]["template"]["metadata"]["labels"]
    assert labels == {"trainer.kubeflow.org/trainjob-ancestor-step": "trainer"}
    for one in jobs.values():
        (container,) = one["template"]["spec"]["template"]["spec"]["containers"]
        assert container["name"] == "node"
    check_shell(job["spec"]["trainer"]["command"][-1])


@pytest.mark.parametrize("manifest", blocks("yaml"))
def test_the_manifests_are_indented_by_two_without_tabs(manifest):
    for line in manifest.splitlines():
        indent = len(line) - len(line.lstrip(" "))
        assert indent % 2 == 0
        assert "\t" not in line
