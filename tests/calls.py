"""The command, as a function call."""

from experiments import __main__ as command


def call(capsys, *args):
    """(exit status, stdout, stderr) of the command."""
    try:
        status = command.main(args)
    except SystemExit as end:
        status = end.code
    return status, *capsys.readouterr()
