"""`python -m bench`: how fast the house is. Further parts by name: `accounts`, `shop`.

`accounts` is what a crowd of guessers costs and learns; `shop` how fast orders are taken and goods are found.
"""

import sys

from bench import accounts, run, shop

PARTS = {"accounts": accounts.main, "shop": shop.main}

if __name__ == "__main__":  # a process that measures beside reads this file too
    part = PARTS.get(sys.argv[1]) if len(sys.argv) > 1 else None
    raise SystemExit(part(sys.argv[2:]) if part else run.main())
