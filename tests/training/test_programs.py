"""What a program does, counted from its text: by hand, and against XLA where nothing loops."""

import jax
import jax.numpy as jnp
import pytest

from crome_jax.training.programs import read_work

PROGRAM = """HloModule jit_step, entry_computation_layout={...}, num_partitions=4

%fused_slice (param_0: f32[20,8,16], param_1: s32[]) -> f32[8,16] {
  %param_0 = f32[20,8,16]{2,1,0} parameter(0)
  %param_1 = s32[] parameter(1)
  %zero = s32[] constant(0)
  %slice = f32[1,8,16]{2,1,0} dynamic-slice(%param_0, %param_1, %zero, %zero), dynamic_slice_sizes={1,8,16}
  ROOT %flat = f32[8,16]{1,0} bitcast(%slice)
}

%body (state: (s32[], f32[4,8], f32[20,8,16])) -> (s32[], f32[4,8], f32[20,8,16]) {
  %state = (s32[], f32[4,8]{1,0}, f32[20,8,16]{2,1,0}) parameter(0)
  %i = s32[] get-tuple-element(%state), index=0
  %x = f32[4,8]{1,0} get-tuple-element(%state), index=1
  %w = f32[20,8,16]{2,1,0} get-tuple-element(%state), index=2
  %one = f32[8,16]{1,0} fusion(%w, %i), kind=kLoop, calls=%fused_slice
  %y = f32[4,16]{1,0} dot(%x, %one), lhs_contracting_dims={1}, rhs_contracting_dims={0}
  %gathered = (f32[4,8]{1,0}, f32[16,8]{1,0}) all-gather-start(%x), channel_id=3, replica_groups=[1,4]<=[4]
  %waited = f32[16,8]{1,0} all-gather-done(%gathered)
  %beside = f32[16,8]{1,0:T(8,128)S(1)} fusion(%x), kind=kCustom, calls=%async_collective_fusion.1
  %two = s32[] constant(2)
  %later = s32[] add(%i, %two)
  ROOT %next = (s32[], f32[4,8]{1,0}, f32[20,8,16]{2,1,0}) tuple(%later, %x, %w)
}

%async_collective_fusion.1 (param_0.1: f32[4,8]) -> f32[16,8] {
  %param_0.1 = f32[4,8]{1,0} parameter(0)
  ROOT %again = f32[16,8]{1,0} all-gather(%param_0.1), channel_id=3, replica_groups=[1,4]<=[4]
}

%all-reduce-scatter.2 (input_0: f32[4,8]) -> f32[1,8] {
  %input_0 = f32[4,8]{1,0} parameter(0)
  %everywhere = f32[4,8]{1,0} all-reduce(%input_0), replica_groups=mesh['a'=1,'b'=4], device_ids=([4]) {'b'}, to_apply=%add
  %zero.2 = s32[] constant(0)
  ROOT %share = f32[1,8]{1,0} dynamic-slice(%everywhere, %zero.2, %zero.2), dynamic_slice_sizes={1,8}
}

%condition (state.1: (s32[], f32[4,8], f32[20,8,16])) -> pred[] {
  %state.1 = (s32[], f32[4,8]{1,0}, f32[20,8,16]{2,1,0}) parameter(0)
  %count = s32[] get-tuple-element(%state.1), index=0
  %bound = s32[] constant(39)
  ROOT %less = pred[] compare(%count, %bound), direction=LT
}

ENTRY %main (a: f32[4,8], b: f32[20,8,16]) -> f32[4,8] {
  %a = f32[4,8]{1,0} parameter(0)
  %b = f32[20,8,16]{2,1,0} parameter(1)
  %zero.1 = s32[] constant(0)
  %start = (s32[], f32[4,8]{1,0}, f32[20,8,16]{2,1,0}) tuple(%zero.1, %a, %b)
  %loop = (s32[], f32[4,8]{1,0}, f32[20,8,16]{2,1,0}) while(%start), condition=%condition, body=%body
  %out = f32[4,8]{1,0} get-tuple-element(%loop), index=1
  %product = f32[4,4]{1,0} convolution(%out, %out), dim_labels=bf_oi->bf
  %kernel = f32[4,8]{1,0} custom-call(%out), custom_call_target="tpu_custom_call", backend_config={"cost_estimate":{"flops":"1000"}}
  %part = f32[1,8]{1,0} fusion(%kernel), kind=kCustom, calls=%all-reduce-scatter.2
  ROOT %sum = f32[4,8]{1,0} all-reduce(%kernel), replica_groups={{0,1},{2,3}}, to_apply=%add
}
"""  # noqa: E501


def test_a_loop_is_counted_as_often_as_it_turns():
    work = read_work(PROGRAM)
    # From 0 by 2 to below 39: 20 turns of 2 x 4 x 16 x 8; once 2 x 4 x 4 x 8; the kernel's own word.
    assert work.flops == 20 * 1024 + 256 + 1000
    # A ring of 4 sends 3/4 of what is gathered, [16, 8] float32; one of 2 sends 2 x 1/2 of what is reduced.
    # Of four that scatter, each sends three times the [1, 8] that it keeps. What goes on beside products is not
    # counted again.
    assert work.moved == {"all-gather": 20 * 0.75 * 512, "all-reduce": 128, "reduce-scatter": 96}
    assert work.calls == {"all-gather": 20, "all-reduce": 1, "reduce-scatter": 1}
    assert work.unbounded == 0
    # A turn: three numbers to count; the slice read and written, 2 x 512, not all 20 of them, and its place; the
    # product's operands and result, 128 + 512 + 256; of the gathering its operand, and both of its result; the second
    # time its operand, as its result is not in main memory. Once: 2 x 128 + 64, 2 x 128, 128 + 32, 2 x 128.
    assert work.traffic == 20 * (1024 + 4 + 896 + 768 + 128 + 12) + 320 + 256 + 160 + 256


@pytest.mark.parametrize(
    ("window", "labels", "right", "out", "flops"),
    [
        # A batch of 6 products [4, 8] x [8, 16] as TPUs write it: the batch is an axis of the window whose every place
        # but one meets a hole or padding.
        ("size=6 stride=5 pad=0_0 lhs_dilate=6", "0bf_0io->0bf", "6,8,16", "6,4,16", 2 * 6 * 4 * 16 * 8),
        # The axis 0 is contracted: one output, all 6 places meet.
        ("size=6", "0bf_0io->0bf", "6,8,16", "1,4,16", 2 * 4 * 16 * 8 * 6),
    ],
)
def test_a_convolution_counts_what_meets(window, labels, right, out, flops):
    program = f"""ENTRY %main (a: f32[6,4,8], b: f32[{right}]) -> f32[{out}] {{
  %a = f32[6,4,8]{{2,1,0}} parameter(0)
  %b = f32[{right}]{{2,1,0}} parameter(1)
  ROOT %c = f32[{out}]{{2,1,0}} convolution(%a, %b), window={{{window}}}, dim_labels={labels}
}}
"""
    assert read_work(program).flops == flops


def test_products_are_those_that_xla_counts_and_a_scan_has_as_many_as_it_is_long():
    x, w = jnp.ones((32, 16)), jnp.ones((5, 16, 16))
    scan = jax.jit(lambda x, w: jax.lax.scan(lambda x, w: (jnp.sin(x @ w), None), x, w)[0])
    assert read_work(scan.lower(x, w).compile().as_text()).flops == 5 * 2 * 32 * 16 * 16
