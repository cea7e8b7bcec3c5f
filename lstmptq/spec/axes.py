"""The one table of axes and settings: everything else about them is derived from it.

An axis varies within a sweep, a setting has one value for the whole sweep. From an entry come the flag of
``sweeps/full_grid.py``, the field of :class:`lstmptq.spec.grid.Grid`, the check of the value, the column of
the table `cells`, the keys by which the analysis tells cells apart, the words and the sort order of its
tables, and the line in ``docs/axes.md`` (``python -m lstmptq.spec.axes`` prints that page's tables).

To add an axis, add an entry here, a field of the same name to the spec it belongs to
(:mod:`lstmptq.spec.specs` or :class:`lstmptq.spec.cells.Cell`), and the code that obeys it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import polars as pl
import pyarrow as pa

from lstmptq.spec.models import MODEL_KINDS, NO_VECTORS, QUANTIZED_MODELS
from lstmptq.spec.parsing import SAME, parse_bits, parse_documents, parse_internal_bits
from lstmptq.spec.requirements import require_at_least, require_bits, require_choice
from lstmptq.text.corpora import resolve_corpus
from lstmptq.text.embeddings import resolve_embedding
from lstmptq.text.noise import Noise
from lstmptq.text.sources import Source

MODELS = tuple(MODEL_KINDS)
EMBEDDINGS = ("word2vec", "glove", "spacy")
ALGORITHMS = ("none", "gpfq", "gptq", "qronos")
POOLINGS = ("mean", "last")
OBSERVERS = ("mean", "max", "percentile")
IO_SCALES = ("shared", "separate")
PADDINGS = ("counted", "masked")

BEST_EPOCH = 0  # stands for the column `checkpoint` being null: the best epoch on validation

Part = Literal["model", "quantization", "noise", "cell"]
Order = Callable[[pl.Expr], tuple[pl.Expr, ...]]

STRING = pa.string()


class _Always:
    """Marks an entry whose value is part of the identity whatever it is."""


ALWAYS = _Always()


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis, or one setting.

    Attributes:
        option: flag of the command line, with underscores.
        part: the part of a cell that has the value.
        default: what the command line takes where the flag is absent; a tuple for an axis.
        help: text of ``--help`` and of ``docs/axes.md``.
        column: column of the table `cells`, which is also the name of the spec's field; None if the value is
            in no column.
        kind: Arrow type of the column.
        description: of the column, with its unit.
        parse: turns one word of the command line into a value.
        check: raises ValueError for (name, value) if the value is not allowed.
        neutral: the value that is left out of the identity, so that existing cell_ids stay stable when an
            axis is added; ``ALWAYS`` if no value is left out.
        plural: field of the grid, where it is not named like the option.
        renamed: field of the spec, where it is not named like the column.
        usual: the value that needs no mention when a recipe is put into words.
        is_key: whether tables are told apart by it; False for what stands inside one table (model, bits,
            class ratio, noise), is averaged over (seed) or only recorded.
        details: further columns of `cells` that belong to it and tell tables apart as well.
        label: heading of its column in printed tables.
        phrase: puts a value into words; None: the label and the value.
        mention: puts a value that is not the usual one into a word of a recipe.
        order: sort keys of its column, where they are not the column itself.
    """

    option: str
    part: Part
    default: Any
    help: str
    column: str | None = None
    kind: pa.DataType = STRING
    description: str = ""
    parse: Callable[[Any], Any] = lambda value: value
    check: Callable[[str, Any], None] = lambda _name, _value: None
    neutral: Any = ALWAYS
    plural: str = ""
    renamed: str = ""
    usual: Any = None
    is_key: bool = False
    details: tuple[str, ...] = ()
    label: str = ""
    phrase: Callable[[Any], str] | None = None
    mention: Callable[[Any], str] = str
    order: Order = lambda column: (column,)

    @property
    def varies(self) -> bool:
        """Whether it is an axis rather than a setting."""
        return isinstance(self.default, tuple)

    @property
    def name(self) -> str:
        """Its key in an identity, which is also its column if it has one."""
        return self.column or self.option

    @property
    def attribute(self) -> str:
        """The field of the spec that it belongs to."""
        return self.renamed or self.name

    @property
    def field(self) -> str:
        """The field of the grid."""
        return self.plural or self.option

    @property
    def flag(self) -> str:
        """The flag as a user types it."""
        return "--" + self.option.replace("_", "-")

    def grid_value(self, given: Any) -> Any:
        """Return the value that the grid holds for `given`, a value of the command line.

        Raises:
            ValueError: if it cannot be parsed.
            FileNotFoundError: if it names a file that does not exist.
        """
        if not self.varies:
            return self.parse(given)
        if isinstance(given, str):
            raise ValueError(f"{self.option} takes several values, got the text {given!r}: use a list")
        if tuple(given) == self.default == ():  # an axis without a default: None, the model's own choice
            return (None,)
        return tuple(self.parse(value) for value in given)


