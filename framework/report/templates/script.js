// Conveniences only: the page is complete without them.
for (const table of document.querySelectorAll("table.sortable")) {
  table.querySelectorAll("thead th").forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      table.querySelectorAll("th[aria-sort]").forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const value = (row) => row.cells[column].dataset.sort ?? row.cells[column].textContent.trim();
      const order = new Intl.Collator(undefined, { numeric: true }).compare;
      const compare = (a, b) => (isNaN(a) || isNaN(b) || a === "" || b === "" ? order(a, b) : a - b);
      const rows = [...table.tBodies[0].rows].sort((a, b) => compare(value(a), value(b)));
      table.tBodies[0].append(...(down ? rows.reverse() : rows));
    });
  });
}
for (const box of document.querySelectorAll("input[data-filters]")) {
  box.hidden = false;
  box.addEventListener("input", () => {
    for (const row of document.getElementById(box.dataset.filters).tBodies[0].rows) {
      row.hidden = !row.textContent.toLowerCase().includes(box.value.toLowerCase());
    }
  });
}
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((part) => (part.open = true)));
