"""What to say where the package of an environment is missing."""

import importlib.util


def is_installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def require(what: str, modules: tuple[str, ...], command: str) -> None:
    """Raises an ImportError that ends with `command` if a module is missing."""
    missing = [module for module in modules if not is_installed(module)]
    if missing:
        raise ImportError(
            f"{what} needs {' and '.join(missing)}, not installed here. "
            f"Install with: {command}",
            name=missing[0],
        )
