"""The report as one self-contained HTML file: no network, no scripts, no other files."""

import base64

from trainer.experiments.reporting import words
from trainer.experiments.reporting.document import Document
from trainer.experiments.reporting.pictures import DARK, LIGHT, rendered
from trainer.experiments.reporting.tables import VERDICT

TEMPLATE = "report.html.jinja"


def html(document: Document) -> str:
    """Render the report with each picture embedded twice, for light and for dark screens; all text is escaped."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("trainer.experiments.reporting"),
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
    return environment.get_template(TEMPLATE).render(document=document, pictures=pictures, words=words, verdict=VERDICT)


def _data_uri(content: bytes) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(content).decode("ascii")
