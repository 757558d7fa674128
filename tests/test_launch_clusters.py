"""The scripts for clusters: what they would submit is whole, valid, and says what was asked for."""

import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import yaml
from apache_beam.options.pipeline_options import PipelineOptions
from test_launch import ROOT, bash

from crome_jax.cli import main, make_parser
from crome_jax.training.processes import find_cluster

SCHEMA = json.loads((Path(__file__).parent / "schemas" / "jobset.json").read_text())
AWKWARD = '--gin.DATA="/data/it\'s $HOME \\ groups/"'
TRAIN = ("--", "--gin_file=gin/runs/crome.gin", AWKWARD)
JOBSET = ("--dry-run", "--image", "registry/crome:1", "--bucket", "runs")


def dry(script: str, *arguments: str) -> list[str]:
    """Return what a script says it would run, word by word."""
    shown = bash(ROOT / "launch" / script, *arguments)
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.startswith("+ ")
    words = shlex.split(shown.stdout.splitlines()[0])[1:]
    while words[0] == "env" or re.match(r"[A-Z_]+=", words[0]):
        del words[0]
    return words


def check_train(words: list[str], distributed: str | None) -> None:
    """Check that words are a training command which crome understands."""
    assert words[:3] == [".venv/bin/python", "-m", "crome_jax"]
    bindings = [word for word in words if word.startswith("--gin.")]
    assert bindings == [AWKWARD]
    args = make_parser().parse_args([word for word in words[3:] if word not in bindings])
    assert (args.verb, args.gin_file) == ("train", ["gin/runs/crome.gin"])
    assert args.distributed == (distributed or "none")


def test_a_workstation_trains_in_one_process():
    check_train(dry("workstation.sh", "--dry-run", *TRAIN), None)


@pytest.mark.parametrize(("status", "starts"), [(0, 1), (2, 1), (143, 1), (137, 3), (1, 3)])
def test_a_workstation_starts_again_what_was_cut_off_and_nothing_else(tmp_path, status, starts):
    (tmp_path / "launch").mkdir()
    script = tmp_path / "launch" / "workstation.sh"
    script.write_text((ROOT / "launch" / "workstation.sh").read_text())
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\necho "$*" >> calls\nexit {status}\n')
    python.chmod(0o755)
    assert bash(script, "--restarts", "2", "--", "x").returncode == status
    assert (tmp_path / "calls").read_text().splitlines() == ["-m crome_jax train x"] * starts


def test_slurm_gets_one_process_a_node_that_is_told_before_the_end():
    words = dry("slurm.sh", "--dry-run", "--nodes", "4", "--gpus", "2", "--sbatch", "--partition=gpu", *TRAIN)
    assert words[0] == "sbatch"
    assert {"--nodes=4", "--ntasks-per-node=1", "--gpus-per-node=2", "--partition=gpu", "--signal=TERM@120"} <= {*words}
    check_train(step_of(words)[3:], "slurm")


def step_of(words: list[str]) -> list[str]:
    """Return srun and its arguments, from what is given to sbatch."""
    inner = shlex.split(words[words.index("--wrap") + 1])
    return inner[inner.index("srun") :]


def xla_flags(shown: subprocess.CompletedProcess) -> list[str]:
    """Return what a script says that it sets XLA_FLAGS to, each time that it sets them."""
    assert shown.returncode == 0, shown.stderr
    words = shlex.split(shown.stdout)
    words = shlex.split(words[words.index("--wrap") + 1]) if "--wrap" in words else words
    return [word.removeprefix("XLA_FLAGS=") for word in words if word.startswith("XLA_FLAGS=")]


SAME_BITS = "--xla_gpu_deterministic_ops=true"
OTHERS = "--xla_gpu_deterministic_ops=false --xla_disable_hlo_passes=a,b"


def test_gpus_are_asked_for_the_same_bits_and_what_the_user_says_comes_after_and_wins(tmp_path):
    for name in ("bash", "dirname"):
        (tmp_path / name).symlink_to(shutil.which(name))
    station = (ROOT / "launch" / "workstation.sh", "--dry-run", *TRAIN)
    assert xla_flags(bash(*station, PATH=str(tmp_path), XLA_FLAGS=OTHERS)) == []  # No GPU here.
    (tmp_path / "nvidia-smi").symlink_to(shutil.which("true"))
    slurm = (ROOT / "launch" / "slurm.sh", "--dry-run")
    assert xla_flags(bash(*slurm, "--gpus", "0", *TRAIN, XLA_FLAGS=OTHERS)) == []
    for command in (station, (*slurm, *TRAIN)):
        assert xla_flags(bash(*command, PATH=str(tmp_path))) == [SAME_BITS]
        assert xla_flags(bash(*command, PATH=str(tmp_path), XLA_FLAGS=OTHERS)) == [f"{SAME_BITS} {OTHERS}"]


