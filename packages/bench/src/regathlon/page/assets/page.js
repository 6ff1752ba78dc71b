"use strict";
(() => {
  const $ = (selector, root = document) => root.querySelector(selector);
  const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];
  const make = (tag, text = "", properties = {}) => Object.assign(document.createElement(tag), { textContent: text, ...properties });

  for (const element of $$(".scripted")) element.hidden = false;

  // Colours: the choice is remembered where the browser lets a file remember.
  const stored = (() => { try { return localStorage; } catch { return null; } })();
  const setTheme = (theme) => {
    if (theme === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
  };
  const choices = $$(".theme input");
  const remembered = choices.find((choice) => choice.value === stored?.getItem("regathlon-theme"));
  if (remembered) { remembered.checked = true; setTheme(remembered.value); }
  for (const choice of choices) {
    choice.addEventListener("change", () => { setTheme(choice.value); stored?.setItem("regathlon-theme", choice.value); });
  }

  // Sorting: what has no value stays last in either direction.
  const collator = new Intl.Collator(undefined, { numeric: true });
  const keyOf = (cell, numeric) => {
    const key = cell.dataset.key ?? cell.textContent.trim();
    return numeric ? (key === "" ? NaN : Number(key)) : key;
  };
  const sort = (head) => {
    const table = head.closest("table"), body = table.tBodies[0], numeric = head.classList.contains("number");
    const before = head.getAttribute("aria-sort");
    const descending = before ? before === "ascending" : head.hasAttribute("data-largest");
    const sign = descending ? -1 : 1;
    const rows = [...body.rows].map((row) => [keyOf(row.cells[head.cellIndex], numeric), row]);
    rows.sort(([a], [b]) => {
      if (!numeric) return sign * collator.compare(a, b);
      if (Number.isNaN(a) || Number.isNaN(b)) return Number.isNaN(a) - Number.isNaN(b);
      return sign * (a - b);
    });
    for (const other of head.parentElement.cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", descending ? "descending" : "ascending");
    body.append(...rows.map(([, row]) => row));
  };
  for (const button of $$(".grid thead button")) button.addEventListener("click", () => sort(button.closest("th")));

  // One series shown alone: pinned by its button or the filter, or for as long as the pointer is over its row.
  const sheet = new CSSStyleSheet();
  document.adoptedStyleSheets = [sheet];
  let pinned = null, pointed = null;
  const emphasise = () => {
    const series = pointed ?? pinned;
    sheet.replaceSync(series === null ? "" : `.chart [data-series]:not([data-series="${Number(series)}"]) { opacity: .1 }`);
    for (const button of $$(`.series[aria-pressed="true"]`)) button.setAttribute("aria-pressed", "false");
    if (pinned !== null) for (const button of $$(`.series[data-series="${Number(pinned)}"]`)) button.setAttribute("aria-pressed", "true");
  };
  document.addEventListener("click", (event) => {
    const button = event.target.closest(".series");
    if (!button) return;
    pinned = pinned === button.dataset.series ? null : button.dataset.series;
    emphasise();
  });
  if (matchMedia("(hover: hover)").matches) {
    document.addEventListener("pointerover", (event) => {
      const series = $(".series", event.target.closest("tbody tr") ?? document.createElement("i"))?.dataset.series ?? null;
      if (series !== pointed) { pointed = series; emphasise(); }
    });
  }

  // Filters
  const form = $(".filter"), said = $("output", form), { regularizer, task, status, search } = form.elements;
  const rows = $$(".grid tbody tr").map((row) => [row, row.textContent.toLowerCase(), row.dataset]);
  const sections = $$("section.task"), pictures = $$(".picture");
  const filter = () => {
    const name = regularizer.value === "" ? null : regularizer.selectedOptions[0].textContent;
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const [row, text, of] of rows) {
      const fits =
        (name === null || of.name === name) &&
        (task.value === "" || of.task === "" || of.task === task.value) &&
        (status.value === "" || of.status === undefined || of.status === status.value) &&
        words.every((word) => text.includes(word));
      row.hidden = !fits;
      shown += fits;
    }
    for (const section of sections) section.hidden = task.value !== "" && section.dataset.task !== task.value;
    for (const picture of pictures) picture.hidden = name !== null && picture.dataset.name !== name;
    pinned = regularizer.value === "" ? null : regularizer.value;
    emphasise();
    said.textContent = shown === rows.length ? "" : `${shown} of ${rows.length} rows of all tables are shown.`;
  };
  let waiting = 0;
  form.addEventListener("input", () => { cancelAnimationFrame(waiting); waiting = requestAnimationFrame(filter); });
  form.addEventListener("reset", () => setTimeout(filter));
  form.addEventListener("submit", (event) => event.preventDefault());

  // A trial's details
  const data = JSON.parse($("#details").textContent), dialog = $("#trial"), body = $(".body", dialog);
  const table = (heads, lines, chosen = () => false) => {
    const box = make("div", "", { className: "wide" }), made = make("table");
    const head = made.createTHead().insertRow();
    for (const text of heads) head.append(make("th", text, { scope: "col" }));
    const rest = made.createTBody();
    for (const line of lines) {
      const row = rest.insertRow();
      line.forEach((value, place) => row.append(make(place ? "td" : "th", value ?? "–", place ? {} : { scope: "row" })));
      row.classList.toggle("chosen", chosen(line));
    }
    box.append(made);
    return box;
  };
  const fill = (identity, trial) => {
    const row = $$("#table-trials a").find((link) => link.hash === `#trial-${identity}`)?.closest("tr");
    $("#trial-title").textContent = [row?.dataset.name, row && `seed ${row.cells[3].textContent.trim()}`].filter(Boolean).join(", ") || identity;
    body.replaceChildren(make("p", `${row?.dataset.task ?? ""} · ${trial.status}${trial.reason ? `: ${trial.reason}` : ""}`, { className: "about" }));
    const part = (title, ...elements) => body.append(make("h3", title), ...elements);
    const own = pictures.filter((picture) => picture.dataset.trial === identity);
    if (own.length) {
      const strip = make("div", "", { className: "strip" });
      strip.append(...own.map((picture) => Object.assign(picture.cloneNode(true), { hidden: false })));
      part("Pictures", strip);
    }
    if (trial.metrics.length) part("Metrics by selection", table(["split", "metric", ...data.selections], trial.metrics));
    if (trial.facts.length) part("Cost", table(["what", "value"], trial.facts));
    const settings = [...data.settings[trial.settings], ...trial.own];
    if (settings.length) part("Settings", table(["of", "setting", "value", "origin"], settings, (line) => line[3].startsWith("suite")));
    const environment = data.environments[trial.environment];
    part("Environment", environment.length ? table(["what", "value"], environment) : make("p", "Not recorded.", { className: "note" }));
    part("Log", trial.log ? make("pre", trial.log, { tabIndex: 0 }) : make("p", "There is no log.", { className: "note" }));
    if (trial.cut) body.append(make("p", "Only its end.", { className: "note" }));
    body.append(make("p", `Files: trials/${trial.folder}`, { className: "note" }));
  };
  const follow = () => {
    const identity = location.hash.startsWith("#trial-") ? decodeURIComponent(location.hash.slice(7)) : null;
    const trial = identity !== null && Object.hasOwn(data.trials, identity) ? data.trials[identity] : null;
    if (!trial) { dialog.close(); return; }
    fill(identity, trial);
    if (!dialog.open) dialog.showModal();
    dialog.scrollTop = 0;
    $("#trial-title").focus();
  };
  dialog.addEventListener("close", () => {
    const identity = location.hash;
    if (!identity.startsWith("#trial-")) return;
    history.replaceState(null, "", location.pathname + location.search);
    $$("#table-trials a").find((link) => link.hash === identity)?.focus({ preventScroll: true });
  });
  dialog.addEventListener("click", (event) => { if (event.target === dialog || event.target.closest(".close")) dialog.close(); });
  addEventListener("hashchange", follow);
  follow();
})();
