"use strict";
// The viewer of `wsisurv view`: the list of cases, the slide with its layers, and the panel of the case. All that is shown
// comes from the server as JSON and is put on the page as text, never as HTML.

const $ = (id) => document.getElementById(id);
const WHITE = "data:image/gif;base64,R0lGODlhAQABAIAAAP///wAAACwAAAAAAQABAAACAkQBADs=";
const REST_MS = 250;
const FEWEST = 5; // cases of a group that has a curve
const WHOLE_LEVEL = 10; // the coarsest that is asked for: the whole slide in 513 to 1024 pixels, at once

const state = {
  cohort: null, shown: [], sort: { by: "percentile", down: true },
  id: "", panel: null, slide: 0, risk: null, finding: null, marked: new Set(), layer: "none", outlines: null, asked: 0,
};

/** An element with attributes, listeners (onclick …) and children; strings become text. */
function make(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

function address(path, words) {
  return `${path}?${new URLSearchParams(words)}`;
}

/** JSON from the server; the server's own sentence where it can't be had. */
async function ask(path, words = {}) {
  const answer = await fetch(address(path, words));
  if (!answer.ok) throw new Error(await answer.text());
  return answer.json();
}

const figure = (value, digits = 3) => value === null || value === undefined ? "–" : value.toFixed(digits).replace("-", "−");
const signed = (value, digits = 3) => value === null ? "–" : (value > 0 ? "+" : "") + figure(value, digits);
const percent = (value) => value === null || value === undefined ? "–" : `${Math.round(100 * value)} %`;
const words = (name) => name.replaceAll("_", " ");

// ---- the list of cases

function eventWord(event) {
  return event === "competing" ? "other" : event ? "yes" : "no";
}

function showList() {
  const wanted = $("filter").value.trim().toLowerCase().split(/\s+/);
  const { by, down } = state.sort;
  const text = (one) => `${one.id} ${one.group} ${one.site ?? ""} ${one.warning} event:${eventWord(one.event)}`.toLowerCase();
  const value = (one) => by === "event" ? eventWord(one.event) : one[by];
  const compare = (a, b) => {
    const [x, y] = [value(a), value(b)];
    if ((x ?? null) === null || (y ?? null) === null) return ((x ?? null) === null) - ((y ?? null) === null);
    const order = typeof x === "number" ? x - y : String(x).localeCompare(String(y), undefined, { numeric: true });
    return (down ? -order : order) || String(a.id).localeCompare(String(b.id));
  };
  state.shown = state.cohort.cases.filter((one) => wanted.every((word) => text(one).includes(word))).sort(compare);
  $("count").textContent = `${state.shown.length} of ${state.cohort.cases.length} cases`;
  $("list").replaceChildren(...state.shown.map((one) => make("tr", {
    tabindex: 0, "aria-selected": one.id === state.id, "data-case": one.id, title: one.warning,
    onclick: () => openCase(one.id),
    onkeydown: (event) => { if (event.key === "Enter") openCase(one.id); },
  }, make("td", {}, one.id), make("td", { class: "number" }, figure(one.percentile, 0)),
  make("td", { class: `group ${one.group}` }, one.group || "–"), make("td", { class: "number" }, figure(one.time, 0)),
  make("td", {}, eventWord(one.event)))));
  for (const head of document.querySelectorAll("th[data-by]")) {
    head.setAttribute("aria-sort", head.dataset.by === by ? (down ? "descending" : "ascending") : "none");
  }
}

function step(by) {
  const now = state.shown.findIndex((one) => one.id === state.id);
  const next = state.shown[Math.min(Math.max(now + by, 0), state.shown.length - 1)];
  if (next && next.id !== state.id) openCase(next.id);
}

// ---- one case

async function openCase(id, slide = 0) {
  const asked = ++state.asked;
  const late = () => asked !== state.asked; // another case was opened meanwhile
  Object.assign(state, { id, panel: null, risk: null, finding: null, marked: new Set(), slide });
  history.replaceState(null, "", `#${new URLSearchParams({ case: id })}`);
  document.title = `${id} · wsisurv view`;
  for (const row of $("list").children) row.setAttribute("aria-selected", row.dataset.case === id);
  $("list").querySelector("[aria-selected=true]")?.scrollIntoView({ block: "nearest" });
  hideHover();
  banner("");
  try {
    state.panel = await ask("case", { case: id });
    if (late()) return;
    showSlide(state.slide);
    showPanel();
    if (!state.panel.slides.length) return;
    const risk = await ask("layers", { case: id });
    if (late()) return;
    state.risk = risk;
    banner(risk.unfamiliar ? `Do not believe this risk: ${risk.unfamiliar}` : "");
    showLayers();
    const findings = await ask("findings", { case: id }).catch((error) => ({ problem: error.message }));
    if (late()) return;
    showFindings(findings);
    showSimilar(await whenRead("alike", { case: id }, late).catch((error) => ({ problem: error.message })), late);
  } catch (error) {
    if (!late()) { banner(error.message); showLayers(); }
  }
}

function banner(text) {
  $("banner").textContent = text;
  $("banner").hidden = !text;
}

function showPanel() {
  const { panel } = state;
  const parts = [make("h1", {}, panel.id)];
  for (const [part, why] of Object.entries(panel.missing)) {
    if (!["statements", "curve"].includes(part)) parts.push(make("p", { class: "note warn" }, why));
  }
  for (const slide of panel.slides) if (slide.problem) parts.push(make("p", { class: "note warn" }, slide.problem));
  if (panel.risk) parts.push(...riskPart(panel.risk));
  if (Object.keys(state.cohort.groups).length) {
    parts.push(make("h2", {}, state.cohort.competing ? "Without the event, by risk group" : "Survival by risk group"), curves());
  }
  parts.push(make("div", { id: "marks" }));
  parts.push(make("h2", {}, "Clinical row"), list(Object.entries(panel.clinical)));
  parts.push(make("h2", {}, "What the report states"), statementsPart());
  parts.push(make("div", { id: "findings" }), make("div", { id: "similar" }));
  $("panel").replaceChildren(...parts);
  $("panel").scrollTop = 0;
  showMarks();
}

function list(entries) {
  return make("dl", {}, ...entries.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, String(value))]));
}