def test_a_machine_without_a_gpu_knows_what_xla_is_asked_for():
    """XLA ends a process whose XLA_FLAGS it does not know."""
    program = "from jaxlib import xla_client; xla_client.make_cpu_client()"
    subprocess.run([sys.executable, "-c", program], env=os.environ | {"XLA_FLAGS": SAME_BITS}, check=True)


def on_worker(words: list[str]) -> list[str]:
    """Return what a worker of a slice runs in the end, from what is run on it by ssh."""
    command = next(word for word in words if word.startswith("--command=")).removeprefix("--command=")
    background = shlex.split(command)
    assert background[:2] == ["crome_jax/launch/background.sh", "start"]
    return dry("workstation.sh", "--dry-run", *background[2:])


@pytest.mark.parametrize(
    ("type_", "runtime"),
    [("v5litepod-16", "v2-alpha-tpuv5-lite"), ("v5p-32", "v2-alpha-tpuv5"), ("v6e-64", "v2-alpha-tpuv6e")],
)
def test_a_tpu_slice_is_asked_for_set_up_used_and_given_back(type_, runtime):
    place = ("--dry-run", "--name", "one", "--zone", "us-west4-a", "--type", type_)
    words = dry("tpu_vm.sh", *place, "--spot", "create")
    assert words[:6] == ["gcloud", "compute", "tpus", "queued-resources", "create", "one"]
    assert {f"--accelerator-type={type_}", f"--runtime-version={runtime}", "--spot", "--node-id=one"} <= {*words}
    words = dry("tpu_vm.sh", *place, "train", *TRAIN)
    assert "--worker=all" in words
    check_train(on_worker(words), "tpu")
    assert "delete" in dry("tpu_vm.sh", *place, "delete")
    assert bash(ROOT / "launch" / "tpu_vm.sh", *place).returncode == 2


@pytest.mark.parametrize(
    ("type_", "accelerator", "topology", "pods", "slices"),
    [
        ("v5e", "tpu-v5-lite-podslice", "4x4", 4, 1),
        ("v5p", "tpu-v5p-slice", "2x2x4", 4, 2),
        ("v6e", "tpu-v6e-slice", "8x8", 16, 4),
    ],
)
def test_a_jobset_s_manifest_is_valid_and_its_pods_find_each_other(type_, accelerator, topology, pods, slices):
    given = (*JOBSET, "--type", type_, "--topology", topology, "--slices", str(slices), "--name", "trial")
    shown = bash(ROOT / "launch" / "jobset.sh", *given, *TRAIN)
    assert shown.returncode == 0, shown.stderr
    assert not re.search(r"@[A-Z_]+@", shown.stdout)
    manifest = yaml.safe_load(shown.stdout)
    jsonschema.validate(manifest, SCHEMA)
    (job,) = manifest["spec"]["replicatedJobs"]
    spec = job["template"]["spec"]
    assert (job["replicas"], spec["parallelism"], spec["completions"]) == (slices, pods, pods)
    pod = spec["template"]["spec"]
    assert [*pod["nodeSelector"].values()] == [accelerator, topology]
    (container,) = pod["containers"]
    assert container["resources"]["limits"]["google.com/tpu"] * pods == eval(topology.replace("x", "*"))
    check_train([".venv/bin/python", "-m", "crome_jax", *container["args"]], "jobset")
    assert "--patience=1800" in container["args"]
    environment = {one["name"]: one.get("value") for one in container["env"]}
    assert environment["JAX_COMPILATION_CACHE_DIR"].startswith(f"{container['volumeMounts'][0]['mountPath']}/")
    last = environment | {"JOB_INDEX": str(slices - 1), "JOB_COMPLETION_INDEX": str(pods - 1)}
    cluster = find_cluster("jobset", last)
    assert (cluster.process, cluster.processes) == (slices * pods - 1, slices * pods)
    # The name that JobSet gives to the first pod of the first job, below the JobSet's own subdomain.
    assert cluster.coordinator == f"trial-{job['name']}-0-0.trial:{container['ports'][0]['containerPort']}"


def jobset(*given: str) -> dict:
    """Return the manifest that would be submitted."""
    shown = bash(ROOT / "launch" / "jobset.sh", *JOBSET, *given, *TRAIN)
    assert shown.returncode == 0, shown.stderr
    return yaml.safe_load(shown.stdout)


