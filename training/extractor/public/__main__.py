"""Make `training/data/public` from a folder of public sets: `python -m training.extractor.public FOLDER`.

FOLDER holds one folder for each set: its files, and its licences as `LICENSE…`. With `--schema` and `--mapping` the
sets become examples of another schema.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path

import structlog

from config.schema import Schema, load_schema
from config.settings import SCHEMA
from training.annotation import Example, to_block
from training.extractor.public.mapping import MAPPING
from training.extractor.public.readers import read_gap, read_knowledgenet, read_text2kgbench
from training.splits import PUBLIC, is_held_out

_log = structlog.get_logger(__name__)
READERS: dict[str, Callable[[Path, Schema, Path], Iterator[Example]]] = {
    "knowledgenet": read_knowledgenet,
    "gap": read_gap,
    "text2kgbench": read_text2kgbench,
}
SHIPPED = ("knowledgenet", "gap")


def main() -> None:
    """Write one annotated file for each set, with its licences beside it."""
    parser = argparse.ArgumentParser(prog="python -m training.extractor.public", description=__doc__)
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument("--out", type=Path, default=PUBLIC)
    parser.add_argument("--sets", nargs="+", choices=sorted(READERS), default=list(SHIPPED))
    parser.add_argument("--schema", type=Path, default=SCHEMA)
    parser.add_argument("--mapping", type=Path, default=MAPPING)
    parser.add_argument("--share", type=float, default=1.0, help="of the examples to keep, chosen by what they say")
    options = parser.parse_args()
    schema = load_schema(options.schema)
    for name in options.sets:
        found = READERS[name](options.folder / name, schema, options.mapping)
        examples = [example for example in found if is_held_out(f"share:{example.text}", options.share)]
        target: Path = options.out / f"{name}.txt"
        target.write_text("\n".join(to_block(example, schema.statuses[0]) for example in examples), encoding="utf-8")
        licences = sorted((options.folder / name).glob("LICENSE*"))
        (options.out / f"{name}.LICENSE").write_bytes(b"\n".join(licence.read_bytes() for licence in licences))
        _log.info("written", file=target.name, examples=len(examples), bytes=target.stat().st_size)


if __name__ == "__main__":
    main()
