"""What a run trains on: what it cannot use is set aside with its place."""

import dataclasses
import json

import pyarrow as pa
import pyarrow.parquet as pq
from toy import WordTokenizer, text_groups

from crome_jax.data.packing import RowShape
from crome_jax.data.quarantine import Quarantine
from crome_jax.data.training_data import read_training_data
from crome_jax.data.writers import write_groups
from crome_jax.groups import Message, to_json


def test_what_fits_no_row_is_set_aside_with_its_file_and_number(tmp_path):
    groups = text_groups(5)
    groups[3] = dataclasses.replace(groups[3], prompt=(Message("user", "word " * 200),))
    lines, table, records = sources = [str(tmp_path / name) for name in ("lines.jsonl", "table.parquet", "records")]
    with open(lines, "w") as file:
        file.write("\n".join([to_json(groups[0]), "", *map(to_json, groups[1:])]))
    pq.write_table(pa.Table.from_pylist([json.loads(to_json(group)) for group in groups]), table)
    write_groups(records, groups, groups_per_shard=3)
    shard = max((tmp_path / "records").glob("*.array_record*"))
    places = {lines: 5, table: 4, str(shard): 1}  # The second line is empty.
    with Quarantine(tmp_path / "bad.jsonl") as quarantine:
        read = read_training_data(
            dict.fromkeys(sources, 1.0), ("human",), ("original",), WordTokenizer(), RowShape(128, 8, 8),
            quarantine=quarantine,
        )  # fmt: skip
    assert len(read.mixture) == 3
    bad = [json.loads(line) for line in (tmp_path / "bad.jsonl").read_text().splitlines()]
    assert {line["file"]: line["record"] for line in bad} == places
    for line in bad:
        assert line["error"].startswith(f"record {line['record']} of {line['file']}: 'prompt' takes 202 tokens")
        assert json.loads(line["raw"])["id"] == groups[3].id
