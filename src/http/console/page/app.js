// The console of a gateway.
import { run } from "./frame.js";
import * as audit from "./audit.js";
import * as card from "./card.js";
import * as charts from "./charts.js";
import * as doors from "./doors.js";
import * as live from "./live.js";
import * as now from "./now.js";

run({
  pages: { now, card, doors, audit, charts },
  live,
  paths: { session: "/api/v1/session", words: "/api/v1/words" },
  title: () => live.state.gateway || "dormgate",
});
