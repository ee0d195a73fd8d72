"""The parts that vidfed is installed in, and how one is added. vidfed is in no public package index: it is installed from its own files."""

from __future__ import annotations

from importlib import metadata
from typing import Final

NEEDED_BY: Final = {
    "alembic": "node",
    "babel": "desk",
    "faiss": "node",
    "grpc_health": "node",
    "numba": "node",
    "pkcs11": "hsm",
    "prometheus_client": "node",
    "psycopg": "postgresql",
    "pymysql": "mysql",
    "pyodbc": "mssql",
    "oracledb": "oracle",
    "sqlalchemy": "node",
    "starlette": "desk",
    "uvicorn": "desk",
}
"""Modules that only one extra brings, and which."""

_PARTS: Final = {"desk": "the desk", "node": "the part of vidfed that runs nodes and gateways"}


def how_to_add(extra: str) -> str:
    """Tell how an extra is installed: from the wheel at hand, or from the bundle, which has them all."""
    return (
        f"install it from the file that vidfed came as, with the extra: "
        f"pip install './vidfed-{metadata.version('vidfed')}-py3-none-any.whl[{extra}]'; the bundle brings all (docs/install.md)"
    )


def missing_part(error: ModuleNotFoundError) -> str | None:
    """Tell what to do about a module that is missing because its extra is not installed; None if that is not the cause."""
    extra = NEEDED_BY.get((error.name or "").partition(".")[0])
    if extra is None:
        return None
    what = _PARTS.get(extra) or f"{error.name}, which this needs,"
    return f"{what} is not installed here; {how_to_add(extra)}"