def test_an_error_of_the_user_s_ends_a_jobset_and_any_other_starts_it_again():
    spec = jobset("--restarts", "7")["spec"]
    assert jobset()["spec"]["failurePolicy"]["maxRestarts"] == 20
    assert spec["failurePolicy"]["maxRestarts"] == 7
    (rule,) = spec["failurePolicy"]["rules"]
    assert (rule["action"], rule["onJobFailureReasons"]) == ("FailJobSet", ["PodFailurePolicy"])
    job = spec["replicatedJobs"][0]["template"]["spec"]
    (pods,) = job["podFailurePolicy"]["rules"]
    # Of the training alone, whatever becomes of the container that GKE adds for the bucket.
    train = job["template"]["spec"]["containers"][0]["name"]
    assert pods == {"action": "FailJob", "onExitCodes": {"containerName": train, "operator": "In", "values": [2]}}
    assert main(["train", "--gin_file=no.gin"]) == 2


def test_the_pods_are_the_image_s_user_and_may_write_to_the_bucket():
    pod = jobset()["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]
    text = (ROOT / "Dockerfile").read_text()
    user = int(re.search(r"^RUN useradd --uid (\d+) ", text, re.MULTILINE)[1])
    assert f"\nUSER {user}\n" in text
    numbers = {"runAsUser": user, "runAsGroup": user, "fsGroup": user}
    assert pod["securityContext"] == {"runAsNonRoot": True} | numbers
    assert pod["volumes"][0]["csi"]["volumeAttributes"]["mountOptions"] == f"uid={user},gid={user}"


SWEEP = ("--", "sweep", "--gin_file=gin/sweeps/lambda.gin", AWKWARD, "--data", "test.jsonl", "--job=a b,seed=0")
TPU = ("tpu_vm.sh", "--dry-run", "--name", "one", "--zone", "us-west4-a")


def test_a_job_of_a_sweep_is_one_process_wherever_it_runs():
    inner = dry("slurm.sh", "--dry-run", *SWEEP)
    assert "--exclusive" not in inner
    assert "--exclusive" in dry("slurm.sh", "--dry-run", *TRAIN)
    ran = [
        dry("workstation.sh", "--dry-run", *SWEEP)[3:],
        step_of(inner)[6:],
        on_worker(dry(*TPU, "--type", "v6e-8", "train", *SWEEP))[3:],
    ]
    manifest = yaml.safe_load(bash(ROOT / "launch" / "jobset.sh", *JOBSET, "--topology", "2x2", *SWEEP).stdout)
    (job,) = manifest["spec"]["replicatedJobs"]
    ran.append(job["template"]["spec"]["template"]["spec"]["containers"][0]["args"])
    assert ran == [[*SWEEP[1:]]] * 4
    for script, *wrong in (
        ("slurm.sh", "--dry-run", "--nodes", "2"),
        (*TPU, "--type", "v5litepod-16", "train"),
        ("jobset.sh", *JOBSET),
        ("jobset.sh", *JOBSET, "--topology", "2x2", "--slices", "2"),
    ):
        refused = bash(ROOT / "launch" / script, *wrong, *SWEEP)
        assert (refused.returncode, refused.stdout) == (2, "")
        assert "sweep" in refused.stderr


@pytest.mark.parametrize(
    "harm", ["spec", "image", "parallelism", "unknown", "rule", "reason", "exit", "policy", "user"]
)
def test_a_broken_manifest_is_not_valid(harm):
    manifest = jobset()
    jsonschema.validate(manifest, SCHEMA)
    job = manifest["spec"]["replicatedJobs"][0]["template"]["spec"]
    if harm == "spec":
        del manifest["spec"]
    elif harm == "image":
        del job["template"]["spec"]["containers"][0]["image"]
    elif harm == "parallelism":
        job["parallelism"] = "4"
    elif harm == "rule":  # Which JobSet's controller refuses for its dash.
        manifest["spec"]["failurePolicy"]["rules"][0]["name"] = "error-to-mend"
    elif harm == "reason":
        manifest["spec"]["failurePolicy"]["rules"][0]["onJobFailureReasons"] = ["ExitCode"]
    elif harm == "exit":
        job["podFailurePolicy"]["rules"][0]["onExitCodes"]["values"] = [0]
    elif harm == "policy":  # Kubernetes wants Never beside a podFailurePolicy.
        job["template"]["spec"]["restartPolicy"] = "OnFailure"
    elif harm == "user":
        job["template"]["spec"]["securityContext"]["runAsUser"] = "crome"
    else:
        job["template"]["spec"]["nodeSelectors"] = {}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(manifest, SCHEMA)


@pytest.mark.parametrize(
    "wrong",
    [
        ("--topology", "3x3"),
        ("--topology", "4"),
        ("--type", "v4"),
        ("--slice", "2"),
        ("--image", ""),
        ("--restarts", "x"),
        ("--slices", "0"),
        ("--topology", "0x4"),
    ],
)
def test_what_no_slice_could_be_is_refused(wrong):
    refused = bash(ROOT / "launch" / "jobset.sh", *JOBSET, *wrong, *TRAIN)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr


@pytest.mark.parametrize(
    "command",
    [
        ("slurm.sh", "--nodes", "0", *TRAIN),
        ("slurm.sh", "--gpus", "some", *TRAIN),
        ("background.sh", "start", "--restarts", "x", *TRAIN),
        ("beam.sh", "flink", "--parallelism", "all", "--", "--data", "a"),
        ("tpu_vm_keep.sh", "--name", "one", "--spot", "--type", "v6e-8", *TRAIN),
        # Nothing to train, which on a cluster would be found out after the wait for it.
        ("workstation.sh",),
        ("background.sh", "start"),
        ("slurm.sh", "--nodes", "2"),
        ("jobset.sh", *JOBSET),
        ("tpu_vm.sh", "--name", "one", "--zone", "z", "train"),
        ("tpu_vm_keep.sh", "--name", "one", "--zone", "z"),
        ("beam.sh", "flink"),
    ],
    ids=" ".join,
)
def test_what_could_only_fail_later_is_refused_at_once(command):
    script, *given = command
    refused = bash(ROOT / "launch" / script, "--dry-run", *given)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.startswith(f"usage: launch/{script}")


def test_where_nothing_is_installed_a_workstation_says_so_once(tmp_path):
    (tmp_path / "launch").mkdir()
    script = shutil.copy(ROOT / "launch" / "workstation.sh", tmp_path / "launch")
    refused = bash(script, *TRAIN)
    assert refused.returncode == 2
    assert refused.stderr == "workstation.sh: nothing is installed; ./launch/setup.sh first\n"


@pytest.mark.parametrize(
    ("runner", "given", "told"),
    [
        ("flink", ("--master", "boss:8081", "--parallelism", "3"), {"flink_master": "boss:8081", "parallelism": 3}),
        (
            "dataflow",
            ("--project", "p", "--region", "r", "--bucket", "b", "--image", "registry/beam:1", "--workers", "5"),
            {"project": "p", "region": "r", "temp_location": "gs://b/beam", "max_num_workers": 5}
            | {"sdk_container_image": "registry/beam:1"},
        ),
    ],
)
def test_augmentation_on_a_cluster_is_a_command_of_crome_that_beam_understands(runner, given, told):
    words = dry("beam.sh", "--dry-run", runner, *given, "--", "--data", "prefs x/", "--out", "groups")
    assert words[:3] == [".venv/bin/python", "-m", "crome_jax"]
    args = make_parser().parse_args(words[3:])
    assert (args.verb, args.beam, str(args.data), str(args.out)) == ("augment", runner, "prefs x", "groups")
    found = PipelineOptions([f"--runner={runner}", *args.beam_option]).get_all_options(drop_default=True)
    assert told.items() <= found.items()
    assert len(found) == len(args.beam_option) + 1  # Beam knows every one of them.


def test_a_worker_of_flink_listens_where_the_command_looks():
    worker = dry("beam.sh", "--dry-run", "flink-worker", "--port", "50007")
    assert importlib.util.find_spec(worker[worker.index("-m") + 1])
    command = dry("beam.sh", "--dry-run", "flink", "--port", "50007", "--", "--data", "a", "--out", "b")
    assert "--service_port=50007" in worker
    assert "--beam-option=--environment_config=localhost:50007" in command


def test_a_runner_that_lacks_what_it_needs_is_refused():
    for wrong in ((), ("spark",), ("dataflow", "--project", "p"), ("flink", "--image")):
        refused = bash(ROOT / "launch" / "beam.sh", "--dry-run", *wrong)
        assert refused.returncode != 0
        assert refused.stdout == ""
        assert refused.stderr


def test_the_image_holds_what_the_commands_need():
    text = (ROOT / "Dockerfile").read_text()
    beam = re.search(r"^apache-beam==(.+)$", (ROOT / "requirements-beam.txt").read_text(), re.MULTILINE)[1]
    assert f"beam_python3.11_sdk:{beam} " in text
    copied = " ".join(re.findall(r"^COPY ([^-].*) \S+$", text, re.MULTILINE)).split()
    assert all((ROOT / name).exists() for name in copied)
    # What setup.sh reads and pyproject.toml names.
    assert {"pyproject.toml", "requirements.txt", "LICENSE", "README.md", "launch/setup.sh", "crome_jax", "gin"} <= {
        *copied
    }
    entry = json.loads(re.findall(r"^ENTRYPOINT (.+)$", text, re.MULTILINE)[-1])
    assert entry == [".venv/bin/python", "-m", "crome_jax"]


def test_the_image_is_pinned_and_of_the_python_that_is_installed_for():
    text = (ROOT / "Dockerfile").read_text()
    images = re.findall(r"^(?:FROM|COPY --from=)\s*(\S+)", text.replace("COPY --from=", "COPY --from= "), re.MULTILINE)
    base, *others = [image for image in images if image != "crome"]
    python = re.fullmatch(r"python:(3\.\d+)\.\d+-slim-[a-z]+", base)[1]
    assert [f"beam_python{python}_sdk:" in other for other in others] == [True]
    least, below = re.search(
        r'requires-python = ">=3\.(\d+),<3\.(\d+)"', (ROOT / "pyproject.toml").read_text()
    ).groups()
    assert int(least) <= int(python.removeprefix("3.")) < int(below)
    # The first that setup.sh looks for is the one that is there.
    assert f"${{PYTHON:-python{python} " in (ROOT / "launch" / "setup.sh").read_text()
    # Whoever starts the commands is the user that is not root.
    assert text.index("\nRUN launch/setup.sh") < text.index("\nUSER 1000") < text.index("\nENTRYPOINT")
    assert re.findall(r"^USER (.+)$", text.partition(" AS beam\n")[0], re.MULTILINE) == ["1000"]
    assert "\nUSER" not in text.rpartition("\nFROM crome\n")[2]


def test_a_worker_of_dataflow_starts_in_the_environment_that_all_is_installed_in():
    common, _, rest = (ROOT / "Dockerfile").read_text().partition("\nFROM crome AS beam\n")
    beam = rest.partition("\nFROM ")[0]
    settings = dict(re.findall(r"(\w+)=(\S+)", " ".join(re.findall(r"^ENV (.+)$", beam, re.MULTILINE))))
    # Beam's boot makes an environment of its own unless it is told not to, and starts `python`, the first of PATH.
    assert settings["RUN_PYTHON_SDK_IN_DEFAULT_ENVIRONMENT"] == "1"
    folder = re.search(r"^WORKDIR (\S+)$", common, re.MULTILINE)[1]
    assert settings["PATH"] == f'"{folder}/.venv/bin:$PATH"'
    assert re.search(r"^USER (.+)$", beam, re.MULTILINE)[1] == "root"  # Whose the folder is that boot writes to.
    assert json.loads(re.search(r"^ENTRYPOINT (.+)$", beam, re.MULTILINE)[1]) == ["/opt/apache/beam/boot"]


def test_what_the_image_copies_is_enough_to_install_and_to_run(tmp_path):
    text = (ROOT / "Dockerfile").read_text()
    # Other patterns are of the context's root: `runs` leaves gin/runs where it is.
    ignored = shutil.ignore_patterns(*re.findall(r"^\*\*/(.+)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE))
    for sources, target in re.findall(r"^COPY ([^-].*) (\S+)$", text, re.MULTILINE):
        for source in sources.split():
            to = tmp_path / target / Path(source).name if target.endswith("/") else tmp_path / target
            to.parent.mkdir(parents=True, exist_ok=True)
            if (ROOT / source).is_dir():
                shutil.copytree(ROOT / source, to, ignore=ignored)
            else:
                shutil.copy(ROOT / source, to)
    installs = bash(tmp_path / "launch" / "setup.sh", "--dry-run", "tpu", PYTHON=sys.executable)
    assert installs.returncode == 0, installs.stderr
    assert "'-e' '.[tpu]'" in installs.stdout
    command = [
        sys.executable,
        "-m",
        "crome_jax",
        "train",
        "--gin_file=gin/runs/crome.gin",
        "--gin.DATA='pyproject.toml'",
    ]
    ran = subprocess.run([*command, "--gin.BACKBONE='nowhere'"], cwd=tmp_path, capture_output=True, text=True)
    assert ran.returncode == 2
    assert "nowhere: neither a file or folder nor a known backbone" in ran.stderr
