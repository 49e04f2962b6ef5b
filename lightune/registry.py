"""Find methods and tasks by scanning a folder, then by the entry points of installed packages.

To add one, write one file with one class; nothing else is edited. A third party's package adds
its own under the entry-point group `lightune.methods` or `lightune.tasks`.
"""

import pkgutil
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points

from lightune.errors import ConfigError, nearest


@cache
def scan(package: str) -> dict[str, type]:
    """Return `{name: class}` for every concrete subclass of `package`'s base class.

    `package` is a folder such as `lightune.methods`; its `base.py` names the class in `BASE`.

    Raises:
        ConfigError: two classes claim one name.
    """
    base = import_module(f"{package}.base").BASE
    for module in pkgutil.iter_modules(import_module(package).__path__):
        import_module(f"{package}.{module.name}")
    for plugin in entry_points(group=package):
        plugin.load()
    found: dict[str, type] = {}
    for candidate in base.__subclasses__():
        if candidate.name in found:
            raise ConfigError(
                f"two classes of {package} are named {candidate.name!r}",
                found=f"{found[candidate.name].__module__} and {candidate.__module__}",
                mend="rename one, or uninstall the package that brings it",
            )
        found[candidate.name] = candidate
    return dict(sorted(found.items()))


def find(package: str, name: str, key: str) -> type:
    """Return the class called `name`, or say which names exist.

    Args:
        package: `lightune.methods` or `lightune.tasks`.
        name: what the recipe says.
        key: the recipe's key, for the message.

    Raises:
        ConfigError: nothing has that name.
    """
    known = scan(package)
    if not isinstance(name, str) or name not in known:  # a stranger's file may hold a list there
        near = nearest(str(name), known)
        raise ConfigError(
            f"{key}: there is no {package.rpartition('.')[2].removesuffix('s')} {name!r}",
            found=f"known: {', '.join(known)}",
            mend=f"did you mean `{near}`?" if near else f"`{key}: {next(iter(known))}`",
        )
    return known[name]
