// The console of a gateway.
import { run } from "./frame.js";
import * as audit from "./audit.js";
import * as card from "./card.js";
import * as charts from "./charts.js";
import * as doors from "./doors.js";
import * as live from "./live.js";
import * as now from "./now.js";
import { t } from "./words.js";

run({
  pages: { now, card, doors, audit, charts },
  live,
  paths: { session: "/api/v1/session", words: "/api/v1/words" },
  banner: () => ((live.state.status.modes ?? []).some((mode) => mode.posture === "fire") ? t("fire_banner") : ""),
  title: () => live.state.gateway || "dormgate",
});
