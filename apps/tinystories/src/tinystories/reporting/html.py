"""The report as one HTML file that needs nothing else: no network, no scripts, no other files."""

import base64

from tinystories.reporting.document import Document
from tinystories.reporting.markdown import NOTHING_WRITTEN, PROMPT_NOTE

TEMPLATE = "report.html.jinja"


def html(document: Document) -> str:
    """The whole report; its pictures, for light and dark, are inside. All text is escaped, a model's above all."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    from tinystories.reporting.pictures.style import DARK, LIGHT, rendered

    environment = Environment(
        loader=PackageLoader("tinystories.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    pictures = [
        {
            "picture": picture,
            "light": _data_uri(rendered(picture.drawing, LIGHT, "svg")),
            "dark": _data_uri(rendered(picture.drawing, DARK, "svg")),
        }
        for picture in document.pictures
    ]
    return environment.get_template(TEMPLATE).render(
        document=document, pictures=pictures, prompt_note=PROMPT_NOTE, nothing_written=NOTHING_WRITTEN
    )


def _data_uri(content: bytes) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(content).decode("ascii")
