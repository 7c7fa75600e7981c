"""`python -m bench`: how fast the house is. `python -m bench accounts`: what a crowd of guessers costs and learns."""

import sys

from bench import accounts, run

if __name__ == "__main__":  # a process that measures beside reads this file too
    raise SystemExit(accounts.main(sys.argv[2:]) if sys.argv[1:2] == ["accounts"] else run.main())