function riskPart(risk) {
  const years = Object.entries(risk.survival).filter(([, value]) => value !== null).map(([year, value]) =>
    [`survival, ${year} year${year === "1" ? "" : "s"}`, percent(value)]);
  const events = Object.entries(risk.absolute_risk).filter(([, value]) => value !== null).map(([year, value]) =>
    [`risk of the event, ${year} year${year === "1" ? "" : "s"}`, percent(value)]);
  const range = risk.low === null ? "" : ` (members ${signed(risk.low)} to ${signed(risk.high)})`;
  return [
    make("p", {}, make("span", { class: `group ${risk.group}` }, risk.group), ` · percentile ${figure(risk.percentile, 0)}`),
    list([["log hazard", signed(risk.log_hazard) + range], ...years, ...events,
      ["median survival", risk.median === null ? "not known" : `${figure(risk.median, 0)} ${state.cohort.time_unit}`],
      ["familiarity", figure(risk.familiarity, 2)]]),
    make("p", { class: "note" }, risk.out_of_fold ? "By members that did not see the case in training." : "By all members."),
    risk.warning ? make("p", { class: "note warn" }, risk.warning) : null,
  ].filter(Boolean);
}

/** Curves of the groups as SVG, the case's own predicted one dashed, its follow-up as a tick on the axis. */
function curves() {
  const W = 350, H = 190, left = 34, bottom = 26, top = 6;
  const groups = Object.entries(state.cohort.groups);
  const own = state.panel.curve;
  const end = Math.max(1e-9, ...groups.flatMap(([, group]) => group.times.slice(-1)), state.panel.follow_up);
  const x = (time) => left + (W - left - 6) * time / end, y = (share) => top + (H - top - bottom) * (1 - share);
  const svg = (name, attributes, ...children) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...children);
    return made;
  };
  const steps = (times, free) => `M${x(0)},${y(1)}` + times.map((time, n) => `H${x(time)}V${y(free[n])}`).join("");
  const smooth = (times, free) => times.map((time, n) => `${n ? "L" : "M"}${x(time)},${y(free[n])}`).join("");
  const axis = [0, .25, .5, .75, 1].flatMap((share) => [
    svg("line", { class: "axis", x1: left, x2: W - 6, y1: y(share), y2: y(share) }),
    svg("text", { x: left - 4, y: y(share) + 4, "text-anchor": "end" }, share.toFixed(2))]);
  const ticks = [0, .25, .5, .75, 1].map((part) =>
    svg("text", { x: x(part * end), y: H - 10, "text-anchor": part === 1 ? "end" : "middle" }, (part * end).toFixed(0)));
  const lines = groups.filter(([, group]) => group.cases >= FEWEST).map(([name, group]) => svg("path", { class: name, d: steps(group.times, group.free) }));
  if (own) lines.push(svg("path", { class: "own", d: smooth(own.times, own.free) }));
  const when = x(state.panel.follow_up);
  lines.push(svg("path", { class: "own", d: `M${when},${y(0)}V${y(0.06)}` }));
  const counts = groups.map(([name, group]) => make("span", { class: `group ${name}` }, `${name} ${group.events}/${group.cases}  `));
  return make("figure", {},
    svg("svg", { viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": "Curves by risk group and of this case" }, ...axis, ...ticks, ...lines),
    make("figcaption", { class: "note", style: null }, ...counts, `(events/cases). Time in ${state.cohort.time_unit}. `
      + (own ? "Dashed: predicted for this case. " : "") + "Tick on the axis: its follow-up."));
}

function statementsPart() {
  const { panel, cohort } = state;
  if (!panel.reported) return make("p", { class: "note" }, panel.missing.statements ?? "No report of this case was read.");
  if (!panel.statements.length) return make("p", { class: "note" }, "Its report gave no statement.");
  const known = new Set(cohort.findings.map((one) => one.name));
  return make("ul", { class: "plain", id: "statements" }, ...panel.statements.map((one) => {
    const heads = one.findings.filter((name) => known.has(name));
    const title = `${one.category}, ${one.polarity}: ${one.text}`;
    const where = [one.specimen && `specimen ${one.specimen}`, ...one.blocks.map((name) => `block ${name}`), ...one.slides.map((name) => `slide ${name}`)];
    return make("li", {},
      heads.length ? make("button", { class: "link", "data-finding": heads[0], onclick: () => openFinding(heads[0]) }, title) : title,
      make("blockquote", {}, [`“${one.evidence}”`, ...where.filter(Boolean)].join(", ")));
  }), ...(panel.statements.some((one) => !one.findings.some((name) => known.has(name)))
    ? [make("li", { class: "note" }, "From statements without a link no finding is read that `wsisurv findings` can tell, so no tiles speak for them.")] : []));
}

function showFindings(findings) {
  const place = $("findings");
  if (!place) return;
  const head = make("h2", {}, "Findings, told from the slide");
  if (findings.problem) return place.replaceChildren(head, make("p", { class: "note" }, findings.problem));
  const what = Object.fromEntries(state.cohort.findings.map((one) => [one.name, one.what]));
  place.replaceChildren(head, make("table", {}, make("thead", {}, make("tr", {}, make("th", {}, "Finding"),
    make("th", { class: "number" }, "Here"), make("th", { class: "number" }, "In training"))),
  make("tbody", {}, ...findings.map((one) => make("tr", {},
    make("td", {}, make("button", { class: "link", title: what[one.name], "data-finding": one.name, onclick: () => openFinding(one.name) }, words(one.name))),
    make("td", { class: "number", title: one.warning }, percent(one.probability)),
    make("td", { class: "number" }, percent(one.prevalence)))))),
  make("p", { class: "note warn" }, findings[0]?.warning ?? ""));
}

/** Ask until the server has read all cases, which it does once; how far it is stands where the answer will be. */
async function whenRead(path, words, late) {
  for (;;) {
    const found = await ask(path, words);
    if (found.ready || late()) return found;
    $("similar").replaceChildren(make("h2", {}, "Similar cases"),
      make("p", { class: "note" }, `Reading the cohort: ${found.done} of ${found.total} cases.`));
    await new Promise((go) => setTimeout(go, 500));
  }
}

function showSimilar(found, late) {
  if (late()) return;
  const head = make("h2", {}, "Similar cases");
  if (found.problem) return $("similar").replaceChildren(head, make("p", { class: "note" }, found.problem));
  const known = Object.fromEntries(state.cohort.cases.map((one) => [one.id, one]));
  const lines = found.cases.map((one) => make("li", {},
    make("button", { class: "link", "data-similar": one.id, onclick: () => openCase(one.id) }, one.id),
    ` · ${known[one.id].group || "no group"} · ${figure(known[one.id].time, 0)} ${state.cohort.time_unit}, `
      + `${known[one.id].event === "competing" ? "competing event" : known[one.id].event ? "event" : "no event"} · distance ${figure(one.distance, 2)}`,
    make("div", { class: "note" }, one.reported ? `Report: ${one.present.map(words).join(", ") || "no finding present"}` : "No report.")));
  $("similar").replaceChildren(head, make("ul", { class: "plain" }, ...lines), make("p", { class: "note" }, found.cases.length
    ? `Nearest by the student's state; the median case is at ${figure(found.median, 2)}.`
      + (found.out_of_fold ? " This case was not in the training of the members that compare; the others were." : "")
    : "None: the case has no tile, or is alone."), found.unread.length
    ? make("p", { class: "note warn", title: found.unread.join("\n") }, `${found.unread.length} cases could not be read.`) : "");
}

/** Show the tiles that speak for a finding: its layer, the most telling tiles marked, and the first of them close up. */
async function openFinding(name) {
  const asked = state.asked;
  try {
    const found = await ask("finding", { case: state.id, name });
    if (asked !== state.asked) return;
    state.finding = found;
    state.marked = new Set(found.speak_for);
    showLayers("finding");
    if (found.speak_for.length) goTo(found.speak_for[0]);
    else banner(`No tile of this case speaks for ${words(name)}.`);
  } catch (error) {
    banner(error.message);
  }
}

// ---- the slide and its layers

const viewer = OpenSeadragon({
  element: $("slide"), showNavigationControl: false, showNavigator: true, navigatorPosition: "BOTTOM_RIGHT", drawer: "canvas",
  maxZoomPixelRatio: 4, minPixelRatio: 0.7, // half as many tiles as by default, a pixel on 0.7 to 1.4 of the screen
  visibilityRatio: 0.3, animationTime: 0.4, imageLoaderLimit: 6, timeout: 600000,
  gestureSettingsMouse: { clickToZoom: false, dblClickToZoom: true },
});

function slideOf(source = state.risk) {
  return source?.slides[state.slide] ?? null;
}

function showSlide(number) {
  state.slide = number;
  state.outlines = null;
  const slides = state.panel.slides, slide = slides[number];
  $("slides").replaceChildren(...(slides.length > 1 ? slides.map((one, index) => make("button", {
    "aria-pressed": index === number, onclick: () => showSlide(index) }, one.id)) : []));
  viewer.close();
  $("geojson").hidden = !slide;
  if (!slide) return showLayers();
  $("geojson").href = address("geojson", { case: state.id, slide: slide.id });
  $("geojson").download = `${slide.id}.geojson`;
  viewer.open({
    width: slide.width, height: slide.height, tileSize: slide.tile_px, tileOverlap: 0,
    minLevel: Math.min(WHOLE_LEVEL, Math.ceil(Math.log2(Math.max(slide.width, slide.height)))),
    getTileUrl: (level, x, y) => slide.problem ? WHITE : address("zoom", { slide: slide.id, level, x, y }),
  });
  ask("outlines", { slide: slide.id }).then((found) => {
    if (state.panel?.slides[state.slide]?.id === slide.id) { state.outlines = found; paint(); }
  }).catch(() => {});
  showMarks();
  showLayers();
}

/** Layers by key: of the risk by number, then the finding that was opened. */
function layersOf() {
  const found = new Map([["none", null]]);
  slideOf()?.layers.forEach((layer, number) => found.set(String(number), layer));
  const finding = slideOf(state.finding);
  if (finding) found.set("finding", { ...finding.layers[0], title: `${words(state.finding.name)}: ${finding.layers[0].title}` });
  return found;
}

function showLayers(wanted = state.layer) {
  const layers = layersOf();
  if (state.layer === "none" && wanted === "none" && layers.has("0") && !state.left) wanted = "0";
  state.layer = layers.has(wanted) ? wanted : layers.has("0") && !state.left ? "0" : "none";
  $("layer").replaceChildren(...[...layers].map(([key, layer]) =>
    make("option", { value: key, selected: key === state.layer }, layer ? layer.title : "slide alone")));
  showLegend(layers.get(state.layer));
  index();
  paint();
}

function showLegend(layer) {
  $("legend").hidden = !layer;
  if (!layer) return;
  $("legend-title").textContent = layer.title + (state.layer !== "finding" && state.risk ? `; by ${state.risk.members}` : "");
  [$("legend-low").textContent, $("legend-high").textContent] = layer.ends;
  const ramp = $("ramp").getContext("2d");
  for (let pixel = 0; pixel < 240; pixel++) {
    ramp.fillStyle = colour(layer.colours, pixel / 239);
    ramp.fillRect(pixel, 0, 1, 10);
  }
}

function colour(colours, place) {
  const at = Math.min(Math.max(place, 0), 1) * (colours.length - 1), low = Math.min(Math.floor(at), colours.length - 2);
  return `rgb(${colours[low].map((one, n) => Math.round(one + (at - low) * (colours[low + 1][n] - one))).join(",")})`;
}

/** Where each tile lies, by squares of the slide, so that the one under the pointer is found at once. */
function index() {
  const slide = slideOf(), found = new Map();
  slide?.x.forEach((x, row) => {
    const key = `${Math.floor(x / slide.side)},${Math.floor(slide.y[row] / slide.side)}`;
    found.has(key) ? found.get(key).push(row) : found.set(key, [row]);
  });
  state.index = found;
}

function tileAt(x, y) {
  const slide = slideOf();
  if (!slide || !state.index) return -1;
  const [column, line] = [Math.floor(x / slide.side), Math.floor(y / slide.side)];
  for (const key of [`${column},${line}`, `${column - 1},${line}`, `${column},${line - 1}`, `${column - 1},${line - 1}`]) {
    for (const row of state.index.get(key) ?? []) {
      if (x >= slide.x[row] && x < slide.x[row] + slide.side && y >= slide.y[row] && y < slide.y[row] + slide.side) return row;
    }
  }
  return -1;
}

/** Paint what lies over the slide: the layer's tiles, their grid, the tissue's outline, and marked tiles. */
function paint() {
  const canvas = $("overlay"), ratio = window.devicePixelRatio || 1;
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  if (canvas.width !== Math.round(width * ratio)) canvas.width = Math.round(width * ratio);
  if (canvas.height !== Math.round(height * ratio)) canvas.height = Math.round(height * ratio);
  const pen = canvas.getContext("2d");
  pen.setTransform(1, 0, 0, 1, 0, 0);
  pen.clearRect(0, 0, canvas.width, canvas.height);
  const picture = viewer.world?.getItemAt(0), shape = state.panel?.slides[state.slide];
  if (!picture || !shape) return;
  const origin = picture.imageToViewerElementCoordinates(new OpenSeadragon.Point(0, 0));
  const unit = picture.imageToViewerElementCoordinates(new OpenSeadragon.Point(shape.width, 0));
  const scale = (unit.x - origin.x) / shape.width;
  const toX = (x) => (origin.x + (x - shape.x) * scale) * ratio, toY = (y) => (origin.y + (y - shape.y) * scale) * ratio;
  paintTiles(pen, toX, toY, scale * ratio);
  if ($("tissue").checked && state.outlines) paintOutlines(pen, shape, toX, toY, ratio);
  pen.lineWidth = 2 * ratio;
  pen.strokeStyle = MARK;
  for (const one of [...marksOf(shape.id), ...(drawing ? [drawing] : [])]) {
    pen.strokeRect(toX(shape.x + one.x), toY(shape.y + one.y), one.width * scale * ratio, one.height * scale * ratio);
  }
}

/** Colours of a layer's tiles, made once: a text each, or none where there is no figure. */
function coloursOf(layer) {
  layer.painted ??= layer.values.map((value) => value === null ? null
    : colour(layer.colours, (value - layer.low) / (layer.high - layer.low)));
  return layer.painted;
}

function paintTiles(pen, toX, toY, scale) {
  const slide = slideOf(), layer = layersOf().get(state.layer);
  if (!slide) return;
  const side = slide.side * scale, shown = Math.max(side, 1), [width, height] = [pen.canvas.width, pen.canvas.height];
  const colours = layer ? coloursOf(layer) : null, grid = $("grid").checked && side > 3;
  pen.globalAlpha = $("opacity").value / 100;
  pen.strokeStyle = "#333";
  pen.lineWidth = 1;
  for (let row = 0; row < slide.x.length; row++) {
    const left = toX(slide.x[row]), top = toY(slide.y[row]);
    if (left + side < 0 || top + side < 0 || left > width || top > height) continue;
    if (colours && colours[row]) {
      pen.fillStyle = colours[row];
      pen.fillRect(left, top, shown, shown);
    }
    if (grid) pen.strokeRect(left, top, side, side);
  }
  pen.globalAlpha = 1;
  pen.lineWidth = 3;
  pen.strokeStyle = "#ffb000";
  for (const tile of state.marked) {
    const row = tile - slide.first;
    if (row >= 0 && row < slide.x.length) pen.strokeRect(toX(slide.x[row]), toY(slide.y[row]), side, side);
  }
}

function paintOutlines(pen, shape, toX, toY, ratio) {
  pen.lineWidth = 2 * ratio;
  for (const one of state.outlines.features) {
    const { color } = one.properties.classification ?? { color: [0, 158, 115] };
    pen.strokeStyle = `rgb(${color.join(",")})`;
    const areas = one.geometry.type === "Polygon" ? [one.geometry.coordinates] : one.geometry.coordinates;
    pen.beginPath();
    for (const ring of areas.flat()) {
      ring.forEach(([x, y], n) => pen[n ? "lineTo" : "moveTo"](toX(x + shape.x), toY(y + shape.y)));
    }
    pen.stroke();
  }
}

/** Bring a tile of the case close up, on whichever slide it lies. */
function goTo(tile) {
  const number = state.risk.slides.findIndex((slide) => tile >= slide.first && tile < slide.first + slide.x.length);
  if (number < 0) return;
  const show = () => {
    const slide = state.risk.slides[number], row = tile - slide.first, shape = state.panel.slides[number];
    const around = slide.side * 3;
    viewer.viewport.fitBounds(viewer.world.getItemAt(0).imageToViewportRectangle(
      slide.x[row] - shape.x - around, slide.y[row] - shape.y - around, slide.side + 2 * around, slide.side + 2 * around));
  };
  if (number !== state.slide) { showSlide(number); viewer.addOnceHandler("open", show); } else show();
}

// ---- marks: rectangles that a person draws, kept in this tab of the browser until they are taken away as GeoJSON

const MARK = "rgb(170, 0, 170)";
let drawing = null, corner = null;

function marksOf(slide) {
  return JSON.parse(sessionStorage.getItem(`marks:${slide}`) ?? "[]");
}

function keepMarks(slide, marks) {
  sessionStorage.setItem(`marks:${slide}`, JSON.stringify(marks));
  showMarks();
  paint();
}

/** Where the pointer is, in the slide's picture. */
function pointed(event) {
  const box = $("stage").getBoundingClientRect();
  return viewer.world.getItemAt(0).viewerElementToImageCoordinates(
    new OpenSeadragon.Point(event.clientX - box.left, event.clientY - box.top));
}

function markMode(on) {
  $("mark").setAttribute("aria-pressed", on);
  viewer.setMouseNavEnabled(!on);
  $("stage").style.cursor = on ? "crosshair" : "";
}

function draw(event) {
  const shape = state.panel?.slides[state.slide];
  if ($("mark").getAttribute("aria-pressed") !== "true" || !shape || !viewer.world.getItemAt(0)) return;
  if (event.type === "pointerdown") { corner = pointed(event); hideHover(); }
  if (!corner) return;
  const at = pointed(event);
  const [x, y] = [Math.min(corner.x, at.x), Math.min(corner.y, at.y)].map(Math.round);
  drawing = { x, y, width: Math.round(Math.abs(at.x - corner.x)), height: Math.round(Math.abs(at.y - corner.y)) };
  if (event.type === "pointerup") {
    const marks = marksOf(shape.id), made = drawing;
    [corner, drawing] = [null, null];
    if (made.width && made.height) keepMarks(shape.id, [...marks, { ...made, name: `mark ${marks.length + 1}` }]);
    markMode(false);
  }
  paint();
}

/** Marks as QuPath reads them: annotations in pixels of the picture. */
function marksAsGeoJson(marks) {
  return JSON.stringify({ type: "FeatureCollection", features: marks.map(({ x, y, width, height, name }) => ({
    type: "Feature",
    geometry: { type: "Polygon", coordinates: [[[x, y], [x + width, y], [x + width, y + height], [x, y + height], [x, y]]] },
    properties: { objectType: "annotation", name, classification: { name, color: [170, 0, 170] } },
  })) });
}

function showMarks() {
  const place = $("marks"), slide = state.panel?.slides[state.slide]?.id;
  if (!place) return;
  const marks = slide === undefined ? [] : marksOf(slide);
  if (!marks.length) return place.replaceChildren();
  const lines = marks.map((one, number) => make("li", {},
    make("input", { value: one.name, "aria-label": "Name of the mark", onchange: (event) =>
      keepMarks(slide, marks.map((mark, n) => n === number ? { ...mark, name: event.target.value } : mark)) }), " ",
    make("button", { onclick: () => keepMarks(slide, marks.filter((_, n) => n !== number)) }, "delete")));
  const file = new Blob([marksAsGeoJson(marks)], { type: "application/geo+json" });
  place.replaceChildren(make("h2", {}, "Marks on this slide"), make("ul", { class: "plain" }, ...lines),
    make("a", { href: URL.createObjectURL(file), download: `${slide}-marks.geojson` }, "Download as GeoJSON"),
    make("p", { class: "note" }, "Kept in this tab alone."));
}

// ---- the tile under the pointer

let resting = 0, hovered = -1, beside = [0, 0];

/** Put the card beside the pointer, where all of it is on the page. */
function placeCard() {
  const card = $("hover"), stage = $("stage");
  const [left, top] = beside, [width, height] = [card.offsetWidth, card.offsetHeight];
  card.style.left = `${left + 20 + width < stage.clientWidth ? left + 20 : Math.max(0, left - 20 - width)}px`;
  card.style.top = `${Math.max(0, Math.min(top + 16, stage.clientHeight - height))}px`;
}

function hideHover() {
  clearTimeout(resting);
  hovered = -1;
  $("hover").hidden = true;
}

function hover(event) {
  const picture = viewer.world?.getItemAt(0), shape = state.panel?.slides[state.slide], slide = slideOf();
  if (!picture || !slide || corner) return hideHover();
  const box = $("stage").getBoundingClientRect();
  const [left, top] = [event.clientX - box.left, event.clientY - box.top];
  const at = picture.viewerElementToImageCoordinates(new OpenSeadragon.Point(left, top));
  const row = tileAt(at.x + shape.x, at.y + shape.y);
  if (row < 0) return hideHover();
  const card = $("hover");
  beside = [left, top];
  if (row === hovered) return placeCard();
  hovered = row;
  card.hidden = false;
  const tile = slide.first + row;
  const lines = [...layersOf().values()].filter(Boolean).map((layer) => [layer.title, layer.low < 0
    ? signed(layer.values[row], 4) : figure(layer.values[row], 2) + (layer.ends[1].includes("×") ? " × an equal share" : "")]);
  card.replaceChildren(make("strong", {}, `Tile ${tile}`), list(lines), make("div", { id: "drivers" }));
  placeCard();
  clearTimeout(resting);
  resting = setTimeout(() => showDrivers(tile, row), REST_MS);
}

async function showDrivers(tile, row) {
  const asked = state.asked;
  try {
    const found = await ask("tile", { case: state.id, tile });
    if (asked !== state.asked || row !== hovered) return;
    const lines = found.features.map((one) => make("li", { title: one.definition },
      `${one.name}: ${signed(one.adds, 4)} to the log hazard, ${signed(one.difference, 1)} SD from the other tiles`));
    $("drivers").replaceChildren(make("p", { class: "note" },
      found.named ? `What drove it, of the ${found.unusual} features in which it is most unlike the other tiles:` : `Features of ${found.encoder} have no names, so what drove it can't be said by them.`),
    make("ul", { class: "plain" }, ...lines));
    placeCard();
    const near = await ask("nearest", { case: state.id, tile });
    if (asked !== state.asked || row !== hovered || !near.ready || !near.tiles.length) return;
    const known = Object.fromEntries(state.cohort.cases.map((one) => [one.id, one]));
    $("drivers").append(make("p", { class: "note" }, "Nearest tiles of other cases:"), make("div", { class: "row" }, ...near.tiles.map((one) =>
      make("figure", {}, make("img", { alt: "", src: address("square", { slide: one.slide_id, x: one.x, y: one.y, side: Math.round(one.side) }) }),
        make("figcaption", {}, `${one.case_id} · ${known[one.case_id].group || "–"}, ${eventWord(known[one.case_id].event) === "yes" ? "event" : "no event"}`)))));
    placeCard();
  } catch (error) {
    if (row === hovered) $("drivers").textContent = error.message;
  }
}

// ---- everything together

function keys(event) {
  if (event.target.matches("input, select, textarea") || event.ctrlKey || event.metaKey || event.altKey) return;
  const does = {
    j: () => step(1), k: () => step(-1), "/": () => $("filter").focus(), 0: () => viewer.viewport?.goHome(),
    t: () => $("tissue").click(), g: () => $("grid").click(), m: () => $("mark").click(),
  };
  const layers = [...layersOf().keys()];
  if (does[event.key]) does[event.key]();
  else if (/^[1-9]$/.test(event.key) && layers[event.key - 1]) chooseLayer(layers[event.key - 1]);
  else return;
  event.preventDefault();
  event.stopPropagation();
}

function chooseLayer(key) {
  state.left = key === "none"; // a person who left the layers keeps the slide alone in the next case too
  state.marked = key === "finding" ? state.marked : new Set();
  state.layer = key;
  showLayers(key);
}

async function begin() {
  document.addEventListener("keydown", keys, true);
  $("filter").addEventListener("input", showList);
  for (const head of document.querySelectorAll("th[data-by] button")) {
    head.addEventListener("click", () => {
      const by = head.parentElement.dataset.by;
      state.sort = { by, down: state.sort.by === by ? !state.sort.down : false };
      showList();
    });
  }
  $("layer").addEventListener("change", () => chooseLayer($("layer").value));
  for (const id of ["tissue", "grid", "opacity"]) $(id).addEventListener("input", paint);
  let waiting = false; // one painting a frame, whatever asks for it
  const soon = () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => { waiting = false; paint(); });
  };
  for (const event of ["viewport-change", "open", "resize"]) viewer.addHandler(event, soon);
  viewer.addHandler("canvas-key", (event) => { if (/^[rf]$/i.test(event.originalEvent.key)) event.preventDefaultAction = true; });
  viewer.canvas.append($("overlay")); // above the slide, below the small overview
  for (const event of ["pointerdown", "pointermove", "pointerup"]) $("stage").addEventListener(event, draw);
  $("mark").addEventListener("click", () => markMode($("mark").getAttribute("aria-pressed") !== "true"));
  $("stage").addEventListener("pointermove", hover);
  $("stage").addEventListener("pointerleave", hideHover);
  try {
    state.cohort = await ask("cohort");
  } catch (error) {
    return banner(error.message);
  }
  $("cohort").textContent = `Cohort ${state.cohort.name}`;
  $("time-head").title = `Follow-up in ${state.cohort.time_unit}`;
  showList();
  const named = new URLSearchParams(location.hash.slice(1)).get("case");
  const first = [named, state.cohort.start].find((id) => state.cohort.cases.some((one) => one.id === id)) ?? state.shown[0]?.id;
  if (first !== undefined) await openCase(first);
}

begin();
