import struct

import numpy as np
import pytest

from crome_jax.training.metrics import MetricsLog, about_zero, read_curve, summarize

NOTHING = dict.fromkeys(
    f"{kind}/{name}"
    for kind in ("human", "causal", "neutral")
    for name in ("count", "loss_sum", "preferring", "agree_sum", "distance_sum")
) | dict.fromkeys(
    ("reward/count", "reward/sum", "reward/square_sum", "length/sum", "length/square_sum", "length/reward_sum")
)
ZERO = dict.fromkeys(NOTHING, 0.0)


def test_sums_are_divided_by_counts_by_hand():
    sums = ZERO | {
        "loss": 3.0,
        "grad_norm": 8.0,
        "human/count": 8.0,
        "human/loss_sum": 4.0,
        "human/preferring": 6.0,  # two of the eight are ties
        "human/agree_sum": 4.5,
        "human/distance_sum": 2.0,
        "neutral/count": 4.0,
        "neutral/loss_sum": 3.0,
        "neutral/distance_sum": 1.0,
        "reward/count": 4.0,  # 1, 1, 3, 3
        "reward/sum": 8.0,
        "reward/square_sum": 20.0,
        "length/sum": 20.0,  # 4, 6, 4, 6
        "length/square_sum": 104.0,
        "length/reward_sum": 40.0,  # 4 + 6 + 12 + 18
    }
    assert summarize(sums, steps=4) == {
        "loss": 0.75,
        "grad_norm": 2.0,
        "human/loss": 0.5,
        "human/accuracy": 0.75,
        "human/distance": 0.25,
        "neutral/loss": 0.75,
        "neutral/distance": 0.25,
        "reward/mean": 2.0,
        "reward/std": 1.0,
        "reward/length_correlation": 0.0,  # 40 / 4 - 2 * 5
    }


def test_sums_by_attribute_are_divided_by_hand():
    sums = ZERO | {
        "attribute/count": np.array([4.0, 2.0, 0.0]),
        "attribute/loss_sum": np.array([2.0, 3.0, 0.0]),
        "attribute/preferring": np.array([4.0, 0.0, 0.0]),  # both of the second are ties
        "attribute/agree_sum": np.array([3.0, 0.0, 0.0]),
        "attribute/distance_sum": np.array([1.0, 1.0, 0.0]),
    }
    assert summarize(sums, 1, ("factuality", "tone", "order")) == {
        "causal/factuality/loss": 0.5,
        "causal/factuality/distance": 0.25,
        "causal/factuality/accuracy": 0.75,
        "causal/tone/loss": 1.5,
        "causal/tone/distance": 0.5,
    }


def test_rewards_that_are_lengths_go_along_with_them():
    # Lengths 1, 2, 3; rewards their negatives.
    sums = {"reward/count": 3.0, "reward/sum": -6.0, "reward/square_sum": 14.0}
    sums |= {"length/sum": 6.0, "length/square_sum": 14.0, "length/reward_sum": -14.0}
    assert summarize(ZERO | sums, 1)["reward/length_correlation"] == pytest.approx(-1.0)


def test_sums_are_moved_from_a_steps_pivots_to_zero_by_hand():
    # Rewards 9, 10, 12 about 10 and lengths 4, 5, 3 about 5.
    about = {"reward/count": 3.0, "reward/pivot": 10.0, "reward/sum": 1.0, "reward/square_sum": 5.0, "tokens": 30.0}
    about |= {"length/pivot": 5.0, "length/sum": -3.0, "length/square_sum": 5.0, "length/reward_sum": 1.0 - 4.0}
    zero = {"reward/count": 3.0, "reward/sum": 31.0, "reward/square_sum": 325.0, "tokens": 30.0}
    zero |= {"length/sum": 12.0, "length/square_sum": 50.0, "length/reward_sum": 36.0 + 50.0 + 36.0}
    assert about_zero(about) == zero


