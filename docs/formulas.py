"""Formulas as MathML, made when the site is built: browsers draw it without any script.

A hook of mkdocs. Formulas are written as GitHub reads them: a fence of the language `math`, or $`...`$
in a line.
"""

import html
import re
from typing import Any

from latex2mathml.converter import convert

_DISPLAY = re.compile(r'<pre class="math"><code>(.*?)</code></pre>', re.DOTALL)
_INLINE = re.compile(r"\$<code>(.*?)</code>\$", re.DOTALL)


def on_page_content(content: str, **_: Any) -> str:
    """The page with its formulas drawn."""
    content = _DISPLAY.sub(lambda found: _formula(found[1], "block"), content)
    return _INLINE.sub(lambda found: _formula(found[1], "inline"), content)


def _formula(latex: str, display: str) -> str:
    return str(convert(html.unescape(latex).strip(), display=display))
