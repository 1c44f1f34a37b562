"""Pages of HTML in tests: read as a browser would, which must load nothing else."""

import re
from html.parser import HTMLParser


class Checked(HTMLParser):
    """Collects what a page would load, its ids, and whether its tags are balanced."""

    VOID = {"meta", "br", "line", "use", "path", "rect", "circle", "polygon"}

    def __init__(self, text):
        super().__init__()
        self.open, self.ids, self.links, self.loads, self.text = [], [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes, closed=False):
        told = dict(attributes)
        self.ids += [told["id"]] if "id" in told else []
        self.links += [value for name, value in attributes if name in ("href", "xlink:href")]
        self.loads += [value for name, value in attributes if name in ("src", "srcset", "data", "action", "poster")]
        self.loads += [tag] * (tag in ("script", "link", "iframe", "object", "embed", "img", "image"))
        self.loads += [name for name, _ in attributes if name.startswith("on")]
        if not closed and tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes, closed=True)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def checked(text):
    """A page that is well-formed, and needs nothing but itself."""
    found = Checked(text)
    assert found.open == []
    assert found.loads == []
    assert len(found.ids) == len(set(found.ids))
    assert all(link.startswith("#") and link[1:] in found.ids for link in found.links)
    assert not re.search(r"@import|url\((?!#)", text)
    return " ".join(" ".join(found.text).split())