def test_what_differs_by_less_than_rounding_has_no_spread_and_no_correlation():
    # Two steps of rewards 10000.1: float32 has them at 10000.099609375, and products of float64 round, too.
    reward, lengths = float(np.float32(10000.1)), np.array([3.0, 5.0, 8.0])
    step = {"reward/count": 3.0, "reward/sum": 3 * reward, "reward/square_sum": 3 * reward**2 * (1 + 1e-15)}
    step |= {"length/sum": lengths.sum(), "length/square_sum": (lengths**2).sum()}
    step |= {"length/reward_sum": (lengths * reward).sum()}
    said = summarize(ZERO | {name: 2 * value for name, value in step.items()}, 2)
    assert said == {"reward/mean": pytest.approx(reward), "reward/std": 0.0}


def test_a_correlation_is_no_more_than_one_whatever_rounding_says():
    sums = {"reward/count": 2.0, "reward/sum": 2.0, "reward/square_sum": 4.0}
    sums |= {"length/sum": 2.0, "length/square_sum": 4.0, "length/reward_sum": 4.0 + 1e-15}
    for sign in (1.0, -1.0):
        turned = {"reward/sum": sign * 2.0, "length/reward_sum": sign * (4.0 + 1e-15)}
        assert summarize(ZERO | sums | turned, 1)["reward/length_correlation"] == sign


def test_nothing_counted_is_nothing_said():
    assert summarize(ZERO, steps=1) == {}


def test_equal_rewards_have_no_spread_whatever_rounding_says():
    assert summarize(ZERO | {"reward/count": 3.0, "reward/sum": 3.3, "reward/square_sum": 3.6299}, 1)["reward/std"] == 0


def test_a_resumed_run_drops_the_lines_after_the_step_it_resumes_from(tmp_path):
    log = MetricsLog(tmp_path)
    for step in (2, 4, 6):
        log.write(step, {"loss": 1 / step})
    log.close()
    with (tmp_path / "metrics.jsonl").open("a") as f:
        f.write('{"step": 8, "lo')  # killed while writing
    assert [line["step"] for line in read_curve(tmp_path)] == [2, 4, 6]
    log = MetricsLog(tmp_path, resumed_at=4)
    log.write(6, {"loss": 0.5})
    log.close()
    assert read_curve(tmp_path) == [{"step": 2, "loss": 0.5}, {"step": 4, "loss": 0.25}, {"step": 6, "loss": 0.5}]


def test_a_run_without_a_log_has_no_curve(tmp_path):
    assert read_curve(tmp_path) == []


def crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF  # masked as TFRecord wants it


def read_events(path) -> list[bytes]:
    """Read TFRecords, checking both checksums of each."""
    data, records = path.read_bytes(), []
    while data:
        (length,) = struct.unpack_from("<Q", data)
        assert struct.unpack_from("<I", data, 8)[0] == crc32c(data[:8])
        records.append(data[12 : 12 + length])
        assert struct.unpack_from("<I", data, 12 + length)[0] == crc32c(records[-1])
        data = data[16 + length :]
    return records


def test_tensorboard_can_read_the_curves(tmp_path):
    log = MetricsLog(tmp_path, resumed_at=6)
    log.write(7, {"loss": 0.125, "grad_norm": float("inf")})
    log.close()
    (path,) = (tmp_path / "events").iterdir()
    records = read_events(path)
    # A Summary.Value, in protocol buffer encoding: field 1 is the tag, field 2 a float.
    value = b"\x0a\x04loss\x15" + np.float32(0.125).tobytes()
    assert [i for i, record in enumerate(records) if value in record] == [len(records) - 1]
    assert not any(b"grad_norm" in record for record in records)
    # Field 2 of Event is the step; SessionLog START (field 7) at step 7 hides what a killed run logged from there on.
    assert any(b"\x10\x07" in record and b"\x3a\x02\x08\x01" in record for record in records)


@pytest.mark.parametrize("content", ["", "\n"])
def test_an_empty_curve_is_no_error(tmp_path, content):
    (tmp_path / "metrics.jsonl").write_text(content)
    assert read_curve(tmp_path) == []
