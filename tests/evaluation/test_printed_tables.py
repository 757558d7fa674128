"""The printed tables say what report.json does."""

from crome_jax.evaluation.printed_tables import accuracy_table


def accuracy(share, comparisons):
    return {"accuracy": share, "interval": share and [share - 0.1, share + 0.1], "comparisons": comparisons}


def test_data_of_several_kinds_have_a_row_for_each():
    mixed = accuracy(0.75, 12) | {"by_kind": {"human": accuracy(0.5, 4), "causal": accuracy(0.875, 8)}}
    plain = accuracy(0.6, 10) | {"by_kind": {"human": accuracy(0.6, 10)}}
    ties = accuracy(None, 0) | {"by_kind": {}}
    splits = {"mixed": mixed, "plain": plain, "ties": ties}
    packing = [{"method": "crome", "data": name, "responses cut": 3, "equal once cut": 1} for name in splits]
    table = accuracy_table({"methods": {"crome": {"splits": splits}}}, packing)
    assert [line.split() for line in table.splitlines()[1:]] == [
        ["mixed", "crome", "75.0%", "65.0%", "to", "85.0%", "12", "3", "1"],
        ["human", "ones", "50.0%", "40.0%", "to", "60.0%", "4"],
        ["causal", "ones", "87.5%", "77.5%", "to", "97.5%", "8"],
        ["plain", "crome", "60.0%", "50.0%", "to", "70.0%", "10", "3", "1"],
        ["ties", "crome", "-", "-", "0", "3", "1"],
    ]
