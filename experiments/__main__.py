"""The one command line: python -m experiments NAME [--preset ...]."""

import sys


def main(argv=None):
    """Do what the command line says; the exit status."""
    try:
        from .commands import run  # here, so that Ctrl-C while the libraries are read is one sentence too

        return run(argv)
    except KeyboardInterrupt:
        again = "run the same command again, which trains no stored run anew"
        print(f"\ninterrupted: {again}", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
