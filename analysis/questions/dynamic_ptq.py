"""Why dynamic PTQ can be slower than FP32, in words.

``python -m analysis.questions.dynamic_ptq MEASURED.json`` reads what was measured by ``python -m
lstmptq.companion.anomaly --out MEASURED.json``.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

PUBLISHED_FP32_MS, PUBLISHED_DYNAMIC_MS = 6.5, 225.1  # a document, companion study table 1
FP32, FUSED = "FP32", "torch quantize_dynamic, x86"
SHOWN = 6


def written(found: dict[str, Any], source: str) -> str:
    """The finding as Markdown.

    Args:
        found: what was measured, as the file has it.
        source: the name of that file.
    """
    measured = found["measured"]
    work = {int(tokens): operations for tokens, operations in found["linear_work"].items()}
    fp32 = {f["tokens"]: f["ms"] for f in measured if f["variant"] == FP32}
    rows = [
        f"| {f['variant']} | {f['tokens']} | {f['ms']:.1f} ({f['low_ms']:.1f}-{f['high_ms']:.1f}) "
        f"| {f['time_ratio']:.2f} | {sum(calls for _, calls in f['operators'].values())} "
        f"| {100 * f['integer_time']:.0f} % |"
        for f in measured
    ]
    slowest = max(measured, key=lambda f: f["time_ratio"])
    fastest = min(measured, key=lambda f: f["time_ratio"])
    throughput = {tokens: work[tokens] / (1e6 * ms) for tokens, ms in fp32.items()}  # GFLOP/s
    published = {tokens: work[tokens] / (1e6 * PUBLISHED_FP32_MS) for tokens in work}
    dynamic = {tokens: work[tokens] / (1e6 * PUBLISHED_DYNAMIC_MS) for tokens in work}
    ratio = PUBLISHED_DYNAMIC_MS / PUBLISHED_FP32_MS
    before, after = found["load"]
    lines = [
        "# Why dynamic PTQ can be slower than FP32",
        "",
        f"Measured by `{found['command']}` and written by "
        f"`python -m analysis.questions.dynamic_ptq {source}`; do not edit. {found['machine']}, "
        f"{found['threads']} thread, torch {found['torch']}, a BERT of "
        f"{found['parameters'] / 1e6:.0f} million random weights, one document at a time, in turns with "
        f"FP32. The machine's load was {before:.0f} before and {after:.0f} after, on {found['processors']} "
        "processors: above them, compare ratios, which the turns keep, and not milliseconds.",
        "",
        f"The published table has dynamic PTQ {ratio:.1f} times slower than FP32 "
        f"({PUBLISHED_DYNAMIC_MS} against {PUBLISHED_FP32_MS} ms a document).",
        "",
        "## Measured on one processor",
        "",
        "| how | word pieces | ms (quartiles) | time / FP32's | operators called | integer products' time |",
        "|---|---|---|---|---|---|",
        *rows,
        "",
        "- **The fused kernel:** "
        + "; ".join(
            f"with {f['tokens']} word pieces torch's own int8 kernel takes {f['time_ratio']:.2f} of FP32's "
            "time"
            for f in measured
            if f["variant"] == FUSED
        )
        + ". It finds a call's range, quantizes and multiplies in one operator.",
        f"- **What is around it.** The slowest variant, {slowest['variant']} at {slowest['tokens']} word "
        f"pieces, takes {slowest['time_ratio']:.2f} times FP32's time; the fastest, {fastest['variant']} at "
        f"{fastest['tokens']}, {fastest['time_ratio']:.2f}. Unfused, every linear layer runs a dozen small "
        "operators over its input before it multiplies; with weights made float at every call the product "
        "stays a float one and the conversion comes on top.",
        "- **Padding.** FP32 takes "
        + " and ".join(f"{ms:.0f} ms with {tokens} word pieces" for tokens, ms in fp32.items())
        + "; the ratios at both lengths are in the table.",
        f"- **On one processor the worst is a factor of {slowest['time_ratio']:.1f}**, the published one "
        f"{ratio:.1f}.",
        "",
        "## What the published times say",
        "",
        "| word pieces | GFLOP a document | FP32 here, GFLOP/s | published FP32 | published dynamic PTQ |",
        "|---|---|---|---|---|",
        *(
            f"| {tokens} | {work[tokens] / 1e9:.1f} | {throughput[tokens]:.0f} | {published[tokens]:.0f} "
            f"| {dynamic[tokens]:.0f} |"
            for tokens in work
        ),
        "",
        "The published FP32 time needs the last column but one in GFLOP/s from whatever ran it; with inputs "
        f"padded to {max(work)} that is a graphics processor's rate. The published dynamic time is a "
        "processor's. Torch's dynamic int8 kernels exist for CPUs only, so that a model on a GPU has to be "
        "moved back for them. The explanation that fits all four numbers is therefore **two devices**: FP32 "
        "on a GPU against int8 on a CPU. It is an inference from the arithmetic above: the table does not "
        "name its devices. That the published accuracy did not change in any digit is no proof of a float "
        "path, but is what one would look like; here the kernel that ran is in every row.",
        "",
        "## The profiles",
        "",
        "Own time of the longest operators, one pass.",
        "",
        *(line for f in measured for line in _profile(f)),
    ]
    return "\n".join(lines) + "\n"


def _profile(measured: dict[str, Any]) -> list[str]:
    total = sum(ms for ms, _ in measured["operators"].values())
    rows = [
        f"| {name} | {calls} | {ms:.2f} | {100 * ms / total:.0f} % |"
        for name, (ms, calls) in list(measured["operators"].items())[:SHOWN]
    ]
    return [
        f"**{measured['variant']}, {measured['tokens']} word pieces**",
        "",
        "| operator | calls | ms | share |",
        "|---|---|---|---|",
        *rows,
        "",
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the Markdown, or write it."""
    parser = argparse.ArgumentParser(prog="python -m analysis.questions.dynamic_ptq", description=__doc__)
    parser.add_argument("measured", type=Path, help="the JSON of python -m lstmptq.companion.anomaly")
    parser.add_argument("--out", type=Path, help="the file to write; without it the text is printed")
    options = parser.parse_args(arguments)
    text = written(json.loads(options.measured.read_text()), options.measured.name)
    if options.out is None:
        print(text, end="")
        return
    options.out.write_text(text)
    print(f"wrote {options.out}")


if __name__ == "__main__":
    main()
