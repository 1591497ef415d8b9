"""The one command line: python -m experiments NAME [--preset ...]."""

import os
import sys


def main(argv=None):
    """Do what the command line says; the exit status."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal that has no eta gets a question mark
    try:
        from .commands import run  # here, so that Ctrl-C while the libraries are read is one sentence too

        status = run(argv)
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        again = "run the same command again, which trains no stored run anew"
        print(f"\ninterrupted: {again}", file=sys.stderr)
        return 130
    except BrokenPipeError:  # who reads has seen enough, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


if __name__ == "__main__":
    sys.exit(main())
