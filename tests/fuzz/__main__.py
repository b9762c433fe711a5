"""Mutate good packages and adapters, run the commands on them under limits, and print each failure.

  make fuzz                                    until it is stopped
  PYTHONPATH=tests .venv/bin/python -m fuzz --count 500 --device openvino
  PYTHONPATH=tests .venv/bin/python -m fuzz --target package --seed 1234 --count 1 --alone --keep kept/

A seed and a target make the same case each time. Exit status 1 if any case failed.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from fuzz.cases import try_case
from fuzz.goods import make_good
from fuzz.registry import targets
from fuzz.runner import Zygote, run_alone


def main() -> int:
    """Run cases until there are no more; 1 if any failed."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--seed", type=int, default=0, help="the first (default: %(default)s)")
    options.add_argument("--count", type=int, help="how many cases (default: until it is stopped)")
    options.add_argument("--target", choices=targets(), action="append", help="default: all")
    options.add_argument("--device", default="cpu")
    options.add_argument("--jobs", type=int, default=2, help="processes at once (default: %(default)s)")
    options.add_argument("--alone", action="store_true", help="a process of its own for each command, as users have it")
    options.add_argument("--all", action="store_true", help="print every case, not the failed ones alone")
    chosen = options.parse_args()
    chosen_targets = chosen.target or targets()
    numbers = range(chosen.seed, chosen.seed + chosen.count) if chosen.count else itertools.count(chosen.seed)
    faults: Counter[str] = Counter()
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="uir-fuzz-") as folder:
        good = make_good(Path(folder), chosen.device)
        seeds = ((target, seed) for seed in numbers for target in chosen_targets)
        turn = threading.Lock()

        def work(_: int) -> int:
            done = 0
            zygote = None if chosen.alone else Zygote(good.cache)
            while True:
                with turn:
                    case = next(seeds, None)
                if case is None:
                    break
                run = zygote.run if zygote else (lambda arguments, _: run_alone(arguments, good.cache))
                verdict = try_case(good, *case, run, ["--device", chosen.device])
                done += 1
                if verdict.fault:
                    faults[verdict.fault.split(":")[0]] += 1
                if verdict.fault or chosen.all:
                    print(verdict, flush=True)
            if zygote:
                zygote.close()
            return done

        with ThreadPoolExecutor(chosen.jobs) as pool:
            done = sum(pool.map(work, range(chosen.jobs)))
    counts = ", ".join(f"{count} {fault}" for fault, count in faults.most_common()) or "none failed"
    print(f"{done} cases on {chosen.device} in {time.monotonic() - begun:.0f} s: {counts}")
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())
