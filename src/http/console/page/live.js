// The state that the pages show: what `/api/v1/now` begins with, and every event of the audit after it, each once.
import { get, target } from "./api.js";
import { changed } from "./changes.js";
import { inZone } from "./words.js";

const DECISIONS = 50;
const AGAIN_MS = 3000;
const ALARMS_AGAIN_MS = 1000;
/** A page that nobody sees for so long leaves its connection to others: a browser has six for one server. */
const HIDDEN_MS = 3000;

export const state = {
  /** Empty until it is known. */
  session: {},
  loaded: false,
  gateway: "",
  at: 0,
  portals: new Map(),
  alarms: new Map(),
  decisions: [],
  status: {},
  connected: false,
  missed: null,
};

let source = null;
let again = null;
let lookAgain = null;
let leaving = null;
let left = false;

/** Asks who the person is and begins to follow the gateway. */
export async function start() {
  clearTimeout(again);
  source?.close();
  source = null;
  left = false;
  try {
    state.session = await get("/api/v1/session");
    state.gateway = state.session.gateway;
    inZone(state.session.timezone);
    if (!state.session.reads) {
      state.loaded = false;
      state.connected = false;
      return changed();
    }
    take(await get("/api/v1/now"));
    follow();
  } catch (error) {
    state.connected = false;
    state.failure = error.message;
    again = setTimeout(start, AGAIN_MS);
  }
  changed();
}

function take(now) {
  state.loaded = true;
  state.failure = null;
  state.gateway = now.gateway;
  state.at = now.n;
  state.portals = new Map(now.portals.map((portal) => [portal.id, portal]));
  state.alarms = new Map();
  now.alarms.forEach(alarm);
  state.decisions = now.decisions.slice(-DECISIONS).reverse();
  state.status = now.status;
}

/** A hidden page leaves its connection after a while; one that is shown again asks for everything as at its start. */
function seen() {
  clearTimeout(leaving);
  if (!document.hidden) return left ? start() : undefined;
  leaving = setTimeout(() => {
    clearTimeout(again);
    source?.close();
    source = null;
    left = true;
  }, HIDDEN_MS);
}
document.addEventListener("visibilitychange", seen);

function follow() {
  source?.close();
  seen();
  source = new EventSource(target("/api/v1/live", { after: state.at }));
  let lost = false;
  source.onopen = async () => {
    state.connected = true;
    changed();
    if (!lost) return;
    lost = false;
    // The session may have ended meanwhile: with the gateway, or after its time.
    try {
      const { who } = await get("/api/v1/session");
      if (who !== state.session.who) start();
    } catch {
      // The connection is lost again, and this comes again.
    }
  };
  source.onerror = () => {
    state.connected = false;
    lost = true;
    // The browser connects again by itself, unless it was refused: the session has ended, or too many consoles are open.
    if (source.readyState === EventSource.CLOSED) again = setTimeout(start, AGAIN_MS);
    changed();
  };
  source.addEventListener("audit", (message) => {
    const event = JSON.parse(message.data);
    if (event.n <= state.at) return;
    state.at = event.n;
    happened(event);
    changed();
  });
  source.addEventListener("status", (message) => {
    state.status = JSON.parse(message.data);
    changed();
  });
  source.addEventListener("missed", (message) => {
    state.missed = JSON.parse(message.data);
    start();
  });
}

function happened(event) {
  if (event.type === "decision") {
    state.decisions.unshift(event);
    state.decisions.length = Math.min(state.decisions.length, DECISIONS);
    const portal = state.portals.get(event.portal);
    if (portal) portal.last = event;
  } else if (event.type === "alarm") {
    alarm(event);
  } else if (event.type === "hidden") {
    // It may be that somebody has seen to an alarm.
    lookAgain ??= setTimeout(alarmsAgain, ALARMS_AGAIN_MS);
  } else if (event.type === "config" && event.mark === "alarms_acknowledged") {
    for (const n of [...state.alarms.keys()]) {
      if (n >= event.from && n <= event.to) state.alarms.delete(n);
    }
  }
}

async function alarmsAgain() {
  lookAgain = null;
  try {
    const { alarms } = await get("/api/v1/now");
    const over = new Map([...state.alarms.values()].map((open) => [open.n, open.over]));
    state.alarms = new Map();
    alarms.forEach(alarm);
    for (const open of state.alarms.values()) open.over ??= over.get(open.n);
    changed();
  } catch {
    // The connection is lost, and it all begins again when it is back.
  }
}

/** An alarm that is over stays until somebody has seen to it, and shows that. */
function alarm(event) {
  if (!event.ended) {
    state.alarms.set(event.n, { ...event });
    return;
  }
  for (const open of state.alarms.values()) {
    if (open.alarm === event.alarm && open.portal === event.portal && open.uid === event.uid) open.over = event.at;
  }
}
