"""Two real processes at every change; what takes them longer is in test_processes.py, and slow."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from test_processes import curve, finish_all, free_port
from toy import text_groups
from words_run import train_words

from crome_jax.groups import to_json
from crome_jax.training.checkpoints import Checkpoints

PROGRAM = Path(__file__).parent / "words_run.py"
SETTINGS = {
    "JAX_PLATFORMS": "cpu",
    "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
    "XLA_FLAGS": "--xla_force_host_platform_device_count=1 --xla_cpu_use_fusion_emitters=false",
}


def test_two_processes_go_on_from_what_one_saved(tmp_path):
    alone, together = tmp_path / "alone", tmp_path / "together"
    data = tmp_path / "toy.jsonl"
    data.write_text("".join(to_json(group) + "\n" for group in text_groups(24)))
    train_words(data, alone, 4)
    shutil.copytree(alone, together)
    shutil.rmtree(together / "checkpoints" / "4")
    address = f"127.0.0.1:{free_port()}"
    said = finish_all(
        *(
            subprocess.Popen(
                # Process 0 packs the data; the other reads its rows, and would not find the data.
                [sys.executable, PROGRAM, address, str(index), (data, "not/here.jsonl")[index], together, "4"],
                env=os.environ | SETTINGS, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            )
            for index in range(2)
        )
    )  # fmt: skip
    assert all("resumed at step 2" in err for _, err in said)
    assert all("read " in err for _, err in said)
    ours, theirs = curve(together), curve(alone)
    assert [*ours] == [*theirs] == [1, 2, 3, 4]
    for step, loss in theirs.items():
        # Sums of float32 in another order, through two steps of Adam.
        assert ours[step] == pytest.approx(loss, rel=1e-4)
    assert Checkpoints(together, read_only=True).is_whole(4)