def _one_of(*allowed: str) -> Callable[[str, Any], None]:
    return lambda name, value: require_choice(name, value, allowed)


def _require_embedding(name: str, value: Source) -> None:
    if value != NO_VECTORS:
        require_choice(name, value.name, EMBEDDINGS)


def _at_least(least: int) -> Callable[[str, Any], None]:
    return lambda name, value: require_at_least(name, value, least)


def _order_ratios(ratio: pl.Expr) -> tuple[pl.Expr, ...]:
    """Sort balanced first, then each kind from the more even ratio to the less even."""
    kind = ratio.str.extract(r"^(\w+):")
    number = ratio.str.extract(r":([\d.]+)$").cast(pl.Float64, strict=False)
    # classes:K is less even for a smaller K, head:P for a larger P
    return ratio != "balanced", kind, pl.when(kind == "classes").then(-number).otherwise(number), ratio


AXES: tuple[Axis, ...] = (
    Axis(
        "dataset", "model", ("bbc_news",),
        "bbc_news, ag_news, dbpedia_14, emotion, or a .parquet or .csv file with the columns text and label",
        column="dataset", description="named corpus, or the stem of a file",
        parse=resolve_corpus, plural="datasets",
        is_key=True, details=("dataset_digest",), label="corpus", phrase=str,
    ),
    Axis(
        "models", "model", QUANTIZED_MODELS,
        f"{', '.join(MODELS)} (the baseline without an LSTM, in FP32 only)",
        column="model", description="discriminative, generative or unigram; bert in the companion study",
        check=_one_of(*MODELS), renamed="kind",
    ),
    Axis(
        "embeddings", "model", EMBEDDINGS,
        "word2vec, glove, spacy; other vectors as word2vec:PATH, glove:PATH, spacy:PIPELINE",
        column="embedding", description="word2vec, glove or spacy; none for the unigram model",
        parse=resolve_embedding, check=_require_embedding,
        is_key=True, details=("embedding_source",), label="vectors",
        phrase=lambda value: f"{value} vectors".replace("none", "no"),
    ),
    Axis(
        "hidden", "model", (100,), "units per LSTM layer",
        column="hidden", kind=pa.int32(), description="units per LSTM layer",
        check=_at_least(1), is_key=True,
    ),
    Axis(
        "layers", "model", (1,), "LSTM layers",
        column="layers", kind=pa.int32(), description="LSTM layers",
        check=_at_least(1), is_key=True,
        phrase=lambda value: f"{value} layer{'s' if value != 1 else ''}",
    ),
    Axis(
        "training_documents", "model", ("all",), "documents to train on: a number, or all",
        column="training_documents", kind=pa.int32(),
        description="documents that the FP32 model was trained on",
        parse=parse_documents, check=_at_least(2),
        is_key=True, label="training documents", phrase="{} training documents".format,
    ),
    Axis(
        "epochs", "model", (),
        "training epochs. None: the model's own default; one: the length of the run, whose best epoch on "
        "validation is taken; several: the weights after each of them, from one run as long as the largest",
        column="checkpoint", kind=pa.int32(),
        description="the epoch whose weights were asked for; null: the best on validation",
        check=_at_least(1), neutral=None, is_key=True,
        phrase=lambda value: "best epoch on validation" if value == BEST_EPOCH else f"after epoch {value}",
    ),
    Axis(
        "bits", "quantization", ("fp32", "8", "7", "6", "5", "4", "3"),
        "bit widths of the weights and of the output layer's input: 2 to 8, and fp32 for the baseline",
        column="bits", kind=pa.int32(), description="weight bit width; null is the FP32 baseline",
        parse=parse_bits, check=require_bits, order=lambda column: (column.neg(),),
    ),
    Axis(
        "internal_bits", "quantization", ("8",),
        "bit widths of the LSTM's own quantizers: 2 to 8, or same (as the weights)",
        column="internal_bits", kind=pa.int32(),
        description="bit width of the LSTM's own quantizers; null for FP32",
        parse=parse_internal_bits, check=require_bits, is_key=True, label="LSTM internals, bits",
        phrase=lambda value: "LSTM internals as wide as the weights" if value == SAME
        else f"LSTM internals at {value} bits",
    ),
    Axis(
        "algorithms", "quantization", ("gpfq",),
        "weight correction after calibration: none, gpfq, gptq, qronos",
        column="algorithm", description="weight correction: none, gpfq, gptq, qronos; null for FP32",
        check=_one_of(*ALGORITHMS), is_key=True, label="weight correction",
        phrase=lambda value: "no weight correction" if value == "none" else f"weights corrected by {value}",
    ),
    Axis(
        "class_ratios", "quantization", ("balanced", "classes:3", "classes:2", "classes:1"),
        "shares of the classes in the calibration set: balanced, natural (those of the training documents), "
        "classes:K (the first K classes, evenly), head:SHARE (the first class has SHARE), or the share of "
        "every class, as 0.4,0.3,0.3",
        column="class_ratio", description="shares of the classes in the calibration set; null for FP32",
        label="class ratio", order=_order_ratios,
    ),
    Axis(
        "calibration_documents", "quantization", None,
        "documents in a calibration set; None: as many as the smallest class has, at most 512",
        column="calibration_documents", kind=pa.int32(),
        description="documents in the calibration set; null for FP32", check=_at_least(1),
    ),
    Axis(
        "calibration_labels", "quantization", "own",
        "labels under which the generative decoder is calibrated: own (that of each document), all",
        column="calibration_labels", description="labels under which the generative decoder was calibrated",
        check=_one_of("own", "all"), usual="own", is_key=True, label="calibration labels",
        mention="{} labels".format,
    ),
    Axis(
        "observer", "quantization", ("mean",),
        "statistic that sets the scale of an activation: mean (of the percentiles of time steps and batches, "
        "as Brevitas), max, percentile (of all values together)",
        column="observer",
        description="statistic behind an activation's scale: mean (of the percentiles of calls), max, "
        "percentile (of all values); null for FP32",
        check=_one_of(*OBSERVERS), neutral="mean", plural="observers", usual="mean", is_key=True,
    ),
    Axis(
        "io_scales", "quantization", ("shared",),
        "scale of the LSTM's input and of its hidden state: shared (as Brevitas), separate",
        column="io_scales",
        description="scale of the LSTM's input and hidden state: shared, separate; null for FP32",
        check=_one_of(*IO_SCALES), neutral="shared", usual="shared", is_key=True,
    ),
    Axis(
        "padding", "quantization", ("counted",),
        "padded steps of the calibration batches: counted (as Brevitas), masked",
        column="padding", description="padded steps in calibration: counted, masked; null for FP32",
        check=_one_of(*PADDINGS), neutral="counted", plural="paddings", usual="counted", is_key=True,
    ),
    Axis(
        "kept_classes", "quantization", ("first",),
        "classes that an uneven class ratio favours: first (in the order of the corpus), drawn (in an order "
        "that the seed draws); a balanced set is the same under both",
        column="kept_classes",
        description="classes that an uneven class ratio favours: first (in the order of the corpus), drawn "
        "(in an order that the seed draws); null for FP32 and up to version 4",
        check=_one_of("first", "drawn"), neutral="first", usual="first", is_key=True,
        mention="{} classes kept".format,
    ),
    Axis(
        "noise", "noise", ("clean", "typo:0.05", "typo:0.10", "typo:0.20"),
        "input noise: clean; or typo (neighbouring keys), swap, drop with the share of letters that they "
        "touch, as typo:0.05. A higher level changes every letter that a lower one changes",
        column="noise", description="kind of input noise: clean, typo, swap, drop",
        parse=Noise.parse, details=("noise_level",), label="noise",
        order=lambda column: (column != "clean", column, pl.col("noise_level")),
    ),
    Axis(
        "seeds", "model", (0,), "seeds of the split, the initial weights, the training order and the "
        "calibration draws",
        column="seed", kind=pa.int64(),
        description="seed of initial weights, training order, split and calibration draws",
        check=_at_least(0),
    ),
    Axis(
        "shift_documents", "cell", 256, "evaluation documents whose activations are compared",
        check=_at_least(1),
    ),
    Axis(
        "redraws", "cell", 5,
        "calibrate each balanced model N times more, on other documents: the shift that chance alone causes "
        "is the margin of `python -m analysis shifts`; 0 saves the time, and no margin is known",
        check=_at_least(0), neutral=0,
    ),
    Axis("limit", "cell", None, "evaluate only N test documents; None: all", check=_at_least(1)),
    Axis(
        "embedding_dim", "model", None, "reduce the word vectors to this width by PCA; None: their own width",
        column="embedding_dim", kind=pa.int32(), description="width of the word vectors", check=_at_least(1),
        is_key=True, label="vector width", phrase="{}-d vectors".format,
    ),
    Axis(
        "freeze_embedding", "model", False,
        "keep the word vectors as they came instead of training them further",
    ),
    Axis(
        "pooling", "model", "mean",
        "what the discriminative model classifies from: mean (of the hidden states over the tokens), last "
        "(hidden state)",
        check=_one_of(*POOLINGS),
    ),
    Axis(
        "min_freq", "model", None,
        "a word enters the vocabulary if it occurs N times in the training split; None: 5, or 2 below 10,000 "
        "documents",
        check=_at_least(1),
    ),
)  # fmt: skip


