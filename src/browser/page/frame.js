// The frame of a console: which page is shown, in which language and theme, and who is logged in.
import { get, post, remove } from "./api.js";
import { onChange } from "./changes.js";
import { ask, carry, field, fill, h } from "./dom.js";
import { language, learn, setLanguage, t, zoneName } from "./words.js";

const app = document.getElementById("app");
let PAGES;
let paths;
let title;
let start;
let state;
let banner;
let shown = null;
let parts = null;

/** The page of the address, `#/card/1EA68671/door-412`: its name and the parts that follow it. */
function place() {
  const [, name, ...rest] = location.hash.split("/");
  return [Object.hasOwn(PAGES, name ?? "") ? name : Object.keys(PAGES)[0], rest.map(decoded)];
}

/** A part of the address as text; one that somebody typed may be no such part, and stands for itself. */
function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

/** The same page in the other language, with what is half filled in. */
function turn(tag) {
  const before = parts.main;
  setLanguage(tag);
  show();
  carry(before, parts.main);
  shown?.carried?.();
  document.querySelector("button.language").focus();
}

function frame() {
  const [page] = place();
  document.documentElement.lang = language() === "zh" ? "zh-CN" : "en";
  const link = (name) =>
    h("li", null, h("a", { href: `#/${name}`, "aria-current": name === page ? "page" : null }, t(`page_${name}`)));
  const other = language() === "zh" ? "en" : "zh";
  parts = {
    main: h("main", { id: "main", tabindex: "-1" }),
    said: h("div", { class: "said", role: "status" }),
    lost: h("div", { class: "said bad", role: "alert" }),
    banner: h("div", { role: "alert" }),
    who: h("span", { class: "bar" }),
  };
  fill(app,
    h("a", { class: "skip", href: "#main", onclick: (event) => { event.preventDefault(); parts.main.focus(); } }, t("skip")),
    h("header", null, h("div", { class: "bar" },
      h("h1", null, title()),
      h("nav", { "aria-label": t("pages") }, h("ul", null, Object.keys(PAGES).map(link))),
      h("span", { class: "grow" }),
      parts.who,
      h("button", { lang: other === "zh" ? "zh-CN" : "en", class: "language", onclick: () => turn(other) }, other === "zh" ? "中文" : "English"),
      h("button", { onclick: theme }, t("theme")))),
    h("div", { class: "sayings" }, parts.banner, parts.lost, parts.said),
    parts.main,
    h("footer", { class: "soft" }, `${t("zone_of_times")} ${zoneName()}`));
}

/** From the system's theme to the other one, and back. */
function theme() {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  keepChoice("theme", root.dataset.theme);
}

function keepChoice(name, value) {
  try {
    localStorage.setItem(`dormgate-${name}`, value);
  } catch {
    // A browser that keeps nothing asks again next time.
  }
}

/** Shows the page of the address from the beginning. */
function show() {
  const [page, rest] = place();
  frame();
  document.title = `${t(`page_${page}`)} · ${title()}`;
  shown = state.session.reads && state.loaded ? PAGES[page].show(parts.main, { said, rest }) : null;
  if (!shown) fill(parts.main, h("h2", null, t(`page_${page}`)), h("p", null, wanting()));
  update();
}

function wanting() {
  if (state.failure) return state.failure;
  if (state.session.reads ?? true) return t("loading");
  return state.session.can_log_in ? [t("login_to_read"), " ", h("button", { class: "main", onclick: logIn }, t("log_in"))] : t("no_token");
}

let begun = false;
let seenBy = null;
/** Shows what has changed. */
function update() {
  const readable = state.session.reads && state.loaded;
  // What only those see who have logged in is drawn again when that has changed.
  if (readable !== begun || (state.session.who ?? null) !== seenBy) {
    const ended = seenBy !== null && !state.session.who && !leaving;
    [begun, seenBy] = [readable, state.session.who ?? null];
    show();
    if (ended) {
      document.querySelectorAll("dialog").forEach((dialog) => dialog.close());
      said(t("session_ended"), "bad");
    }
    return;
  }
  const warning = banner?.() ?? "";
  if (parts.banner.textContent !== warning) {
    parts.banner.className = warning && "said bad";
    parts.banner.textContent = warning;
  }
  fill(parts.lost, readable && !state.connected && t("lost"));
  if (state.missed) {
    said(t("missed").replace("FROM", state.missed.from).replace("TO", state.missed.to), "warn");
    state.missed = null;
  }
  const { session } = state;
  const whoText = `${session.who} ${session.can_log_in}`;
  if (parts.who.dataset.shown !== whoText) {
    parts.who.dataset.shown = whoText;
    fill(parts.who,
      session.who
        ? [h("span", null, session.who), h("button", { onclick: logOut }, t("log_out"))]
        : session.can_log_in && h("button", { onclick: logIn }, t("log_in")));
  }
  if (!shown) fill(parts.main, h("h2", null, t(`page_${place()[0]}`)), h("p", null, wanting()));
  shown?.update?.();
}

/** How long it is shown that something was done. What went wrong stays until something else happens. */
const SAID_MS = 10000;
let silence = null;

/** A sentence for the person, read out by screen readers. */
function said(text, kind = "") {
  clearTimeout(silence);
  const { said: place } = parts;
  if (kind === "good") silence = setTimeout(() => { place.textContent = ""; }, SAID_MS);
  parts.said.className = `said ${kind}`;
  parts.said.textContent = text;
}

async function logIn() {
  let [name, wrong] = ["", null];
  for (;;) {
    const login = await ask({
      title: t("log_in"),
      body: [
        wrong && h("p", { class: "said bad", role: "alert" }, wrong),
        h("p", { class: "soft" }, t("login_why")),
        field(t("your_name"), h("input", { name: "name", autocomplete: "username", required: true, maxlength: "128", value: name })),
        field(t("token"), h("input", { name: "token", type: "password", autocomplete: "current-password", required: true })),
      ],
      yes: t("log_in"),
      no: t("back"),
      read: (form) => Object.fromEntries(new FormData(form)),
    });
    if (!login) return;
    try {
      // What is pasted often has a space or a line end around it.
      await post(paths.session, { ...login, token: login.token.trim() });
      break;
    } catch (error) {
      [name, wrong] = [login.name, error.message];
    }
  }
  await start();
  show();
  said(t("logged_in"), "good");
  // The button that was pressed is gone.
  parts.main.focus({ preventScroll: true });
}

let leaving = false;
async function logOut() {
  leaving = true;
  try {
    await remove(paths.session);
  } catch (error) {
    said(error.message, "bad");
  }
  await start();
  show();
  leaving = false;
  parts.main.focus({ preventScroll: true });
}

async function begin() {
  try {
    const chosen = localStorage.getItem("dormgate-theme");
    if (chosen) document.documentElement.dataset.theme = chosen;
  } catch {
    // The system's theme.
  }
  show();
  try {
    learn(await get(paths.words));
  } catch {
    // Reasons are shown by their names.
  }
  await start();
  show();
}

/** Shows the console: its pages by their names, the first one first; `live` is the module that follows the state that they show;
 *  where sessions and words are; what the console is the console of; and what stands above every page while it lasts. */
export function run(own) {
  PAGES = own.pages;
  paths = own.paths;
  title = own.title;
  banner = own.banner;
  ({ start, state } = own.live);
  onChange(update);
  addEventListener("hashchange", () => {
    show();
    // A page may have put the focus where typing begins.
    if (!parts.main.contains(document.activeElement)) parts.main.focus({ preventScroll: true });
    scrollTo(0, 0);
  });
  begin();
}
