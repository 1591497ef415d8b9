"""Waiting for what another process does."""

import time


def wait_for(condition):
    """Until condition() holds, with a patience that only a hanging program uses up."""
    for _ in range(3000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("waited in vain")
