"""What a run's checkpoints cannot be read without, beside them: model.json."""

import dataclasses
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from crome_jax.data.packing import RowShape
from crome_jax.errors import CromeError
from crome_jax.files import place, whole_output
from crome_jax.models.config import DecoderConfig, Lora
from crome_jax.models.weights import Head
from crome_jax.training.settings import DTYPES
from crome_jax.weights.runs import MODEL_FILE

MAKINGS_FILE = "data_cards.json"
"""How the training data were made, where their cards say it."""

MAY_CHANGE = re.compile(
    r"(train\.)?(out|steps|data|log_every|checkpoint_every|keep_checkpoints|validation|keep_best|skip_bad|cache_frozen"
    r"|max_skipped|replay|trace_steps|attention|remat|micro_batches)"
    r"|OUT|STEPS|DATA|make_mesh\..*"
)
"""Settings that may differ when a run is resumed: where it is, how long, on what machine; the rows have a checksum.

Fewer devices need more micro-batches: that changes the rounding of sums, and of adapters which activations are dropped.
"""


@dataclasses.dataclass(frozen=True)
class ModelCard:
    """What a checkpoint cannot be read without, kept beside it as model.json.

    Args:
        backbone: name or path that the run started from; frozen weights and tokenizer are read from there again.
        backbone_fingerprint: sha256 of that file.
        tokenizer_fingerprint: of vocabulary and chat template.
        decoder: the decoder's numbers.
        trainable: "all", "head" or how many upper layers train.
        row_tokens, row_responses, row_comparisons: the shape of a packed row.
        data_fingerprint: sha256 of the packed training rows.
        method: name or description of the objective and the kinds of comparison.
        dtype: of activations.
        settings: name -> value of what else decides what is learned; a run is resumed under the same only.
        head: what reads the last hidden state: "scalar", "odin" or "pairwise".

    Raises:
        TypeError: naming the field that is not of its type, or says what no run can be.
    """

    backbone: str
    backbone_fingerprint: str
    tokenizer_fingerprint: str
    decoder: dict
    trainable: str | int
    row_tokens: int
    row_responses: int
    row_comparisons: int
    data_fingerprint: str
    method: str
    dtype: str
    settings: dict
    head: str = "scalar"

    @property
    def config(self) -> DecoderConfig:
        """The decoder's numbers as their type."""
        return _decoder_config(self.decoder)

    def __post_init__(self):
        for field in dataclasses.fields(self):
            if not isinstance(getattr(self, field.name), field.type):
                raise TypeError(f"{field.name} is {getattr(self, field.name)!r}")
        if not all(isinstance(value, str) for value in self.settings.values()):
            raise TypeError(f"settings is {self.settings!r}")
        if self.trainable not in ("all", "head") and not (isinstance(self.trainable, int) and self.trainable >= 1):
            raise TypeError(f"trainable is {self.trainable!r}")
        for name, known in (("dtype", DTYPES), ("head", get_args(Head))):
            if getattr(self, name) not in known:
                raise TypeError(f"{name} is {getattr(self, name)!r}, not one of {', '.join(known)}")
        try:
            RowShape(self.row_tokens, self.row_responses, self.row_comparisons)
        except CromeError as e:
            raise TypeError(f"row_tokens, row_responses, row_comparisons: {e}") from None
        _decoder_config(self.decoder)


def _decoder_config(numbers: dict) -> DecoderConfig:
    try:
        adapters = numbers.get("lora")
        lora = None if adapters is None else Lora(**adapters)
        return DecoderConfig(**{**numbers, "pattern": tuple(numbers["pattern"]), "lora": lora})
    except (KeyError, TypeError, ValueError) as e:
        raise TypeError(f"decoder: {e}") from None


def write_makings(run: Path, makings: Mapping[str, Mapping[str, Any]]) -> None:
    """Keep with a run how its data were made: by path, what `read_making` gives; nothing where no card says it.

    Raises:
        CromeError: where it cannot be kept.
    """
    if said := {path: making for path, making in makings.items() if making}:
        with whole_output(run / MAKINGS_FILE, overwrite=True) as partial:
            partial.write_text(json.dumps(said, indent=1, ensure_ascii=False), encoding="utf-8")


def write_card(run: Path, card: ModelCard) -> None:
    """Write model.json, or check that the one that is there says the same.

    Raises:
        CromeError: naming what differs between this command and the run that is in the folder.
    """
    path = run / MODEL_FILE
    text = json.dumps(dataclasses.asdict(card), indent=1)
    if path.exists():
        there, here = (_flat(card) for card in (dataclasses.asdict(read_card(run)), json.loads(text)))
        differing = [
            f"{k} was {there.get(k)!r}, is {here.get(k)!r}" for k in here | there if there.get(k) != here.get(k)
        ]
        if differing:
            what = "; ".join(differing)
            raise CromeError(f"{run}: holds another run ({what}); give another folder (--gin.OUT), or delete this one")
        return
    with whole_output(path) as partial:
        partial.write_text(text)


def _flat(card: dict) -> dict:
    # A card may be of a time when more settings had to stay.
    settings = {name: value for name, value in card.pop("settings").items() if not MAY_CHANGE.fullmatch(name)}
    return card | settings


def read_card(run: Path | str) -> ModelCard:
    """Read model.json.

    Raises:
        CromeError: where the folder holds no run, or the file is damaged.
    """
    path = place(run) / MODEL_FILE
    try:
        return ModelCard(**json.loads(path.read_text()))
    except (FileNotFoundError, NotADirectoryError):
        raise CromeError(f"{run}: no {MODEL_FILE}; give the folder (OUT) of a `crome train` run") from None
    except OSError as e:
        raise CromeError(f"{path}: cannot be read ({e.strerror}); check the path and its permissions") from None
    except (TypeError, ValueError, RecursionError) as e:
        raise CromeError(f"{path}: damaged ({e}); restore it from a copy, or train again") from None
