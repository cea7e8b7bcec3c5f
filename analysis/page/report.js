"use strict";
(() => {
  const PAGE_ROWS = 50;
  const byId = (id) => document.getElementById(id);
  const make = (tag, attributes = {}, text = null) => {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    if (text !== null) element.textContent = text;
    return element;
  };
  const payload = (name) => {
    const element = byId(`data-${name}`);
    return element ? JSON.parse(element.textContent) : null;
  };

  // A column is a plain list, or codes into a list of values.
  const rowsOf = (data) => {
    const names = Object.keys(data.columns);
    const columns = names.map((name) => {
      const column = data.columns[name];
      return Array.isArray(column) ? column : column.codes.map((code) => column.values[code]);
    });
    return Array.from({ length: data.length }, (_, at) =>
      Object.fromEntries(names.map((name, n) => [name, columns[n][at]])));
  };
  const format = (value, digits) => {
    if (value === null || value === undefined) return "–";
    if (digits === null || typeof value !== "number") return String(value);
    const text = value.toFixed(digits);
    return Number(text) === 0 ? (0).toFixed(digits) : text;
  };

  const numeric = (one) => (one.number ? { class: "number" } : {});
  const makeLine = (headings, row) => {
    const line = make("tr");
    for (const one of headings) line.append(make("td", numeric(one), format(row[one.key], one.digits)));
    return line;
  };
  const makePart = (tag, ...lines) => {
    const part = make(tag);
    part.append(...lines);
    return part;
  };
  const fillTable = (table, headings, rows) => {
    const head = make("tr");
    for (const one of headings) head.append(make("th", { scope: "col", ...numeric(one) }, one.heading));
    const lines = rows.map((row) => makeLine(headings, row));
    table.replaceChildren(makePart("thead", head), makePart("tbody", ...lines));
  };

  const readControls = (section) =>
    Object.fromEntries([...section.querySelectorAll("select[data-control]")].map((s) => [s.dataset.control, s.value]));
  const filterRows = (rows, choice) => {
    const wanted = Object.entries(choice);
    return rows.filter((row) => wanted.every(([key, value]) => row[key] === value));
  };

  const startFigure = async (section) => {
    const figure = payload(section.dataset.figure);
    if (!figure) return;
    const rows = rowsOf(figure);
    const details = section.querySelector("details");
    const views = {};
    const draw = async () => {
      const here = filterRows(rows, readControls(section));
      const values = here.flatMap((row) => figure.extent.map((key) => row[key])).filter((v) => v !== null);
      const ends = values.length ? { low: Math.min(...values), high: Math.max(...values) } : {};
      for (const place of section.querySelectorAll(".chart")) {
        const panel = place.dataset.panel;
        const source = here.filter((row) => row[figure.panel] === panel);
        place.hidden = source.length === 0;
        if (place.hidden) continue;
        if (!views[panel]) {
          const spec = { ...figure.specs[panel], datasets: { source } };
          if (spec.params) spec.params = spec.params.map((one) => ({ ...one, value: ends[one.name] ?? one.value }));
          const { view } = await vegaEmbed(place, spec, { renderer: "svg", actions: false, mode: "vega-lite" });
          place.firstElementChild.setAttribute("aria-hidden", "true"); // the container has a name and a table
          views[panel] = view;
          continue;
        }
        const view = views[panel].data("source", source);
        if (figure.extent.length) for (const [name, value] of Object.entries(ends)) view.signal(name, value);
        await view.runAsync();
      }
      if (details.open) fillTable(details.querySelector("table"), figure.headings, here);
      section.querySelector(".shown").textContent = here.length
        ? `Shown: ${here.length} of ${rows.length}.`
        : "No finished cell has this setting: choose another.";
      section.dataset.rows = here.length;
    };
    for (const select of section.querySelectorAll("select")) select.addEventListener("change", draw);
    details.addEventListener("toggle", draw);
    await draw();
  };

  const matrixTable = (title, matrix, classes) => {
    const box = make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": title });
    const table = make("table", { class: "matrix" });
    table.append(make("caption", {}, title));
    const head = make("tr");
    head.append(make("th", { scope: "col" }, "true \\ predicted"));
    for (const name of classes) head.append(make("th", { scope: "col" }, name));
    const lines = classes.map((name, r) => {
      const line = make("tr");
      line.append(make("th", { scope: "row" }, name));
      const counts = matrix.slice(r * classes.length, (r + 1) * classes.length);
      const all = counts.reduce((a, b) => a + b, 0) || 1;
      counts.forEach((count, c) => {
        const share = count / all;
        const cell = make("td", {}, count ? `${count} (${(100 * share).toFixed(0)} %)` : "0");
        const colour = r === c ? "var(--c0)" : "var(--c1)";
        cell.style.background = `color-mix(in srgb, ${colour} ${(share * 45).toFixed(0)}%, var(--paper))`;
        line.append(cell);
      });
      return line;
    });
    table.append(makePart("thead", head), makePart("tbody", ...lines));
    box.append(table);
    return box;
  };
  const startConfusion = () => {
    const data = payload("confusion");
    if (!data) return;
    const section = byId("confusion");
    const rows = rowsOf(data);
    const draw = () => {
      const choice = readControls(section);
      const places = section.querySelector(".matrices");
      places.replaceChildren();
      for (const width of new Set(["FP32", choice.width])) {
        const found = filterRows(rows, { ...choice, width });
        for (const row of found) {
          const title = `${width === "FP32" ? "FP32" : width + " bits"}: ${row.accuracy.toFixed(1)} % right`;
          places.append(matrixTable(title, row.matrix, data.classes[row.dataset]));
        }
        if (!found.length) places.append(make("p", { class: "note" }, `${width}: no finished cell has this setting.`));
      }
    };
    for (const select of section.querySelectorAll("select")) select.addEventListener("change", draw);
    draw();
  };

  const startCells = () => {
    const data = payload("cells");
    if (!data) return;
    const rows = rowsOf(data);
    for (const row of rows) row.text = data.headings.map((h) => row[h.key]).join(" ").toLowerCase();
    const table = byId("cells-table");
    const state = { key: null, down: false, page: 0, kept: rows };
    const head = make("tr");
    const heads = data.headings.map((one) => {
      const cell = make("th", { scope: "col", ...numeric(one) });
      const button = make("button", { type: "button" }, one.heading);
      button.addEventListener("click", () => {
        state.down = state.key === one.key ? !state.down : false;
        state.key = one.key;
        for (const other of heads) other.cell.removeAttribute("aria-sort");
        cell.setAttribute("aria-sort", state.down ? "descending" : "ascending");
        refresh();
      });
      cell.append(button);
      head.append(cell);
      return { cell, one };
    });
    table.tHead.append(head);
    const compare = (key, down) => (a, b) => {
      const [x, y] = [a[key], b[key]];
      if (x === y) return 0;
      if (x === null) return 1; // unknown values stay at the end
      if (y === null) return -1;
      const order = typeof x === "number" && typeof y === "number" ? x - y
        : String(x).localeCompare(String(y), "en", { numeric: true });
      return down ? -order : order;
    };
    const showPage = () => {
      const last = Math.max(0, Math.ceil(state.kept.length / PAGE_ROWS) - 1);
      state.page = Math.min(Math.max(state.page, 0), last);
      const part = state.kept.slice(state.page * PAGE_ROWS, (state.page + 1) * PAGE_ROWS);
      table.tBodies[0].replaceChildren(...part.map((row) => makeLine(data.headings, row)));
      byId("cells-page").textContent = `page ${state.page + 1} of ${last + 1}`;
      byId("cells-before").disabled = state.page === 0;
      byId("cells-after").disabled = state.page === last;
      byId("cells-count").textContent = `${state.kept.length} of ${rows.length} cells`;
    };
    const refresh = () => {
      const words = byId("cells-search").value.toLowerCase().split(/\s+/).filter(Boolean);
      const wanted = [...document.querySelectorAll("select[data-filter]")].filter((s) => s.value)
        .map((s) => [s.dataset.filter, s.value]);
      state.kept = rows.filter((row) => wanted.every(([key, value]) => String(row[key] ?? "–") === value)
        && words.every((word) => row.text.includes(word)));
      if (state.key) state.kept.sort(compare(state.key, state.down));
      state.page = 0;
      showPage();
    };
    byId("cells-search").addEventListener("input", refresh);
    for (const select of document.querySelectorAll("select[data-filter]")) select.addEventListener("change", refresh);
    byId("cells-before").addEventListener("click", () => { state.page -= 1; showPage(); });
    byId("cells-after").addEventListener("click", () => { state.page += 1; showPage(); });
    refresh();
  };

  const start = async () => {
    startCells();
    startConfusion();
    for (const section of document.querySelectorAll("section.figure")) await startFigure(section);
    document.documentElement.dataset.ready = "true";
  };
  start();
})();
