"""The README and the pages of docs/: their links, their length, and the examples that they print."""

import re
import textwrap
from pathlib import Path

import pytest

import lstmptq

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
PAGES = sorted([README, ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/*.md"), ROOT / "analysis" / "findings.md"])
LINK = re.compile(r"\]\(([^)\s]+)\)")


def read_text(page: Path) -> str:
    """Return the text of a page without its code, where brackets are no links and # is no heading."""
    without_blocks = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"`[^`\n]*`", lambda code: re.sub(r"[\[\]#]", "", code[0]), without_blocks)


def list_anchors(page: Path) -> set[str]:
    """Return the anchors of the headings of a page, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", read_text(page), flags=re.MULTILINE)
    words = [re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings]
    return {heading.strip().replace(" ", "-") for heading in words}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_relative_link_leads_somewhere(page):
    for link in LINK.findall(read_text(page)):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.is_relative_to(ROOT), link
        assert target.exists(), link
        assert not anchor or anchor in list_anchors(target), link


def test_links_and_anchors_are_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# A `b`: C, d-e\n[to](x.md#y) [a\nb](z.md)\n```python\n# no heading\nf[0](no.md)\n```\n")
    assert LINK.findall(read_text(page)) == ["x.md#y", "z.md"]
    assert list_anchors(page) == {"a-b-c-d-e"}


def test_the_index_lists_every_page():
    index = ROOT / "docs" / "index.md"
    linked = {(index.parent / link).resolve() for link in LINK.findall(read_text(index))}
    assert linked >= set(ROOT.glob("docs/*.md")) - {index}


def test_structure_names_modules_and_what_is_in_them():
    text = (ROOT / "docs" / "structure.md").read_text()
    rows = re.findall(r"^\| `([\w/]+\.py)` \| (.+?) \|", text, flags=re.MULTILINE)
    assert len(rows) > 20
    for module, cell in rows:
        code = (ROOT / module).read_text()
        for name in re.findall(r"`(\w+)`", cell):
            assert re.search(rf"^(def|class) {name}\b|^{name}\b.* = ", code, flags=re.MULTILINE), (
                module,
                name,
            )


def test_every_module_that_a_page_names_exists():
    for page in PAGES:
        for path in re.findall(r"`((?:lstmptq|sweeps|analysis|tests)/[\w/]+\.py)`", page.read_text()):
            assert (ROOT / path).is_file(), (page.name, path)


def test_the_readme_is_short():
    assert len(README.read_text().splitlines()) <= 150


def test_the_library_example_of_the_readme_is_the_one_that_is_tested():
    # tests/lstmptq/test_front_door.py runs the example of the docstring
    (example,) = re.findall(r"::\n\n((?: {4}.*\n|\n)+)", lstmptq.__doc__)
    assert f"```python\n{textwrap.dedent(example).strip()}\n```" in README.read_text()
