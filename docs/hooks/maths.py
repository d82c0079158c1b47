"""MathML for the formulas between dollars, so that readers need neither a script nor a font of another site."""

from __future__ import annotations

import html
import re

from math_core import LatexError, LatexToMathML
from mkdocs.structure.pages import Page

FORMULA = re.compile(
    r'<(?P<tag>span|div) class="arithmatex">\\[(\[](?P<formula>.*?)\\[)\]]</(?P=tag)>',
    re.DOTALL,
)
_converter = LatexToMathML(fancy_error=False)


def on_page_content(content: str, page: Page, **_: object) -> str:
    """Replace each formula that `pymdownx.arithmatex` has marked."""

    def replace(match: re.Match[str]) -> str:
        formula, is_block = html.unescape(match["formula"]).strip(), match["tag"] == "div"
        try:
            mathml = _converter.convert_with_local_state(formula, displaystyle=is_block)
        except LatexError as error:
            raise ValueError(
                f"{page.file.src_uri}: the formula {formula!r} is no LaTeX: {error}; correct it"
            ) from error
        return f'<{match["tag"]} class="arithmatex">{mathml}</{match["tag"]}>'

    return FORMULA.sub(replace, content)
