"""The parts of the documentation that are made from the code: `python -m dev.docs` writes them, a test compares them.

| page | made from |
|---|---|
| `docs/reference/options.md` | the table of options, `capvec/plan/option_table.py` |
| `docs/develop/architecture.svg` | the imports of the package |
| `docs/develop/architecture.md`, the table of folders | `FLOW` in `dev/architecture.py` |
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from capvec.plan.option_help import options_markdown
from dev import architecture
from dev.drawing import drawing

DOCS = Path(__file__).resolve().parent.parent / "docs"
_TABLE = re.compile(r"(?<=<!-- folders -->\n).*?(?=<!-- end of folders -->)", re.DOTALL)


def generated() -> Mapping[Path, str]:
    """Path of each generated page → the text that it should have."""
    page = DOCS / "develop" / "architecture.md"
    return {
        DOCS / "reference" / "options.md": options_markdown(),
        DOCS / "develop" / "architecture.svg": drawing(),
        page: _TABLE.sub(lambda _: _folders(), page.read_text(encoding="utf-8")),
    }


def _folders() -> str:
    """A Markdown table of the ground modules and the folders."""
    ground, *flow = architecture.FLOW
    rows = [f"| `{name}.py` | {what} |" for name, what in ground.items()]
    rows += [f"| `{name}/` | {what} |" for row in flow for name, what in row.items()]
    return "\n".join(["", "| module or folder | what it is for |", "|---|---|", *rows, "", ""])


def main() -> None:
    """Write every page that is stale, and name it."""
    for path, text in generated().items():
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            print(f"written: {path.relative_to(DOCS.parent)}")


if __name__ == "__main__":
    main()
