"""Run by itself: print as JSON which MPI library mpi4py loads, and from where.

Only a process that loads it knows, and the one that asks does not want to have it. MPI is not
initialised. Nothing of TissLM is imported here.
"""

import json
import os


def main() -> None:
    """Print the vendor and the path of the library, or what is wrong."""
    try:
        import mpi4py

        mpi4py.rc.initialize = False
        from mpi4py import MPI
    except ModuleNotFoundError as error:
        tell({"missing": error.name or str(error)})
    except (ImportError, RuntimeError) as error:
        tell({"problem": str(error).strip().partition("\n")[0]})
    else:
        with open("/proc/self/maps", encoding="utf-8", errors="replace") as maps:
            files = {line.rstrip("\n").partition("/")[2] for line in maps}
        names = sorted(f"/{name}" for name in files if is_library(os.path.basename(name)))
        tell({"vendor": MPI.get_vendor()[0], "paths": names})


def tell(facts: dict[str, object]) -> None:
    """Write facts to standard output, as the whole of what this process says."""
    os.write(1, json.dumps(facts).encode() + b"\n")


def is_library(name: str) -> bool:
    """Return True for libmpi.so.12 and the like, False for its helpers (libmpi_cxx)."""
    return name.partition(".so")[0] in ("libmpi", "libmpich", "libmpi_abi")


if __name__ == "__main__":
    main()
