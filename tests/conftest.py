"""What every test stands on: an environment without the user's repository."""

import os


def pytest_configure():
    """git tells a hook, or what `git rebase --exec` runs, by variables which repository it works on.

    A test's own git would follow them, away from its folder and into that repository.
    """
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        del os.environ[name]
