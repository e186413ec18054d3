// Draws any tested subject from the data in the page. Its state is what the form holds.
if (document.getElementById("explorer-data")) {
  const data = JSON.parse(document.getElementById("explorer-data").textContent);
  const part = (name) => document.getElementById(`explorer-${name}`);
  const svg = (tag, attributes = {}, ...children) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    made.append(...children);
    return made;
  };
  const options = (select, pairs, chosen) => {
    select.replaceChildren(...pairs.map(([value, text]) => new Option(text, value, false, String(value) === String(chosen))));
  };
  const plain = (value) => String(Number(value.toPrecision(4)));
  const colour = (model) => `var(--model-${data.pens[model]})`;

  function ticks(low, high, count) {
    const rough = (high - low || 1) / count, power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map((k) => k * power).find((k) => k >= rough);
    const found = [];
    for (let k = Math.ceil(low / step - 1e-9); k * step <= high + 1e-9 * step; k++) found.push(Number((k * step).toPrecision(12)));
    return found;
  }

  // What is to be drawn: the target, its queries from the chosen origin with the places of their forecasts, what was seen.
  function chosen() {
    const target = data.targets[part("target").value], subject = data.subjects.indexOf(part("subject").value.trim());
    const mine = target.queries.map((row, place) => ({ place, subject: row[0], origin: row[1], from: row[2], at: row[3], truth: row[4], beyond: row[5] }))
      .filter((query) => query.subject === subject).sort((a, b) => a.at - b.at);
    return { target, subject, mine };
  }

  function refreshOrigins() {
    const origins = new Map(chosen().mine.map((query) => [query.origin, query.from])), kept = part("origin").value;
    const pairs = [...origins].sort((a, b) => a[0] - b[0]).map(([origin, from]) => [origin, `${plain(from)} y (visit ${origin + 1})`]);
    options(part("origin"), pairs, origins.has(Number(kept)) && kept !== "" ? kept : pairs[Math.min(1, pairs.length - 1)]?.[0]);
  }

  function refreshModels() {
    const target = chosen().target, kept = part("model").value;
    options(part("model"), Object.keys(target.forecasts).map((model) => [model, model]), kept in target.forecasts ? kept : target.shown);
  }

  function draw() {
    const { target, subject, mine } = chosen();
    const queries = mine.filter((query) => String(query.origin) === part("origin").value);
    const model = part("model").value;
    const ready = subject >= 0 && queries.length > 0;
    part("plot").replaceChildren();
    part("table").tHead.replaceChildren();
    part("table").tBodies[0].replaceChildren();
    if (!ready) {
      part("said").textContent = subject < 0 ? "No tested subject has this id; choose one of the list." : `Nothing was forecast of ${target.name} for this subject.`;
      return;
    }
    const from = queries[0].from, seen = target.seen.filter((row) => row[0] === subject && row[1] <= from + 1e-3).sort((a, b) => a[1] - b[1]);
    part("said").textContent = `${data.subjects[subject]}: ${target.name} forecast by ${model} at ${plain(from)} years, ${seen.length} value${seen.length === 1 ? "" : "s"} seen, ${queries.length} forecast.`;
    part("plot").replaceChildren(plot(target, queries, seen, model, from));
    table(target, queries, model);
  }

  function plot(target, queries, seen, model, from) {
    const width = Math.max(300, Math.min(704, part("plot").clientWidth || 640)), height = 300, left = 64, right = 12, top = 12, bottom = 44;
    const forecasts = queries.map((query) => target.forecasts[model][query.place]);
    const classes = target.classes.length > 0;
    const values = [...queries.map((query) => query.truth), ...seen.map((row) => row[2]), ...(classes ? [] : forecasts.flat())];
    const years = Math.max(...queries.map((query) => query.at)) * 1.04;
    let [low, high] = classes ? [-0.6, target.classes.length - 0.4] : [Math.min(...values), Math.max(...values)];
    if (!classes) [low, high] = [low - 0.06 * (high - low || 1), high + 0.06 * (high - low || 1)];
    const x = (time) => left + ((width - left - right) * (time + 0.02 * years)) / (1.02 * years);
    const y = (value) => top + ((height - top - bottom) * (high - value)) / (high - low);
    const label = `${target.name}${target.units ? ` (${target.units})` : ""}`;
    const page = svg("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": part("said").textContent });
    const line = (a, b, c, d, extra) => page.append(svg("line", { x1: a, y1: b, x2: c, y2: d, stroke: "var(--rule)", ...extra }));
    const text = (a, b, words, extra = {}) => page.append(svg("text", { x: a, y: b, fill: "var(--muted)", "font-size": 12, ...extra }, words));
    for (const time of ticks(0, years, width / 90)) {
      line(x(time), top, x(time), height - bottom);
      text(x(time), height - bottom + 16, plain(time), { "text-anchor": "middle" });
    }
    for (const value of classes ? target.classes.keys() : ticks(low, high, 5)) {
      line(left, y(value), width - right, y(value));
      text(left - 8, y(value) + 4, classes ? target.classes[value] : plain(value), { "text-anchor": "end" });
    }
    text((left + width) / 2, height - 6, "years since the first visit", { "text-anchor": "middle", fill: "var(--ink)" });
    text(14, (top + height - bottom) / 2, label, { "text-anchor": "middle", fill: "var(--ink)", transform: `rotate(-90 14 ${(top + height - bottom) / 2})` });
    line(x(from), top, x(from), height - bottom, { stroke: "var(--muted)", "stroke-dasharray": "2 3" });
    if (classes) {
      queries.forEach((query, i) => forecasts[i].forEach((share, level) => {
        page.append(svg("circle", { cx: x(query.at), cy: y(level), r: 14 * Math.sqrt(share), fill: colour(model), "fill-opacity": 0.45 }));
      }));
    } else {
      const last = seen.length ? [[seen.at(-1)[1], seen.at(-1)[2]]] : [];
      const course = (k) => [...last, ...queries.map((query, i) => [query.at, forecasts[i][k]])].map(([time, value]) => `${x(time)},${y(value)}`);
      const middle = (data.levels.length - 1) / 2;
      for (let k = 0; k < middle; k++) {
        page.append(svg("polygon", { points: [...course(k), ...course(data.levels.length - 1 - k).reverse()].join(" "), fill: colour(model), "fill-opacity": 0.16 + 0.1 * k }));
        queries.forEach((query, i) => line(x(query.at), y(forecasts[i][k]), x(query.at), y(forecasts[i][data.levels.length - 1 - k]), { stroke: colour(model), "stroke-width": 1 + 2 * k }));
      }
      page.append(svg("polyline", { points: course(middle).join(" "), fill: "none", stroke: colour(model), "stroke-width": 2 }));
    }
    page.append(svg("polyline", { points: seen.map((row) => `${x(row[1])},${y(row[2])}`).join(" "), fill: "none", stroke: "var(--ink)" }));
    for (const row of seen) page.append(svg("circle", { cx: x(row[1]), cy: y(row[2]), r: 4, fill: "var(--ink)" }));
    for (const query of queries) page.append(svg("circle", { cx: x(query.at), cy: y(query.truth), r: 4.5, fill: classes ? "none" : "var(--paper)", stroke: "var(--ink)", "stroke-width": 1.4 }));
    return page;
  }

  function table(target, queries, model) {
    const names = target.classes.length ? target.classes.map((level) => `chance of ${level}`) : data.levels.map((level) => `${100 * level}%`);
    const heads = ["Years since the first visit", "Observed outcome", ...names, "Beyond the follow-up in training"].map((words) => {
      const head = document.createElement("th");
      head.scope = "col";
      head.className = "number";
      head.textContent = words;
      return head;
    });
    part("table").tHead.insertRow().append(...heads);
    for (const query of queries) {
      const row = part("table").tBodies[0].insertRow();
      const outcome = target.classes.length ? target.classes[query.truth] : plain(query.truth);
      for (const words of [plain(query.at), outcome, ...target.forecasts[model][query.place].map(plain), query.beyond ? "yes" : "no"]) {
        const cell = row.insertCell();
        cell.className = "number";
        cell.textContent = words;
      }
    }
  }

  function step(by) {
    const count = data.subjects.length, now = data.subjects.indexOf(part("subject").value.trim());
    part("subject").value = data.subjects[(now + by + count) % count];
    refreshOrigins();
    draw();
  }

  part("subjects").replaceChildren(...data.subjects.map((subject) => new Option(subject, subject)));
  const count = new Map();
  for (const [subject] of data.targets[0].queries) count.set(subject, (count.get(subject) ?? 0) + 1);
  part("subject").value = data.subjects[[...count].sort((a, b) => b[1] - a[1])[0][0]];
  options(part("target"), data.targets.map((target, place) => [place, target.name]), 0);
  refreshModels();
  refreshOrigins();
  part("subject").addEventListener("input", () => { refreshOrigins(); draw(); });
  part("target").addEventListener("change", () => { refreshModels(); refreshOrigins(); draw(); });
  part("origin").addEventListener("change", draw);
  part("model").addEventListener("change", draw);
  part("back").addEventListener("click", () => step(-1));
  part("on").addEventListener("click", () => step(1));
  document.getElementById("explorer").addEventListener("submit", (event) => event.preventDefault());
  addEventListener("resize", draw);
  document.getElementById("explorer").hidden = document.getElementById("explorer-figure").hidden = false;
  draw();
}
