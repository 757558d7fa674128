"""Write a trained reward model as a Hugging Face folder, which transformers and what builds on it can serve.

  crome export --checkpoint runs/x --out exported/

DIR gets config.json (a ...ForSequenceClassification with one label), safetensors, the tokenizer's files with the chat
template, and README.md: data, configuration and, where `crome evaluate` left one in the run's folder, evaluation.
"""

import argparse
import functools
import sys

from crome_jax.files import place
from crome_jax.verbs.numbers import at_least
from crome_jax.verbs.terms import say_terms


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.add_argument(
        "--checkpoint",
        required=True,
        type=place,
        metavar="RUN",
        help="folder of a `crome train` run, also in a bucket, gs://... (required)",
    )
    parser.add_argument("--out", required=True, type=place, metavar="DIR", help="folder to write (required)")
    parser.add_argument(
        "--dtype",
        default="float32",
        choices=("float32", "bfloat16"),
        help="of the weights; bfloat16 takes half the room and rounds them, the head stays float32 "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--adapter",
        action="store_true",
        help="of a run with LoRA, write the adapters and the head as PEFT loads them over the backbone, in float32 "
        "(default: the whole model, adapters merged)",
    )
    parser.add_argument(
        "--step", type=at_least(1), help="which of the run's checkpoints, such as the best (default: the newest)"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace DIR (default: that it exists is an error)")


def run(args: argparse.Namespace) -> None:
    """Export a checkpoint."""
    from crome_jax.errors import CromeError
    from crome_jax.files import check_not_read
    from crome_jax.training.checkpoints import Checkpoints
    from crome_jax.training.run_cards import read_card
    from crome_jax.training.train import load_run
    from crome_jax.weights.adapters import CONFIG, write_adapter
    from crome_jax.weights.backbones import context_length
    from crome_jax.weights.export import write_folder
    from crome_jax.weights.model_cards import render_model_card

    known = any((args.out / name).is_file() for name in ("config.json", CONFIG))
    if args.overwrite and args.out.is_dir() and any(args.out.iterdir()) and not known:
        raise CromeError(f"{args.out}: is a folder of something else than a model; choose another name")
    card = read_card(args.checkpoint)
    if args.overwrite:
        check_not_read(args.out, [args.checkpoint, card.backbone])
    say_terms(card.backbone)
    model = load_run(args.checkpoint, step=args.step)
    step = args.step or Checkpoints(args.checkpoint, read_only=True).latest
    write = functools.partial(
        write_adapter if args.adapter else write_folder,
        args.out,
        model.params,
        model.cfg,
        model.tokenizer,
        context=context_length(card.backbone),
        card=render_model_card(
            args.checkpoint,
            card,
            step,
            adapter=args.adapter,
            folds_system=model.tokenizer.folds_system,
        ),
        overwrite=args.overwrite,
    )
    if args.adapter:
        write(base=card.backbone)
    else:
        write(dtype=args.dtype)
    print(f"{args.out}: written", file=sys.stderr)
