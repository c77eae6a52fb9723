// The state that the pages show: the gateways and their alarms, kept up to date by the events of the center. Each time the connection
// is made, everything is asked for again, so that nothing that happened in between is missing.
import { get, post } from "./api.js";
import { changed } from "./changes.js";

const AGAIN_MS = 3000;
/** How often everything is asked for again: what was ordered for a gateway that is away makes no event. */
const REFRESH_MS = 30000;
/** Events that come together are one question. */
const GATHER_MS = 200;
const ALARMS = 50;
/** A page that nobody sees for so long leaves its connection to others: a browser has six for one server. */
const HIDDEN_MS = 3000;

export const state = {
  /** Empty until it is known. */
  session: {},
  loaded: false,
  connected: false,
  /** Whether the center has its broker. */
  broker: true,
  /** By name: `{gateway, state, received_at, published}`, the `streams` of the last state that had any, and `agreements` by their names. */
  gateways: new Map(),
  /** The newest first: `{gateway, at, alarm, portal, uid, detail, over}`. */
  alarms: [],
  missed: null,
  failure: null,
};

const ackListeners = new Set();
let source = null;
let again = null;
let gathering = null;
let comparing = false;
let leaving = null;
let left = false;
const changedGateways = new Set();

/** Calls `listener` with the gateway's name and each ack, and with nothing after a connection was made again; gives what ends that. */
export function onAck(listener) {
  ackListeners.add(listener);
  return () => ackListeners.delete(listener);
}

/** Asks who the person is and begins to follow the center. */
export async function start() {
  clearTimeout(again);
  source?.close();
  source = null;
  left = false;
  try {
    state.session = await get("/console/session");
    state.failure = null;
    if (state.session.reads) {
      follow();
    } else {
      [state.loaded, state.connected] = [false, false];
    }
  } catch (error) {
    failed(error);
  }
  changed();
}

function failed(error) {
  state.connected = false;
  state.failure = error.message;
  again = setTimeout(start, AGAIN_MS);
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
  const own = new EventSource("/v1/events");
  source = own;
  const on = (kind, take) => own.addEventListener(kind, (message) => {
    const { gateway, data } = JSON.parse(message.data);
    take(gateway, data);
    changed();
  });
  own.onopen = load;
  own.onerror = () => {
    state.connected = false;
    // The browser connects again by itself, unless it was refused: the session has ended, or too many consoles are open.
    if (own.readyState === EventSource.CLOSED) again = setTimeout(start, AGAIN_MS);
    changed();
  };
  on("link", (_, { up }) => { state.broker = up; });
  on("ack", (gateway, ack) => {
    ackListeners.forEach((listener) => listener(gateway, ack));
    look(gateway);
  });
  on("state", look);
  on("resync", look);
  on("alarm", (gateway, alarm) => take(alarm, gateway));
  on("missed", load);
}

/** Asks for everything. */
async function load() {
  const own = source;
  try {
    const [{ gateways }, { items }, { connected }] = await Promise.all([get("/v1/gateways"), get("/v1/alarms", { order: "desc", limit: ALARMS }), get("/v1/delivery")]);
    if (own !== source) return;
    const before = state.gateways;
    state.gateways = new Map(gateways.map((one) => [one.gateway, joined(before.get(one.gateway), one)]));
    state.alarms = [];
    items.reverse().forEach(({ gateway, item }) => take(item, gateway));
    [state.broker, state.loaded, state.connected, state.failure] = [connected, true, true, null];
    ackListeners.forEach((listener) => listener());
    compare();
  } catch (error) {
    if (own !== source) return;
    if (error.status === 401) start();
    else failed(error);
  }
  changed();
}

/** What is known of a gateway with what was received now. The state of one that went has no streams. */
const joined = (before, now) => ({ ...before, ...now, streams: now.state?.streams ?? before?.streams });

/** An alarm that is over stays, and shows that. */
function take(alarm, gateway) {
  if (!alarm.ended) {
    state.alarms.unshift({ ...alarm, gateway });
    state.alarms.length = Math.min(state.alarms.length, ALARMS);
    return;
  }
  for (const open of state.alarms) {
    const same = open.gateway === gateway && open.alarm === alarm.alarm && open.portal === alarm.portal && open.uid === alarm.uid;
    if (same) open.over ??= alarm.at;
  }
}

/** Asks for what has changed of one gateway, together with others. */
function look(gateway) {
  if (gateway) changedGateways.add(gateway);
  gathering ??= setTimeout(async () => {
    gathering = null;
    const names = [...changedGateways];
    changedGateways.clear();
    try {
      for (const name of names) {
        const one = await get(`/v1/gateways/${name}`);
        state.gateways.set(name, joined(state.gateways.get(name), one));
      }
      compare();
      changed();
    } catch {
      // It is asked for again with the others.
    }
  }, GATHER_MS);
}

/** Compares the lists of the gateways with the center's, one gateway after the other, where either has changed. */
async function compare() {
  if (comparing) return;
  comparing = true;
  try {
    for (const name of state.gateways.keys()) {
      const one = state.gateways.get(name);
      const streams = one.state?.streams;
      const shown = JSON.stringify([one.published, (streams ?? []).map(({ age_s, ...rest }) => rest)]);
      if (!streams || one.compared === shown) continue;
      const { streams: found } = await post(`/v1/gateways/${name}/compare`, { streams });
      const now = state.gateways.get(name);
      if (now) state.gateways.set(name, { ...now, compared: shown, agreements: new Map(found.map((of) => [of.stream, of.agreement])) });
      changed();
    }
  } catch {
    // It is compared again with the next change.
  }
  comparing = false;
}

setInterval(() => state.connected && !document.hidden && load(), REFRESH_MS);
