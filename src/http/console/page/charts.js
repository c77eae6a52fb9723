// *Charts*: the last 24 h, drawn here as plain SVG. Each picture has its figures in words, for who cannot see it.
import { get } from "./api.js";
import { fill, h } from "./dom.js";
import { t, time } from "./words.js";

const WIDTH = 600;
const HEIGHT = 120;
const AGAIN_MS = 30000;
const HOUR_MS = 3600000;
/** A picture is a day wide, and now is at its right edge. */
const HOURS = 24;
const SAMPLES = 288;

function svg(tag, attributes, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

const frame = (label, ...children) =>
  svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": label, class: "chart", preserveAspectRatio: "none" }, ...children);

const known = (values) => values.filter((value) => value !== null);
const sum = (values) => known(values).reduce((all, value) => all + value, 0);
const round = (value) => (Math.abs(value) >= 100 ? Math.round(value) : Math.round(value * 10) / 10);

/** Bars, one a place; the groups stand on each other. */
function bars(label, places, groups) {
  const most = Math.max(1, ...places.map((_, place) => sum(groups.map((group) => group.values[place]))));
  const wide = WIDTH / places.length;
  const drawn = [];
  places.forEach((name, place) => {
    let foot = HEIGHT;
    for (const group of groups) {
      const tall = (HEIGHT * (group.values[place] ?? 0)) / most;
      foot -= tall;
      drawn.push(svg("rect", { x: place * wide + 1, y: foot, width: Math.max(wide - 2, 1), height: tall, class: group.look },
        svg("title", {}, `${name}: ${round(group.values[place] ?? 0)} ${group.name}`)));
    }
  });
  return frame(label, ...drawn);
}

/** A line; where nothing is known it has a gap. */
function line(label, values) {
  const most = Math.max(1e-9, ...known(values));
  const x = (place) => WIDTH - ((values.length - 1 - place) * WIDTH) / SAMPLES;
  let path = "";
  let down = false;
  values.forEach((value, place) => {
    if (value === null) {
      down = false;
      return;
    }
    const y = (HEIGHT - 2 - ((HEIGHT - 4) * value) / most).toFixed(1);
    // A single figure is a short stroke.
    path += down ? `L${x(place).toFixed(1)},${y}` : `M${(x(place) - 2).toFixed(1)},${y}h2`;
    down = true;
  });
  return frame(label, svg("path", { d: path || "M0,0", class: "line" }));
}

/** What a line shows, in words. */
function words(values, unit) {
  const all = known(values);
  if (all.length === 0) return t("no_figures");
  return `${t("latest")} ${round(all.at(-1))} ${unit} · ${t("highest")} ${round(Math.max(...all))} ${unit}`;
}

const figure = (title, picture, text) =>
  h("figure", { class: "card" }, h("figcaption", null, h("h3", null, title), h("p", { class: "soft" }, text)), picture,
    h("p", { class: "axis soft", "aria-hidden": "true" }, h("span", null, t("a_day_ago")), h("span", null, t("right_now"))));

export function show(main) {
  const body = h("div");
  const wrong = h("p", { class: "said bad", role: "alert" });
  fill(main, h("h2", null, t("page_charts")), h("p", { class: "soft" }, t("charts_hint")), wrong, body);
  let asked = 0;
  let busy = false;

  async function update() {
    if (busy || Date.now() - asked < AGAIN_MS) return;
    [busy, asked] = [true, Date.now()];
    try {
      fill(body, draw(await get("/api/v1/charts")));
      fill(wrong);
    } catch (error) {
      fill(wrong, error.message);
    }
    busy = false;
  }
  update();
  return { update };
}

function draw({ at, series, every_s: every }) {
  const of = (prefix) => Object.keys(series).filter((name) => name.startsWith(prefix)).map((name) => name.slice(prefix.length)).sort();
  const column = (name) => series[name] ?? at.map(() => null);

  // How long a sample is, in seconds; the last one has just begun.
  const stretch = (place) => Math.max(1, place === 0 ? every : (new Date(at[place]) - new Date(at[place - 1])) / 1000);
  // The hours of this person's clock.
  const hourOf = (text) => Math.floor(new Date(text).getTime() / HOUR_MS) * HOUR_MS;
  const last = hourOf(at.at(-1) ?? Date.now());
  const hours = new Map(Array.from({ length: HOURS }, (_, back) => [last - (HOURS - 1 - back) * HOUR_MS, []]));
  at.forEach((text, place) => hours.get(hourOf(text))?.push(place));
  const by = (name) => [...hours.values()].map((places) => sum(places.map((place) => column(name)[place])));
  const names = [...hours.keys()].map((hour) => time(new Date(hour).toISOString()));
  const granted = { name: t("grant"), look: "good", values: by("decisions.grant") };
  const denied = { name: t("deny"), look: "bad", values: by("decisions.deny") };
  const total = `${sum(granted.values)} ${t("grant")} · ${sum(denied.values)} ${t("deny")}`;

  const rooms = of("power.");
  const inSum = at.map((_, place) => (rooms.some((room) => column(`power.${room}`)[place] !== null) ? sum(rooms.map((room) => column(`power.${room}`)[place])) : null));
  const power = rooms.map((room) => [room, column(`power.${room}`)]);
  const flushes = at.map((_, place) => (column("flushes")[place] > 0 ? (1000 * column("flush_s")[place]) / column("flushes")[place] : null));

  return [
    h("section", { "aria-labelledby": "per-hour" }, h("h2", { id: "per-hour" }, t("decisions_an_hour")),
      figure(total, bars(`${t("decisions_an_hour")}: ${total}`, names, [granted, denied]), words(granted.values.map((value, hour) => value + denied.values[hour]), t("an_hour")))),
    h("section", { "aria-labelledby": "power" }, h("h2", { id: "power" }, t("power")),
      rooms.length === 0 ? h("p", null, t("no_meters")) : [
        figure(t("in_sum"), line(`${t("power")}, ${t("in_sum")}: ${words(inSum, "W")}`, inSum), words(inSum, "W")),
        h("div", { class: "tiles" }, power.map(([room, values]) => figure(room, line(`${room}: ${words(values, "W")}`, values), words(values, "W")))),
      ]),
    h("section", { "aria-labelledby": "lines" }, h("h2", { id: "lines" }, t("lines")),
      of("requests.").length === 0 ? h("p", null, t("no_lines")) : h("div", { class: "tiles" }, of("requests.").map((bus) => {
        const load = column(`busy_s.${bus}`).map((busy, place) => (busy === null ? null : (100 * busy) / stretch(place)));
        const failed = `${sum(column(`errors.${bus}`))} ${t("errors_of")} ${sum(column(`requests.${bus}`))} ${t("requests")}`;
        return figure(bus, line(`${bus}: ${words(load, "%")}; ${failed}`, load), `${t("load")}: ${words(load, "%")} · ${failed}`);
      }))),
    h("section", { "aria-labelledby": "flush" }, h("h2", { id: "flush" }, t("flush_time")),
      figure(t("per_flush"), line(`${t("flush_time")}: ${words(flushes, "ms")}`, flushes), words(flushes, "ms"))),
  ];
}
