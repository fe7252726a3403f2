"""What to say where the package of an environment is missing."""

import importlib.util

from keras_agalite.environments.catalog import REQUIREMENTS


def is_installed(module: str) -> bool:
    """Whether a module could be imported, without importing it."""
    return importlib.util.find_spec(module) is not None


def require(what: str, requirement: str) -> None:
    """Raises an ImportError with the pip command if a package is missing.

    Args:
        what: What needs it.
        requirement: Key of `catalog.REQUIREMENTS`.
    """
    needed = REQUIREMENTS[requirement]
    missing = [module for module in needed.packages if not is_installed(module)]
    if missing:
        raise ImportError(
            f"{what} needs {' and '.join(missing)}, not installed here. "
            f"Install with: {needed.command(missing)}",
            name=missing[0],
        )