def axes_of(*parts: Part, varies: bool | None = None) -> Iterator[Axis]:
    """Yield the entries of some parts of a cell, in the order of the table; of all parts if none is named."""
    for axis in AXES:
        if (not parts or axis.part in parts) and varies in (None, axis.varies):
            yield axis


def axis_of(column: str) -> Axis | None:
    """Return the entry of a column of `cells`; None if the column is neither an axis nor a setting."""
    return next((axis for axis in AXES if axis.column == column), None)


def check_fields(spec: Any, part: Part) -> None:
    """Check every field of `spec` that the table describes.

    Raises:
        ValueError: naming the field, the value that came and the allowed ones.
    """
    for axis in axes_of(part):
        axis.check(axis.name, getattr(spec, axis.attribute))


def identity_of(spec: Any, part: Part) -> dict[str, Any]:
    """Return the described fields of `spec`, JSON-ready, except those at their neutral value."""
    values = {axis: getattr(spec, axis.attribute) for axis in axes_of(part)}
    return {
        axis.name: value.identity() if isinstance(value, Source) else value
        for axis, value in values.items()
        if axis.neutral is ALWAYS or value != axis.neutral
    }


def format_tables() -> str:
    """Return the tables of axes and settings in Markdown, as they stand in ``docs/axes.md``."""
    lines = []
    for title, varies in (("Axes", True), ("Settings", False)):
        lines += [f"## {title}", "", "| flag | default | what it says | column |", "|---|---|---|---|"]
        for axis in axes_of(varies=varies):
            default = " ".join(map(str, axis.default)) if axis.varies else str(axis.default)
            column = f"`{axis.column}`" if axis.column else ""
            lines.append(f"| `{axis.flag}` | {f'`{default}`' if default else ''} | {axis.help} | {column} |")
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    print(format_tables())
