"""The page in a real browser: what its scripts do by keyboard, that nothing overflows, that downloads are links."""

import json
import re
import shutil
import subprocess

import pytest

CHROMIUM = shutil.which("chromium")
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run",
    "--disable-component-update", "--disable-sync", "--window-size=390,844", "--virtual-time-budget=3000", "--dump-dom",
]  # fmt: skip
PROBE = """<script>
const found = { problems: [] };
onerror = (words) => found.problems.push(words);
addEventListener("load", () => {
  const of = (name) => document.getElementById(name), said = () => of("explorer-said").textContent;
  found.first = [said(), of("explorer-plot").querySelectorAll("circle").length];
  of("explorer-subject").value = "OAS2_0003";
  of("explorer-subject").dispatchEvent(new Event("input"));
  found.typed = [said(), of("explorer-table").tBodies[0].rows.length];
  of("explorer-on").click();
  found.next = of("explorer-subject").value;
  of("explorer-target").value = "1";
  of("explorer-target").dispatchEvent(new Event("change"));
  found.classes = of("explorer-table").tHead.textContent;
  of("explorer-subject").value = "nobody";
  of("explorer-subject").dispatchEvent(new Event("input"));
  found.nobody = [said(), of("explorer-plot").childElementCount];
  const button = document.querySelector("table.sortable th button");
  button.click();
  found.sorted = button.parentElement.ariaSort;
  found.wide = document.documentElement.scrollWidth - innerWidth;
  found.headings = [...document.querySelectorAll("main h1, main h2, main h3")].map((h) => Number(h.tagName[1]));
  found.unnamed = [...document.querySelectorAll("input, select, button, a, svg[role=img], .scroll")]
    .filter((e) => !(e.ariaLabel || e.labels?.length || e.textContent.trim())).map((e) => e.outerHTML.slice(0, 80));
  found.uncaptioned = [...document.querySelectorAll("table")].filter((t) => !t.caption).length;
  found.downloads = document.querySelectorAll("a[download][href^='data:']").length;
  const out = document.createElement("pre");
  out.id = "probe";
  out.textContent = JSON.stringify(found);
  document.body.append(out);
});
</script>"""


@pytest.fixture(scope="module")
def found(built, tmp_path_factory):
    if CHROMIUM is None:
        pytest.skip("no chromium to open the page with")
    folder = tmp_path_factory.mktemp("browser")
    page = folder / "report.html"
    page.write_text(built.text.replace("</head>", PROBE + "</head>"))
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={folder / 'profile'}", page.as_uri()]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300).stdout
    return json.loads(
        re.search(r'<pre id="probe">(.*?)</pre>', shown, re.DOTALL)[1]
        .replace("&gt;", ">")
        .replace("&lt;", "<")
        .replace("&amp;", "&")
    )


def test_any_subject_can_be_asked_for(found):
    assert found["problems"] == []
    assert "MMSE forecast by cnn_gru" in found["first"][0]
    assert found["first"][1] > 2
    assert found["typed"][0].startswith("OAS2_0003: MMSE")
    assert found["typed"][1] >= 1
    assert found["next"] == "OAS2_0004"
    assert "chance of 0.5" in found["classes"]
    assert found["nobody"] == ["No tested subject has this id; choose one of the list.", 0]


def test_the_page_fits_a_phone_and_is_named_throughout(found):
    assert found["wide"] <= 0
    assert found["unnamed"] == []
    assert found["uncaptioned"] == 0
    assert found["sorted"] == "ascending"
    assert found["downloads"] > 20
    assert all(after - before <= 1 for before, after in zip(found["headings"], found["headings"][1:], strict=False))
