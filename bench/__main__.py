"""`python -m bench`: how fast the house is. Further parts by name, one function each.

`accounts` is what a crowd of guessers costs and learns; `shop` how fast orders are taken and goods are found; `race`
the same requests to ours and to others' stacks in turns; `stacks` whether all of these answer rightly; `growth` what
more data, connections and sockets cost; `report` README's table and the pictures of the last race.
"""

import sys

from bench import accounts, growth, race, report, run, shop
from bench.stacks import check

PARTS = {
    "accounts": accounts.main,
    "growth": growth.main,
    "race": race.main,
    "report": report.main,
    "shop": shop.main,
    "stacks": check.main,
}

if __name__ == "__main__":  # a process that measures beside reads this file too
    part = PARTS.get(sys.argv[1]) if len(sys.argv) > 1 else None
    raise SystemExit(part(sys.argv[2:]) if part else run.main())
